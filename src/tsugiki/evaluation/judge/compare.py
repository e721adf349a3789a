"""Pairs of answers before the judge: each in both orders, several at a time, every verdict in a journal.

A verdict is known by a digest of all that was sent, so that another prompt, answer, judge or setting is another
question. Two answers that are the same are a tie, which nobody is asked.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from tsugiki.evaluation.journal import Journal, Key, digest_of
from tsugiki.evaluation.judge.endpoint import Endpoint
from tsugiki.evaluation.judge.verdicts import AGAIN, Outcome, Verdict, messages, outcome, read_verdict
from tsugiki.statistics import Interval, Sample, score_interval


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    name: str
    """Of the prompts."""
    item: str
    prompt: str
    a: str
    b: str


@dataclass(frozen=True)
class Judged:
    """What the judge made of a pair."""

    pair: Pair
    outcome: Outcome | None
    """None: no verdict could be read from what it wrote."""
    verdicts: tuple[Verdict | None, Verdict | None]
    """With A shown first, and with B shown first."""
    said: tuple[str, str]
    """What it wrote to each order; empty where the answers are the same."""


class _Request(NamedTuple):
    key: Key
    messages: list[dict[str, str]]


def judge_pairs(
    endpoint: Endpoint,
    pairs: Sequence[Pair],
    journal: Journal,
    *,
    parallel: int,
    begin: Callable[[int, int], None] = lambda requests, units: None,
    advance: Callable[[int], None] = lambda units: None,
) -> list[Judged]:
    """The judge's verdicts, `parallel` questions at a time; those that the journal knows are not asked for again.

    Raises ModelError when the judge cannot be asked; what it has answered until then is in the journal.
    """
    orders = [
        [_request(endpoint, pair, part) for part in (0, 1)] if pair.a.strip() != pair.b.strip() else []
        for pair in pairs
    ]
    waiting = [request for both in orders for request in both if journal.get(request.key) is None]
    if waiting:
        begin(len(waiting), len(waiting))
    for number, (verdict, said) in _in_parallel(lambda one: _ask(endpoint, one.messages), waiting, parallel):
        journal.add(waiting[number].key, {"verdict": verdict, "text": said})
        advance(1)
    judged = []
    for pair, both in zip(pairs, orders, strict=True):
        known: list[Any] = [journal.get(request.key) for request in both] or [{"verdict": "tie", "text": ""}] * 2
        verdicts = (known[0]["verdict"], known[1]["verdict"])
        judged.append(Judged(pair, outcome(verdicts), verdicts, (known[0]["text"], known[1]["text"])))
    return judged


def _request(endpoint: Endpoint, pair: Pair, part: int) -> _Request:
    sent = messages(pair.prompt, *((pair.a, pair.b) if part == 0 else (pair.b, pair.a)))
    decided = digest_of(endpoint.url, endpoint.model, dict(endpoint.options), sent, AGAIN)
    return _Request(Key(pair.name, pair.item, part, decided), sent)


def _ask(endpoint: Endpoint, sent: Sequence[dict[str, str]]) -> tuple[Verdict | None, str]:
    """A verdict and what the judge wrote, asked once more for the verdict alone where it gave none."""
    said = endpoint.ask(sent)
    verdict = read_verdict(said)
    if verdict is None:
        again = endpoint.ask([*sent, {"role": "assistant", "content": said}, {"role": "user", "content": AGAIN}])
        verdict, said = read_verdict(again), f"{said}\n\n{again}"
    return verdict, said


def _in_parallel(work: Callable[[Any], Any], tasks: Sequence[Any], count: int) -> Iterator[tuple[int, Any]]:
    """The number and result of each task, as they come; the first error ends the rest and is raised here. The threads
    are daemons: a server that hangs holds nobody who wants to stop."""
    todo: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
    over = threading.Event()
    for number in range(len(tasks)):
        todo.put(number)

    def run() -> None:
        while not over.is_set() and not todo.empty():
            try:
                number = todo.get_nowait()
            except Empty:  # another thread was quicker
                return
            try:
                done.put((number, work(tasks[number]), None))
            except BaseException as error:
                done.put((number, None, error))

    for _ in range(min(count, len(tasks))):
        threading.Thread(target=run, daemon=True).start()
    try:
        for _ in tasks:
            number, result, error = done.get()
            if error is not None:
                raise error
            yield number, result
    finally:
        over.set()


@dataclass(frozen=True)
class Tally:
    """What came of some pairs, for answer A."""

    won: int
    lost: int
    tied: int
    unread: int
    """Pairs without a verdict, which count nowhere else."""
    flipped: int
    """Pairs whose winner changed with the order."""
    first: int
    """Verdicts for what stood first, of all that named a winner."""
    named: int
    score: Interval | None
    """Of A: 1 for a win, a half for a tie, with the 95 % interval; None where nothing was decided."""


def tally(judged: Sequence[Judged]) -> Tally:
    """Counts, and A's score with its interval over prompts."""
    ends = [one.outcome for one in judged]
    values = [{"a": 1.0, "b": 0.0, "tie": 0.5}[end] for end in ends if end is not None]
    verdicts = [verdict for one in judged for verdict in one.verdicts]
    return Tally(
        won=ends.count("a"), lost=ends.count("b"), tied=ends.count("tie"), unread=ends.count(None),
        flipped=sum(one.verdicts in (("first", "first"), ("second", "second")) for one in judged),
        first=verdicts.count("first"), named=verdicts.count("first") + verdicts.count("second"),
        score=score_interval(Sample(np.array(values)[:, None])) if values else None,
    )  # fmt: skip
