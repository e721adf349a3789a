"""What a model is asked, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tsugiki.errors import ModelError


def require_finite(finite: bool) -> None:
    """Raise ModelError where what a model computes is no number: its answers would be chosen by nothing, and scored."""
    if not finite:
        raise ModelError(
            "the model's logits are not finite (NaN or infinity): its training diverged, its weights are damaged, or "
            "they are too large for float16. Evaluate an earlier checkpoint, or with --dtype bfloat16 or float32"
        )


@dataclass(frozen=True)
class Continuation:
    """Score `tokens` after `context`, which is not empty (BOS at least)."""

    context: Sequence[int]
    tokens: Sequence[int]


@dataclass(frozen=True)
class LogLikelihood:
    """Sum of the log-probabilities of a continuation's tokens, in nats, and whether each of them is the likeliest."""

    logprob: float
    greedy: bool


@dataclass(frozen=True)
class Prompt:
    """Continue `tokens` (not empty) greedily; `stop` is asked with the new tokens after each one."""

    tokens: Sequence[int]
    max_new_tokens: int
    stop: Callable[[list[int]], bool]
    expected_new_tokens: int | None = None
    """What room in a batch is reckoned by, where answers seldom take all that they may. None: `max_new_tokens`."""


class Engine(Protocol):
    """What answers, in any order: `done` gets a request's number and its answer."""

    def score(self, requests: Sequence[Continuation], done: Callable[[int, LogLikelihood], None]) -> None: ...
    def generate(self, requests: Sequence[Prompt], done: Callable[[int, list[int]], None]) -> None: ...
