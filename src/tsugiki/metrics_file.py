"""`metrics.jsonl` read back: what a run has logged, one record a line (`training.tracking` writes it).

A process that was killed leaves half of its last line, which is left out. Any other line that is no record is damage,
and is named: figures that are silently fewer than they were would be taken for the run's.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypeVar

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from tsugiki.errors import DataError, StorageError
from tsugiki.files import explain_os_error
from tsugiki.shapes import parse_json


@with_config(ConfigDict(extra="allow"))
class Logged(TypedDict):
    """A record: what every kind of them has."""

    kind: Literal["step", "validation", "evaluation", "spike", "lost"]
    """`lost` says that what was logged up to its step is not there any more (`require_logged`)."""
    step: int
    attempt: NotRequired[int]
    """1, and one more for each time that the run has gone back to an earlier step."""


class StepLine(TypedDict):
    """A logged step; a figure that was not finite is None."""

    step: int
    loss: NotRequired[float | None]
    """Mean over the tokens since the line before, in nats a token."""
    loss_by_source: NotRequired[dict[str, float | None]]
    grad_norm: NotRequired[float | None]
    """Of this step, before clipping."""
    learning_rate: NotRequired[float]
    tokens: NotRequired[int]
    """Of the whole run so far."""
    applied: NotRequired[bool]
    spike: NotRequired[bool]
    tokens_per_second: NotRequired[float]
    tflops: NotRequired[float | None]
    mfu: NotRequired[float | None]
    memory_gb: NotRequired[float | None]
    data_wait: NotRequired[float | None]
    seconds_left: NotRequired[float | None]
    joules: NotRequired[float | None]
    """Since the line before, of rank 0's GPU or of its machine's processors, where that can be read."""
    attempt: NotRequired[int]


class Scored(TypedDict):
    """Held-out text of one source."""

    bits_per_byte: float | None
    documents: NotRequired[int]
    tokens: NotRequired[int]
    bytes: NotRequired[int]
    nats: NotRequired[float | None]
    nats_by_document: NotRequired[list[float]]
    bytes_by_document: NotRequired[list[int]]
    loss: NotRequired[float | None]
    """Of conversations, whose other figures are of trained text alone: nats a trained token, ends of answers too."""
    end_probability: NotRequired[float | None]
    """Of conversations: what the model gives the end token where answers end; the next: within them."""
    false_end_probability: NotRequired[float | None]


class ValidationLine(TypedDict):
    """Held-out losses, by source."""

    step: int
    sources: dict[str, Scored]


class Answered(TypedDict):
    """Answers to one probe."""

    accuracy: float | None
    items: NotRequired[int]
    chance: NotRequired[float]
    bits_per_byte: NotRequired[float | None]


class EvaluationLine(TypedDict):
    """Answers in the middle of training, by probe."""

    step: int
    probes: dict[str, Answered]


class SpikeLine(TypedDict):
    """A step whose loss or gradient stood out, and what was done about it."""

    step: int
    loss: NotRequired[float | None]
    grad_norm: NotRequired[float | None]
    action: NotRequired[str]
    """`recorded` (weights were updated), `skipped`, `rewound` or `stopped`."""
    reason: NotRequired[str]
    samples: NotRequired[list[int]]
    """[a, b): global numbers of the samples in its batch (`tsugiki sample`)."""
    loss_limit: NotRequired[float | None]
    norm_limit: NotRequired[float | None]
    """What a spike exceeds; None where only what is not finite was one."""
    attempt: NotRequired[int]
    to: NotRequired[int]
    """`rewound`: the step that the run went back to. What later lines say of the steps after it is a new attempt."""
    skip: NotRequired[list[int]]
    """`rewound`: [a, b), the samples that are stepped over in that attempt."""


OfAStep = TypeVar("OfAStep", StepLine, ValidationLine, EvaluationLine)


SHAPES: dict[str, Any] = {
    "step": StepLine, "validation": ValidationLine, "evaluation": EvaluationLine, "spike": SpikeLine
}  # fmt: skip
NOTHING = -1


@dataclass
class Metrics:
    """The records of a run by their kinds, each in its order."""

    steps: list[StepLine] = field(default_factory=list)
    validations: list[ValidationLine] = field(default_factory=list)
    evaluations: list[EvaluationLine] = field(default_factory=list)
    spikes: list[SpikeLine] = field(default_factory=list)
    reached: int = NOTHING
    """The last step that any record is of; NOTHING without one."""
    lines: int = 0
    """That were read, to name the next one."""


def read_metrics(path: Path) -> Metrics:
    """All that a run has logged, earlier attempts too (see `last_attempt`); empty where there is no such file. Raises
    StorageError when the file cannot be read, or a line is no record."""
    found = Metrics()
    add_lines(found, _content(path), path)
    return found


def add_lines(found: Metrics, content: bytes, path: Path) -> None:
    """Sort the records of some lines into those `found` before. Raises StorageError for a line that is none."""
    of_kind: dict[str, list[Any]] = {
        "step": found.steps, "validation": found.validations, "evaluation": found.evaluations, "spike": found.spikes
    }  # fmt: skip
    for record, line in _records(content, path, found.lines + 1):
        found.reached = max(found.reached, record["step"])
        if line is not None:
            of_kind[record["kind"]].append(line)
    found.lines += content.count(b"\n")


def require_logged(path: Path, logged: int, *, reached: int, interval: int, finished: bool = False) -> None:
    """Raise StorageError where a run that has reached a step must have logged more than it has.

    logged: `Metrics.reached`. interval: steps between two records (`training.logging_steps`). The last step is logged
    as well, so that a finished run lacks less than an interval.
    """
    least = reached - interval + 1 if finished else 0
    if reached < interval or logged >= least:
        return
    there = "is not there" if not path.exists() else "is empty" if logged == NOTHING else f"ends at step {logged:,}"
    lost = json.dumps({"kind": "lost", "step": reached})
    raise StorageError(
        f"{path} {there}, and the run has reached step {reached:,}: what it logged was lost. Put the file back from a "
        f"copy, or, where there is none, write into it that it is lost: echo '{lost}' >> {path}"
    )


def last_attempt(lines: Sequence[OfAStep]) -> list[OfAStep]:
    """What the model went through, of lines of one kind: where a run went back, the later ones stay."""
    kept: list[OfAStep] = []
    for line in lines:
        while kept and kept[-1]["step"] >= line["step"]:
            kept.pop()
        kept.append(line)
    return kept


def read_logged(path: Path) -> list[Logged]:
    """The records in their order, those of steps that were undone by going back too; none where there is no such file.
    Raises StorageError when it cannot be read, or a line is no record."""
    return [record for record, _ in _records(_content(path), path)]


def logged_at(records: Iterable[Logged], step: int) -> set[str]:
    """The kinds of records that there are of a step, undone ones aside."""
    kinds: set[str] = set()
    for record in records:
        if _went_to(record) < step:
            kinds.clear()
        if record["step"] == step:
            kinds.add(record["kind"])
    return kinds


def _went_to(record: Logged) -> float:
    """The step that the run went back to by a record, which undid all later ones; infinity for most."""
    to = record.get("to") if record["kind"] == "spike" else None
    return to if isinstance(to, int) else math.inf


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error


def _records(content: bytes, path: Path, first: int = 1) -> Iterator[tuple[Logged, Any]]:
    """Each record, and the same in the shape of its kind (None for `lost`). first: the number of the first line. Raises
    StorageError for a line that is no record, but for the last one where it has no end."""
    *whole, last = content.split(b"\n")
    for number, line in enumerate(whole, first):
        if not line.strip():
            continue
        try:
            yield _parse(line, f"{path}, line {number:,}")
        except DataError as error:
            raise StorageError(f"{error} Take that line out, or put the file back from a copy") from None
    with suppress(DataError):
        yield _parse(last, str(path))


def _parse(line: bytes, where: str) -> tuple[Logged, Any]:
    record = parse_json(line, Logged, where)
    shape = SHAPES.get(record["kind"])
    return record, parse_json(line, shape, where) if shape else None
