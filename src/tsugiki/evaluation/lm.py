"""A model as lm-eval calls it: requests in, answers out, each answer in the journal as soon as it is known.

What differs from lm-eval's own Hugging Face backend: prefixes are shared and batches follow a budget of tokens
(`model/cached.py`); stop strings are looked for in the text of each answer, and end that answer alone; answers may have
a budget in characters; BOS is one explicit rule; prompts that had to be cut are counted. Answers that the journal
knows are not asked for again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError
from tsugiki.evaluation.encoding import Encoded, Encoder
from tsugiki.evaluation.journal import Journal, Key, digest_of
from tsugiki.evaluation.stopping import Answer
from tsugiki.model.cached import Continuation, LogLikelihood, Prompt

MAX_NEW_TOKENS = 256
"""lm-eval's own budget where a task names none."""
TOKENS_A_CHARACTER = 3
"""At most: a character outside the vocabulary is three UTF-8 bytes in the scripts that are in use."""


class Engine(Protocol):
    """What computes: `model.cached.CachedModel`, or a server of the same answers."""

    def score(self, requests: Sequence[Continuation], done: Callable[[int, LogLikelihood], None]) -> None: ...
    def generate(self, requests: Sequence[Prompt], done: Callable[[int, list[int]], None]) -> None: ...


@dataclass
class Traits:
    """What a task's YAML says to our runner alone, in its `metadata`."""

    max_characters: int | None = None
    shorten: Callable[[Any], str] | None = None
    """The shorter prompt of an item whose own is too long; None cuts its beginning."""


@dataclass
class Report:
    """Told of the work before and while it is done."""

    begin: Callable[[int, int], None] = lambda requests, tokens: None
    """Requests that must be asked, and their tokens."""
    advance: Callable[[int], None] = lambda tokens: None
    """So many tokens of them are done."""


@dataclass
class _Open:
    """A request that the journal does not know: its key, and whoever waits for the answer."""

    key: Key
    request: Instance
    places: list[int] = field(default_factory=list)


class JournalLM(TemplateLM):
    """lm-eval's interface over an engine and a journal."""

    backend = "causal"

    def __init__(
        self,
        engine: Engine,
        tokenizer: TextTokenizer,
        journal: Journal,
        *,
        add_bos: bool,
        max_length: int,
    ):
        super().__init__()
        self.engine, self.text_tokenizer, self.journal = engine, tokenizer, journal
        self.encoder = Encoder(tokenizer, add_bos=add_bos, max_length=max_length)
        self.traits: dict[str, Traits] = {}
        self.report = Report()

    # --- what lm-eval calls -----------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(sum of log-probabilities, whether greedy) of each request's continuation after its context."""

        def ask(waiting: list[_Open], finish: Callable[[int, dict[str, Any]], None]) -> None:
            encoded = self.encoder.pairs([request.request.args for request in waiting])
            self.report.begin(len(waiting), sum(len(one.prompt) + len(one.continuation) for one in encoded))

            def done(index: int, found: LogLikelihood) -> None:
                one = encoded[index]
                finish(index, {"logprob": found.logprob, "greedy": found.greedy} | _sizes(one, len(one.continuation)))
                self.report.advance(len(one.prompt) + len(one.continuation))

            self.engine.score([Continuation(one.prompt, one.continuation) for one in encoded], done)

        return [(answer["logprob"], answer["greedy"]) for answer in self._answers(requests, ask)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each prompt, without the stop string that ended it; always the likeliest token.

        Raises RecipeError for a task that samples.
        """

        def ask(waiting: list[_Open], finish: Callable[[int, dict[str, Any]], None]) -> None:
            budgets = [self._budget(request.request) for request in waiting]
            encoded = [self._prompt(request.request, room) for request, (_, room) in zip(waiting, budgets, strict=True)]
            answers = [
                Answer(self.text_tokenizer, one.prompt, _until(request.request), self._traits(request).max_characters)
                for one, request in zip(encoded, waiting, strict=True)
            ]
            weights = [len(one.prompt) + limit for one, (limit, _) in zip(encoded, budgets, strict=True)]
            self.report.begin(len(waiting), sum(weights))

            def done(index: int, new: list[int]) -> None:
                limit = self._limit(encoded[index], budgets[index][0])
                text, reason = answers[index].text(new, ended=len(new) < limit)
                finish(index, {"text": text, "ended": reason} | _sizes(encoded[index], len(new)))
                self.report.advance(weights[index])

            self.engine.generate(
                [
                    Prompt(one.prompt, self._limit(one, limit), answer.is_over)
                    for one, (limit, _), answer in zip(encoded, budgets, answers, strict=True)
                ],
                done,
            )

        return [answer["text"] for answer in self._answers(requests, ask)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Not offered: held-out text is scored by `model/bits_per_byte.py` alone."""
        raise RecipeError(
            "tasks of the type loglikelihood_rolling are not run: held-out text is scored in bits per byte by "
            "--suite quick"
        )

    def _loglikelihood_tokens(self, requests: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        raise NotImplementedError("requests come through `loglikelihood`, whose answers go to the journal")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Ids as a prompt has them."""
        return [*self.encoder.before, *self.text_tokenizer.encode(string)]

    @property
    def eot_token_id(self) -> int:
        """EOS, or -1 where the tokenizer has none; lm-eval asks only for reports."""
        return -1 if self.text_tokenizer.eos_id is None else self.text_tokenizer.eos_id

    # --- records ----------------------------------------------------------------------------------------------------

    def recorded(self, request: Instance) -> dict[str, Any]:
        """What the journal holds of a request that has been answered."""
        answer = self.journal.get(self._key(request))
        assert answer is not None
        return answer

    # --- how --------------------------------------------------------------------------------------------------------

    def _answers(
        self,
        requests: Sequence[Instance],
        ask: Callable[[list[_Open], Callable[[int, dict[str, Any]], None]], None],
    ) -> list[dict[str, Any]]:
        """The answers in the requests' order: those the journal knows, then what `ask` finishes one by one."""
        waiting: dict[Key, _Open] = {}
        keys = [self._key(request) for request in requests]
        for key, request in zip(keys, requests, strict=True):
            if self.journal.get(key) is None:
                waiting.setdefault(key, _Open(key, request))
        listed = list(waiting.values())
        if listed:
            ask(listed, lambda index, answer: self.journal.add(listed[index].key, answer))
        return [self.recorded(request) for request in requests]

    def _key(self, request: Instance) -> Key:
        doc: Any = request.doc
        item = str(doc["id"]) if isinstance(doc, Mapping) and "id" in doc else str(request.doc_id)
        traits = self.traits.get(str(request.task_name), Traits())
        decided = digest_of(
            request.request_type, _plain(request.args), traits.max_characters, self.encoder.max_length,
            self.encoder.before, bool(traits.shorten),
        )  # fmt: skip
        return Key(str(request.task_name), item, request.idx, decided)

    def _traits(self, waiting: _Open) -> Traits:
        return self.traits.get(waiting.key.task, Traits())

    def _budget(self, request: Instance) -> tuple[int, int]:
        """(most new tokens, tokens that the prompt leaves free for them). A budget in characters is met in tokens of
        any vocabulary, and the room left is what the task's YAML expects it to take."""
        wanted = _generation(request)
        tokens = int(wanted.get("max_gen_toks", MAX_NEW_TOKENS))
        characters = self.traits.get(str(request.task_name), Traits()).max_characters
        return (tokens if characters is None else max(tokens, TOKENS_A_CHARACTER * characters)), tokens

    def _limit(self, one: Encoded, wanted: int) -> int:
        return min(wanted, self.encoder.max_length - len(one.prompt))

    def _prompt(self, request: Instance, room: int) -> Encoded:
        shorten = self.traits.get(str(request.task_name), Traits()).shorten
        (one,) = self.encoder.prompts([request.args[0]], room=room)
        if not one.cut or shorten is None:
            return one
        (shorter,) = self.encoder.prompts([shorten(request.doc)], room=room)
        return shorter._replace(cut=one.cut)


def _generation(request: Instance) -> dict[str, Any]:
    wanted = dict(request.args[1])
    if wanted.get("do_sample") or float(wanted.get("temperature") or 0) > 0:
        raise RecipeError(
            f"task {request.task_name} samples its answers (do_sample, temperature); Tsugiki evaluates with the "
            "likeliest token only: set do_sample: false in its generation_kwargs"
        )
    return wanted


def _until(request: Instance) -> list[str]:
    until = _generation(request).get("until", [])
    return [until] if isinstance(until, str) else list(until)


def _sizes(one: Encoded, output: int) -> dict[str, int]:
    sizes = {"prompt_tokens": len(one.prompt), "output_tokens": output}
    return sizes | ({"cut": one.cut} if one.cut else {})


def _plain(arguments: tuple[Any, ...]) -> Any:
    return json.loads(json.dumps(arguments, default=str))
