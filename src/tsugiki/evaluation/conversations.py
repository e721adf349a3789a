"""How a model is asked as people ask it: through its chat template, until it ends its turn.

Prompts are made as in training and in `tsugiki chat` (`chat/form.py`), with the tools and arguments that the model was
trained with. They begin with BOS where the template writes one, and nowhere else, as servers do. An answer ends at the
template's end token, which is found by a probe, and at whatever else the model's configurations call an end: a base
that is asked through a template by name has no configuration that knows of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.chat.appearance import require_messages
from tsugiki.chat.conversations import Message
from tsugiki.chat.form import Otherwise, open_form
from tsugiki.chat.given import given_in
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, ModelError
from tsugiki.evaluation.encoding import ContextTooShort
from tsugiki.evaluation.journal import Journal, Key, digest_of
from tsugiki.evaluation.stopping import Answer
from tsugiki.model.cached import Prompt
from tsugiki.model.cached.requests import Engine

THINKING_ENDS = "</think>"
"""What stands before it is the model's thinking, and no part of its answer."""


class NoChat(ModelError):
    """A model cannot be asked through a chat template."""


class Chat:
    """The chat template that a model is asked through."""

    def __init__(
        self, folder: Path, name: str | None = None, *, tools: Sequence[dict[str, Any]] | None = None,
        kwargs: Mapping[str, Any] | None = None, add_bos: bool = False, otherwise: Otherwise | None = None,
    ):  # fmt: skip
        """See `chat.form.open_form`. `tools`, `kwargs`: by default those that the model was trained with. Raises NoChat
        where there is no template or it cannot be used, RecipeError for a name that is not known."""
        try:
            given = given_in(folder).otherwise(tools, kwargs)
            form = open_form(folder, given, name, add_bos=add_bos, otherwise=otherwise)
        except ModelError as error:
            raise NoChat(str(error)) from None
        self.tokenizer, self.renderer, self.end = form.tokenizer, form.renderer, form.end
        asked, template = [list(given.tools), dict(given.template_kwargs)], self.renderer.template
        self.digest = digest_of(template.source, *asked, self.end.id)
        """Of all that decides a prompt's ids and an answer's end."""
        self.facts = {
            "name": template.name, "digest": self.digest, "tools": asked[0], "kwargs": asked[1],
            "end_token": self.end.piece,
        }  # fmt: skip
        """What a result's header says of it."""
        self.given = given

    def ignores_tools(self) -> bool:
        """Whether there are tools to offer, and the template writes nothing of them."""
        if not self.given.tools:
            return False
        try:
            prompt = self.renderer.render([Message("user", "a")], generation_prompt=True)
        except DataError:
            return False  # it refuses them, as whoever asks is told
        try:
            require_messages((), self.given.tools, prompt)
        except DataError:
            return True
        return False


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
