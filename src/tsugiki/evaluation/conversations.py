"""How a model is asked as people ask it: through its chat template, until it ends its turn.

Prompts are the renderer's, as in training and in `tsugiki chat`. They begin with BOS where the template writes one, and
nowhere else, as servers do. An answer ends at the template's end token, which is found by a probe, and at whatever
else the model's configurations call an end: a base that is asked through a template by name has no configuration
that knows of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.chat.conversations import Message
from tsugiki.chat.end_token import find_end_token
from tsugiki.chat.rendering import Renderer
from tsugiki.chat.templates import NAMED, choose_template
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.evaluation.encoding import ContextTooShort
from tsugiki.evaluation.journal import Journal, Key, digest_of
from tsugiki.evaluation.stopping import Answer
from tsugiki.model.cached import Prompt
from tsugiki.model.cached.requests import Engine

THINKING_ENDS = "</think>"
"""What stands before it is the model's thinking, and no part of its answer."""


class NoChat(ModelError):
    """A model cannot be asked through a chat template."""


@dataclass(frozen=True)
class Otherwise:
    """The template of a recipe, for its base, where that has none of its own."""

    name: str
    add_bos: bool


class Chat:
    """The chat template that a model is asked through."""

    def __init__(
        self, folder: Path, name: str | None, kwargs: Mapping[str, Any], *, add_bos: bool = False,
        otherwise: Otherwise | None = None,
    ):  # fmt: skip
        """The tokenizer's own template, or the one of `name` (of `chat.templates.NAMED`); `otherwise` where a tokenizer
        has none. `add_bos`: a BOS before what has none. Raises NoChat where there is none or it cannot be used,
        RecipeError for a name that is not known."""
        try:
            self.tokenizer = ChatTokenizer.from_folder(folder)
            if name is None and not self.tokenizer.templates and otherwise is not None:
                name, add_bos = otherwise.name, add_bos or otherwise.add_bos
            if name is None and not self.tokenizer.templates:
                raise NoChat(
                    f"{folder}: this tokenizer has no chat template; name one by --template (evaluation.template): "
                    f"{', '.join(sorted(NAMED))}"
                )
            template = choose_template(self.tokenizer, name, add_bos=add_bos)
            self.renderer = Renderer(self.tokenizer, template, kwargs)
            self.end = find_end_token(self.renderer, append_eos=True)
        except NoChat:
            raise
        except ModelError as error:
            raise NoChat(str(error)) from None
        self.digest = digest_of(template.source, dict(kwargs), self.end.id)
        """Of all that decides a prompt's ids and an answer's end."""
        self.facts = {"name": template.name, "digest": self.digest, "kwargs": dict(kwargs), "end_token": self.end.piece}
        """What a result's header says of it."""


@dataclass(frozen=True)
class Question:
    """A conversation that the model is to go on with."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Budget:
    """How long an answer may be: so many tokens, and, where `characters` says it, so many characters of text, whatever
    tokens they take; `tokens` are then room enough for any language and vocabulary."""

    tokens: int
    characters: int | None = None


EXPECTED = 512
"""Tokens that an answer seldom passes: what room in a batch is reckoned by."""


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    """All of it."""
    ended: str
    """See `stopping.Reason`."""
    prompt_hash: str
    prompt_tokens: int
    output_tokens: int

    @property
    def answer(self) -> str:
        """The text without the model's thinking."""
        return self.text.rpartition(THINKING_ENDS)[2].strip()


def ask(
    engine: Engine,
    chat: Chat,
    tokenizer: TextTokenizer,
    journal: Journal,
    task: str,
    questions: Sequence[Question],
    budget: Budget,
    *,
    max_length: int,
    numerics: Sequence[str],
    begin: Callable[[int, int], None] = lambda requests, tokens: None,
    advance: Callable[[int], None] = lambda tokens: None,
) -> list[Reply]:
    """The likeliest answer to each question, each in the journal as soon as it is known; what stands there is not asked
    again. `max_length`: the model's positions. `numerics`: see `backends.Facts`. `begin` is told how many requests are
    to be asked, and their tokens, `advance` of each answer: the tokens of its request.

    Raises ContextTooShort for a conversation that leaves no room, DataError for one that the template refuses.
    """
    prompts = [chat.renderer.prompt_ids(question.messages) for question in questions]
    keys = [
        Key(task, question.id, 0, digest_of(ids, chat.end.id, max_length, budget.tokens, budget.characters, numerics))
        for question, ids in zip(questions, prompts, strict=True)
    ]
    waiting: list[tuple[Key, Prompt, Answer]] = []
    for key, ids in zip(keys, prompts, strict=True):
        limit = min(budget.tokens, max_length - len(ids))
        if limit < 1:
            raise ContextTooShort(
                f"{tokenizer.folder}: {task}, {key.item}: the conversation has {len(ids):,} tokens, and the model "
                f"{max_length:,} positions: no answer fits behind it"
            )
        if journal.get(key) is None:
            answer = Answer(tokenizer, ids, (), budget.characters, ends=frozenset([chat.end.id]))
            waiting.append((key, Prompt(ids, limit, answer.is_over, min(limit, EXPECTED)), answer))
    sizes = [len(prompt.tokens) + prompt.max_new_tokens for _, prompt, _ in waiting]

    def done(index: int, new: list[int]) -> None:
        key, prompt, answer = waiting[index]
        text, reason = answer.text(new, ended=len(new) < prompt.max_new_tokens)
        journal.add(key, {"text": text, "ended": reason, "output_tokens": len(new)})
        advance(sizes[index])

    if waiting:
        begin(len(waiting), sum(sizes))
        engine.generate([prompt for _, prompt, _ in waiting], done)
    replies = []
    for key, ids in zip(keys, prompts, strict=True):
        known = journal.get(key)
        assert known is not None
        replies.append(Reply(known["text"], known["ended"], digest_of(ids), len(ids), known["output_tokens"]))
    return replies
