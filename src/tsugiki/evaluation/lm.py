"""A model as lm-eval calls it: requests in, answers out, each answer in the journal as soon as it is known.

What differs from lm-eval's own Hugging Face backend: prefixes are shared and batches follow a budget of tokens
(`model/cached.py`); stop strings are looked for in the text of each answer, and end that answer alone; answers may have
a budget in characters; BOS is one explicit rule; prompts that had to be cut are counted. Answers that the journal
knows are not asked for again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError
from tsugiki.evaluation.conversations import Chat
from tsugiki.evaluation.encoding import Encoded, Encoder
from tsugiki.evaluation.journal import Journal, Key, digest_of
from tsugiki.evaluation.stopping import TOKENS_A_CHARACTER, Answer
from tsugiki.evaluation.templated import Templated, TemplatedEncoder
from tsugiki.model.cached import Continuation, LogLikelihood, Prompt
from tsugiki.model.cached.requests import Engine

MAX_NEW_TOKENS = 256
"""lm-eval's own budget where a task names none."""
GENERATION_KEYS = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
"""What a task's generation_kwargs may say; the last three concern sampling alone."""

Finish = Callable[[int, dict[str, Any]], None]
"""Told the answer to a request, by its number among those that are asked."""


@dataclass(frozen=True)
class Traits:
    """What a task's YAML says to our runner alone, in its `metadata`."""

    max_characters: int | None = None
    """Budget of an answer, in characters of text."""
    max_context: int | None = None
    """Most tokens of prompt and answer, where the task wants fewer than the model takes."""
    shorten: Callable[[Any], str] | None = None
    """The shorter prompt of an item whose own is too long; None cuts its beginning."""


class _Writing(NamedTuple):
    """A request to write, as it is asked."""

    prompt: Encoded
    shortened: str | None
    """The text of a prompt that the task's own rule has made shorter."""
    limit: int
    """Most new tokens."""
    expected: int
    """What the task expects an answer to take."""
    answer: Answer


class JournalLM(LM):
    """lm-eval's interface over an engine and a journal; one task at a time, which `begin` announces."""

    def __init__(
        self, engine: Engine, tokenizer: TextTokenizer, journal: Journal, *, add_bos: bool, max_length: int,
        numerics: Sequence[str], chat: Chat | None = None,
    ):  # fmt: skip
        """`numerics`: see `backends.Facts`. `chat`: the template that prompts are asked through; None asks them as
        they are."""
        super().__init__()
        self.templated = Templated(chat) if chat else None
        self._ends = frozenset([chat.end.id] if chat else [])
        self.engine, self.text_tokenizer, self.journal = engine, tokenizer, journal
        self._add_bos, self._max_length, self._numerics = add_bos, max_length, numerics
        self.on_begin: Callable[[int, int], None] = lambda requests, tokens: None
        """Told how many requests are to be asked, and their tokens."""
        self.on_advance: Callable[[int], None] = lambda tokens: None
        """Told of each answer: the tokens of its request."""
        self.begin(Traits())

    def begin(self, traits: Traits) -> None:
        """The requests to come are those of a task with these traits."""
        self.traits = traits
        longest = min(self._max_length, traits.max_context or self._max_length)
        if self.templated is None:
            self.encoder = Encoder(self.text_tokenizer, add_bos=self._add_bos, max_length=longest)
        else:
            self.encoder = TemplatedEncoder(self.text_tokenizer, self.templated, max_length=longest)

    # --- what lm-eval calls -----------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(sum of log-probabilities, whether greedy) of each request's continuation after its context."""

        def ask(waiting: Sequence[Instance], finish: Finish) -> None:
            encoded = self.encoder.pairs([request.args for request in waiting])
            sizes = [len(one.prompt) + len(one.continuation) for one in encoded]
            self.on_begin(len(waiting), sum(sizes))

            def done(index: int, found: LogLikelihood) -> None:
                one = encoded[index]
                finish(index, {"logprob": found.logprob, "greedy": found.greedy} | _sizes(one, len(one.continuation)))
                self.on_advance(sizes[index])

            self.engine.score([Continuation(one.prompt, one.continuation) for one in encoded], done)

        return [(answer["logprob"], answer["greedy"]) for answer in self._answers(requests, ask)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each prompt, without the stop string that ended it; always the likeliest token.

        Raises RecipeError for a task that samples.
        """

        def ask(waiting: Sequence[Instance], finish: Finish) -> None:
            writing = [self._writing(request) for request in waiting]
            sizes = [len(one.prompt.prompt) + one.limit for one in writing]
            self.on_begin(len(waiting), sum(sizes))

            def done(index: int, new: list[int]) -> None:
                one = writing[index]
                text, reason = one.answer.text(new, ended=len(new) < one.limit)
                asked = {} if one.shortened is None else {"prompt": one.shortened}
                finish(index, {"text": text, "ended": reason} | _sizes(one.prompt, len(new)) | asked)
                self.on_advance(sizes[index])

            prompts = [Prompt(one.prompt.prompt, one.limit, one.answer.is_over, one.expected) for one in writing]
            self.engine.generate(prompts, done)

        return [answer["text"] for answer in self._answers(requests, ask)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Not offered: held-out text is scored by `model/bits_per_byte.py` alone."""
        raise RecipeError(
            "tasks of the type loglikelihood_rolling are not run: held-out text is scored in bits per byte by "
            "--suite quick"
        )

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a task's messages; without the prompt for an answer, the last of them begins it."""
        assert self.templated is not None
        return self.templated.render(chat_history, answered=not add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval's cache of requests, which we do not use, would know a template by."""
        return "" if self.templated is None else self.templated.chat.digest

    # --- answers ----------------------------------------------------------------------------------------------------

    def recorded(self, request: Instance) -> dict[str, Any]:
        """What the journal holds of a request that has been answered."""
        answer = self.journal.get(self._key(request))
        assert answer is not None
        return answer

    def _answers(
        self, requests: Sequence[Instance], ask: Callable[[Sequence[Instance], Finish], None]
    ) -> list[dict[str, Any]]:
        """The answers in the requests' order: those the journal knows, then what `ask` finishes one by one."""
        unknown = {key: request for request in requests if self.journal.get(key := self._key(request)) is None}
        keys, waiting = list(unknown), list(unknown.values())
        if waiting:
            ask(waiting, lambda index, answer: self.journal.add(keys[index], answer))
        return [self.recorded(request) for request in requests]

    def _key(self, request: Instance) -> Key:
        decided = digest_of(
            request.request_type, list(request.args), self.encoder.before, self.encoder.max_length,
            self.traits.max_characters, self.traits.shorten is not None, self._numerics,
            *([] if self.templated is None else [self.templated.chat.digest]),
        )  # fmt: skip
        return Key(str(request.task_name), item_of(request.doc, request.doc_id), request.idx, decided)

    def _writing(self, request: Instance) -> _Writing:
        """How a request to write is asked. A budget in characters is met in the tokens of any vocabulary; the room that
        the prompt leaves is what the task's YAML expects an answer to take."""
        text, stated = request.args
        wanted = normalize_gen_kwargs(stated, MAX_NEW_TOKENS)  # the length goes by four names
        if wanted["do_sample"]:
            raise RecipeError(
                f"task {request.task_name} samples its answers (do_sample, temperature); Tsugiki evaluates with the "
                "likeliest token only: set do_sample: false in its generation_kwargs"
            )
        if others := wanted.keys() - GENERATION_KEYS:
            raise RecipeError(
                f"task {request.task_name}: its generation_kwargs have {', '.join(sorted(others))}, which would change "
                "the answers and is not offered: take it out"
            )
        room, until, characters = wanted["max_gen_toks"], wanted["until"], self.traits.max_characters
        (one,) = self.encoder.prompts([text], room=room)
        shortened = None
        if one.cut and self.traits.shorten is not None:
            cut, shortened = one.cut, self.traits.shorten(request.doc)
            if self.templated is not None:
                shortened = self.templated.render([{"role": "user", "content": shortened}], answered=False)
            one = self.encoder.prompts([shortened], room=room)[0]._replace(cut=cut)
        limit = room if characters is None else max(room, TOKENS_A_CHARACTER * characters)
        return _Writing(
            one, shortened, min(limit, self.encoder.max_length - len(one.prompt)), room,
            Answer(self.text_tokenizer, one.prompt, until, characters, self._ends),
        )  # fmt: skip


def item_of(doc: Any, number: int | None) -> str:
    """The id of an item: its own, or its number."""
    return str(doc["id"]) if isinstance(doc, Mapping) and "id" in doc else str(number)


def _sizes(one: Encoded, output: int) -> dict[str, int]:
    sizes = {"prompt_tokens": len(one.prompt), "output_tokens": output}
    return sizes | ({"cut": one.cut} if one.cut else {})
