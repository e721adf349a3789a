"""What a quickstart has shown: held-out bits per byte before, after and after without replay, beside two yardsticks;
and what the larger vocabulary did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tsugiki.errors import TsugikiError
from tsugiki.metrics_file import read_metrics
from tsugiki.quickstart.corpora import Corpus

LEAST_GAIN = 0.5
"""Bits per byte that the target language must fall by in the embedded quickstart."""
MOST_LOSS = 0.05
"""Bits per byte that English may rise by with replay."""
LEAST_FORGETTING = 0.15
"""Bits per byte that English must rise by without replay, beyond what it does with replay."""
MOST_TOKENS = 0.75
"""Of the target language, with the larger vocabulary, as a share of the tokens without it."""
LEAST_EXTENDED_GAIN = 0.05
"""Bits per byte that the target language must be better by, after the same steps, with the larger vocabulary."""


@dataclass(frozen=True)
class Extension:
    """What the larger vocabulary did to a source: tokens of the scored text, and its bits per byte."""

    tokens_before: int
    tokens_after: int
    untrained: float
    """Of the base with the new pieces, before a step of training."""
    without: float
    """After the same steps with the base's own vocabulary."""


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
    extension: Extension | None = None
    """None where the vocabulary stayed as it was."""


def make_rows(
    corpora: Sequence[Corpus], metrics: Mapping[str, Path], yardsticks: Mapping[str, Mapping[str, float]]
) -> list[Row]:
    """A row a source, from the metrics of finished runs (by run): the first validation is before step 1, the last one
    after the end. The base as it was is what the run with its own vocabulary begins with."""
    start, after = _first_and_last(metrics["continued"])
    _, without_replay = _first_and_last(metrics["without-replay"])
    first, without = start, None
    if "without-extension" in metrics:
        first, without = _first_and_last(metrics["without-extension"])
    rows = []
    for corpus in corpora:
        name = corpus.name
        extension = without and Extension(
            first[name]["tokens"], start[name]["tokens"], start[name]["bits_per_byte"], without[name]["bits_per_byte"]
        )
        rows.append(Row(
            name, corpus.role, int(first[name]["documents"]), int(first[name]["bytes"]),
            first[name]["bits_per_byte"], after[name]["bits_per_byte"], without_replay[name]["bits_per_byte"],
            yardsticks[name]["xz"], yardsticks[name]["unigram"], extension or None,
        ))  # fmt: skip
    return rows


def _first_and_last(metrics: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    validations = read_metrics(metrics).validations
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


def draw_extension(rows: Sequence[Row]) -> Table:
    """What the larger vocabulary did, as the terminal shows it."""
    table = Table(title="The larger vocabulary, on the same text", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("source", no_wrap=True)
    headings = ("bytes a\ntoken", "\nnow", "bits a\nbyte", "pieces\nadded", "trained\nwith them", "trained\nwithout")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        if row.extension is not None:
            before, after = row.size / row.extension.tokens_before, row.size / row.extension.tokens_after
            table.add_row(
                row.name, f"{before:.2f}", f"{after:.2f}", f"{row.before:.2f}", f"{row.extension.untrained:.2f}",
                f"{row.after:.2f}", f"{row.extension.without:.2f}",
            )  # fmt: skip
    table.caption = (
        "trained for the same number of steps, hence of tokens: where a token holds more text, more of it was read"
    )
    table.caption_justify = "left"
    return table


def _against(value: float, before: float) -> str:
    return f"{value:.2f}  {value - before:+.2f}"


def pooled(rows: Sequence[Row], role: str, figure: str) -> float:
    """A figure over all sources of a role: bits over bytes, so that a large source counts as much as it holds."""
    chosen = [row for row in rows if row.role == role]
    return sum(getattr(row, figure) * row.size for row in chosen) / sum(row.size for row in chosen)


def pooled_extension(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Tokens with the larger vocabulary over tokens before, and bits per byte after training without it; over all
    sources of the new language. None where the vocabulary stayed as it was."""
    chosen = [(row.extension, row.size) for row in rows if row.role == "target" and row.extension is not None]
    if not chosen:
        return None
    ratio = sum(e.tokens_after for e, _ in chosen) / sum(e.tokens_before for e, _ in chosen)
    return ratio, sum(e.without * size for e, size in chosen) / sum(size for _, size in chosen)


def broken_promises(
    rows: Sequence[Row], *, least_gain: float = LEAST_GAIN, most_loss: float = MOST_LOSS,
    most_tokens: float = MOST_TOKENS, least_extended_gain: float = LEAST_EXTENDED_GAIN,
) -> list[str]:  # fmt: skip
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
    extension = pooled_extension(rows)
    if extension is not None:
        tokens, without = extension
        if not tokens <= most_tokens:
            problems.append(
                f"the new language takes {tokens:.2f} of its tokens with the larger vocabulary, "
                f"more than {most_tokens:g}"
            )
        if not without - target["after"] >= least_extended_gain:
            problems.append(
                f"the larger vocabulary brings the new language {without - target['after']:.3f} bits per byte, "
                f"less than {least_extended_gain:g}"
            )
    return problems


def lesson(rows: Sequence[Row]) -> str:
    """The tables in a few sentences."""
    figures = {
        (role, figure): pooled(rows, role, figure)
        for role in ("target", "replay") for figure in ("before", "after", "without_replay")
    }  # fmt: skip
    names = {role: ", ".join(row.name for row in rows if row.role == role) for role in ("target", "replay")}
    learnt = (
        f"Learnt: {names['target']} {figures['target', 'before']:.2f} -> {figures['target', 'after']:.2f}. "
        f"Kept: {names['replay']} {figures['replay', 'before']:.2f} -> {figures['replay', 'after']:.2f} with replay; "
        f"forgotten without it: -> {figures['replay', 'without_replay']:.2f}."
    )
    extension = pooled_extension(rows)
    if extension is None:
        return learnt
    tokens, without = extension
    return (
        f"{learnt}\nGrafted: with the new pieces {names['target']} takes {1 - tokens:.0%} fewer tokens, so the same "
        f"steps read {1 / tokens:.2f} times the text: {figures['target', 'after']:.2f} bits per byte, with the old "
        f"ones {without:.2f}."
    )
