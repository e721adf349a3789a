"""What a quickstart has shown: held-out bits per byte before, after and after without replay, beside two yardsticks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tsugiki.errors import TsugikiError
from tsugiki.plots import read_metrics
from tsugiki.quickstart.corpora import Corpus

LEAST_GAIN = 0.5
"""Bits per byte that the target language must fall by in the embedded quickstart."""
MOST_LOSS = 0.05
"""Bits per byte that English may rise by with replay."""
LEAST_FORGETTING = 0.15
"""Bits per byte that English must rise by without replay, beyond what it does with replay."""


@dataclass(frozen=True)
class Row:
    """Of one source; all figures but `size` (UTF-8 bytes scored) in bits per byte of the same held-out text."""

    name: str
    role: str
    documents: int
    size: int
    before: float
    after: float
    without_replay: float
    xz: float
    unigram: float


def make_rows(
    corpora: Sequence[Corpus], continued: Path, without_replay: Path, yardsticks: Mapping[str, Mapping[str, float]]
) -> list[Row]:
    """A row a source, from the metrics of two finished runs: the first validation is before step 1, the last one after
    the end."""
    first, after = _first_and_last(continued)
    _, without = _first_and_last(without_replay)
    return [
        Row(
            corpus.name, corpus.role, int(first[corpus.name]["documents"]), int(first[corpus.name]["bytes"]),
            first[corpus.name]["bits_per_byte"], after[corpus.name]["bits_per_byte"],
            without[corpus.name]["bits_per_byte"],
            yardsticks[corpus.name]["xz"], yardsticks[corpus.name]["unigram"],
        )
        for corpus in corpora
    ]  # fmt: skip


def _first_and_last(metrics: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    _, validations = read_metrics(metrics)
    if len(validations) < 2 or validations[0]["step"] != 0:
        raise TsugikiError(
            f"{metrics}: no validation before the first step and after the last; remove the folder and run again"
        )
    return validations[0]["sources"], validations[-1]["sources"]


def draw(rows: Sequence[Row]) -> Table:
    """The table as the terminal shows it."""
    table = Table(title="Held-out text, bits per byte (lower is better)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("source", no_wrap=True)
    for heading in ("held\nout", "before", "after", "after,\nno replay", "xz\n-9 *", "bytes\nalone *"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name, f"{row.size / 1000:,.0f} kB", f"{row.before:.2f}", _against(row.after, row.before),
            _against(row.without_replay, row.before), f"{row.xz:.2f}", f"{row.unigram:.2f}",
        )  # fmt: skip
    table.caption = (
        "* yardsticks: the same text by a compressor and by byte counts, given as much training text as the model"
    )
    table.caption_justify = "left"
    return table


def _against(value: float, before: float) -> str:
    return f"{value:.2f}  {value - before:+.2f}"


def pooled(rows: Sequence[Row], role: str, figure: str) -> float:
    """A figure over all sources of a role: bits over bytes, so that a large source counts as much as it holds."""
    chosen = [row for row in rows if row.role == role]
    return sum(getattr(row, figure) * row.size for row in chosen) / sum(row.size for row in chosen)


def broken_promises(rows: Sequence[Row], *, least_gain: float = LEAST_GAIN, most_loss: float = MOST_LOSS) -> list[str]:
    """What was promised and did not appear, in words; empty when all is well."""
    target, replay = (
        {figure: pooled(rows, role, figure) for figure in ("before", "after", "without_replay")}
        for role in ("target", "replay")
    )  # fmt: skip
    gain, loss = target["before"] - target["after"], replay["after"] - replay["before"]
    forgetting = replay["without_replay"] - replay["after"]
    problems = []
    if not gain >= least_gain:
        problems.append(f"the new language fell by {gain:.3f} bits per byte, less than {least_gain:g}")
    if not loss <= most_loss:
        problems.append(f"English rose by {loss:.3f} bits per byte with replay, more than {most_loss:g}")
    if not forgetting >= LEAST_FORGETTING:
        problems.append(
            f"without replay English is only {forgetting:.3f} bits per byte worse than with it, "
            f"less than {LEAST_FORGETTING:g}"
        )
    return problems


def lesson(rows: Sequence[Row]) -> str:
    """The table in a sentence."""
    figures = {
        (role, figure): pooled(rows, role, figure)
        for role in ("target", "replay") for figure in ("before", "after", "without_replay")
    }  # fmt: skip
    names = {role: ", ".join(row.name for row in rows if row.role == role) for role in ("target", "replay")}
    return (
        f"Learnt: {names['target']} {figures['target', 'before']:.2f} -> {figures['target', 'after']:.2f}. "
        f"Kept: {names['replay']} {figures['replay', 'before']:.2f} -> {figures['replay', 'after']:.2f} with replay; "
        f"forgotten without it: -> {figures['replay', 'without_replay']:.2f}."
    )
