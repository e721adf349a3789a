"""The report of a vocabulary extension, whole as files, in short for the terminal. The facts are from `gains.py`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.files import write_atomically, write_json
from tsugiki.printable import escape_markdown, markdown_table, one_line
from tsugiki.vocabulary.chart import plot
from tsugiki.vocabulary.gains import Change, Coverage, NewPiece, VocabularyReport

CHART = "fertility.png"
PAIRS = 5
"""Pieces a line in the Markdown tables of pieces."""
NOTABLE = 0.01
"""The least share of a source's tokens that is called a saving in words."""


@dataclass(frozen=True)
class Section:
    """A part of the report: a table, or pieces one after another, and sentences below."""

    title: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    texts: int = 1
    """How many columns, from the left, hold words; the others hold figures."""
    pieces: Sequence[NewPiece] = ()
    notes: Sequence[str] = ()


def write_report(report: VocabularyReport, folder: Path) -> list[Path]:
    """Write `report.json`, `report.md` and the chart into a folder that exists; returns the files.

    Raises StorageError when the disk refuses.
    """
    write_json(folder / "report.json", report.to_json())
    chart = plot(report, folder / CHART)
    write_atomically(folder / "report.md", to_markdown(report))
    return [folder / "report.json", folder / "report.md", chart]


def in_short(report: VocabularyReport) -> Iterator[str]:
    """What the new pieces save, a line a source: of held-out text, or of the sample where none is held out."""
    for name, change in report.judged.items():
        yield (
            f"fertility  {name}: {change.before.tokens_per_character:.3f} -> {change.after.tokens_per_character:.3f} "
            f"tokens a character ({change.ratio:.3f} of the tokens)"
        )


def to_markdown(report: VocabularyReport) -> str:
    """The report as Markdown (tables as GitHub reads them); the chart is the file beside it."""
    blocks = [f"# {_headline(report)}", f"![Tokens per character before and after]({CHART})"]
    for section in _sections(report):
        blocks.append(f"## {section.title}")
        if section.headings:
            blocks.append(_markdown_table(section.headings, section.rows, section.texts))
        if section.pieces:
            blocks.append(_markdown_pieces(section.pieces))
        blocks += [escape_markdown(note) for note in section.notes]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    return markdown_table(headings, (map(escape_markdown, row) for row in rows), texts=texts)


def _markdown_pieces(pieces: Sequence[NewPiece]) -> str:
    """`PAIRS` pieces a line, with their uses where they have any."""
    counted = any(piece.uses for piece in pieces)
    cells = [cell for piece in pieces for cell in ([piece.text, f"{piece.uses:,}"] if counted else [piece.text])]
    headings = (["piece", "uses"] if counted else ["piece"]) * min(PAIRS, len(pieces))
    cells += [""] * (-len(cells) % len(headings))
    rows = [cells[start : start + len(headings)] for start in range(0, len(cells), len(headings))]
    return _markdown_table(headings, rows, texts=len(headings))


def _headline(report: VocabularyReport) -> str:
    return f"Vocabulary {report.size_before:,} -> {report.size_after:,}: {report.new_pieces:,} new pieces"


def _sections(report: VocabularyReport) -> Iterator[Section]:
    """What the report consists of, in order; what was not measured or not done is left out."""
    if report.held_out:
        yield _fertility("Held-out text", report.held_out)
    if report.sample:
        yield _fertility("The sample that pieces were learnt from", report.sample)
    if report.judged:
        yield _savings(report)
    if report.held_out_coverage:
        yield _coverage("Characters of held-out text that are one token", report.held_out_coverage)
    if report.sample_coverage:
        yield _coverage("Characters of the sample that are one token", report.sample_coverage)
    if report.most_used:
        yield Section(
            f"The {len(report.most_used)} most used new pieces, with their uses in the sample", pieces=report.most_used
        )
    yield _unused(report)
    if report.trials:
        yield _trials(report)
    if report.initialisation:
        facts = [(name, _plain(value)) for name, value in report.initialisation.items()]
        yield Section("New rows of the model", ("fact", "value"), facts, texts=2)
    if report.proofs:
        yield _proofs(report)
    if report.seconds:
        rows = [(phase, f"{seconds:.1f}") for phase, seconds in report.seconds.items()]
        yield Section("Time", ("phase", "seconds"), [*rows, ("all", f"{sum(report.seconds.values()):.1f}")])


def _fertility(title: str, changes: Mapping[str, Change]) -> Section:
    rows = list(changes.items())
    if len(rows) > 1:
        first, *others = changes.values()
        rows.append(("all", sum(others, first)))
    quotients = ("tokens/char before", "after", "bytes/token before", "after", "tokens ratio")
    return Section(
        title,
        ("source", "size (chars)", *quotients),
        [
            (
                name, _short(change.before.characters),
                f"{change.before.tokens_per_character:.3f}", f"{change.after.tokens_per_character:.3f}",
                f"{change.before.bytes_per_token:.2f}", f"{change.after.bytes_per_token:.2f}",
                f"{change.ratio:.3f}",
            )
            for name, change in rows
        ],
    )  # fmt: skip


def _savings(report: VocabularyReport) -> Section:
    """What the tokens saved are worth, and what the larger vocabulary costs."""
    model = report.model
    flops = model.flops_ratio if model else None
    ratios = [(name, change.ratio) for name, change in report.judged.items()]
    if report.mixture_ratio is not None:
        ratios.append(("the mixture", report.mixture_ratio))
    rows = [
        (name, _percent(1 - ratio), f"{1 / ratio:.2f} x") + ((f"{100 * ratio * flops:.1f} %",) if flops else ())
        for name, ratio in ratios
    ]
    headings = ("source", "tokens saved", "text in a sequence") + (("FLOPs of the same text",) if flops else ())
    return Section("What it saves in training and generation", headings, rows, notes=list(_in_words(report)))


def _in_words(report: VocabularyReport) -> Iterator[str]:
    """What the table of savings says, and what it leaves open."""
    saving = [name for name, change in report.judged.items() if change.saved >= NOTABLE]
    losing = [name for name, change in report.judged.items() if change.saved < 0]
    others = [name for name in report.judged if name not in saving and name not in losing]
    if saving:
        yield (
            f"Fewer tokens for {', '.join(saving)}: a sequence holds that much more text, and at equal tokens a "
            "second training and generation pass through that much more of it."
        )
    if others:
        yield f"No saving to speak of for {', '.join(others)} (under {100 * NOTABLE:g} %)."
    if losing:
        yield f"More tokens than before for {', '.join(losing)}."
    if report.weights and report.mixture_ratio is None:
        unmeasured = [name for name, weight in report.weights.items() if weight > 0 and name not in report.judged]
        yield f"No figure for the mixture: {', '.join(unmeasured) or 'every source'} was not measured."
    elif report.mixture_ratio is not None:
        yield "The mixture is that of the recipe, whose weights are shares of training tokens."
    model = report.model
    if model is not None:
        added = (
            f"{model.rows_after - model.rows_before:,} rows x {model.width:,} x "
            f"{'1 matrix (tied)' if model.tied else '2 matrices'}"
        )
        yield f"The model grows by {added} = {model.added_parameters:,} parameters."
    if model is not None and model.flops_before and model.flops_after and model.flops_ratio:
        yield (
            f"FLOPs a trained token, without attention: {_short(model.flops_before)} -> "
            f"{_short(model.flops_after)} ({100 * (model.flops_ratio - 1):+.2f} %, by the output layer). "
            f"Text that takes no fewer tokens costs that much more."
        )
    yield "Fewer tokens are no measure of quality: compare models by bits per byte and by tasks."


def _coverage(title: str, coverages: Sequence[Coverage]) -> Section:
    return Section(
        title,
        ("script", "distinct", "one token before", "after", "occurrences", "one token before", "after"),
        [_coverage_row(coverage) for coverage in coverages],
    )


def _coverage_row(coverage: Coverage) -> tuple[str, ...]:
    distinct, occurrences = coverage.distinct, coverage.occurrences
    return (
        coverage.script,
        f"{distinct:,}", _percent(coverage.distinct_before / distinct), _percent(coverage.distinct_after / distinct),
        _short(occurrences), _percent(coverage.occurrences_before / occurrences),
        _percent(coverage.occurrences_after / occurrences),
    )  # fmt: skip


def _unused(report: VocabularyReport) -> Section:
    share = f" ({_percent(report.unused / report.new_pieces)})" if report.new_pieces else ""
    title = f"New pieces that the sample never used: {report.unused:,} of {report.new_pieces:,}{share}"
    left = report.unused - len(report.first_unused)
    return Section(title, pieces=report.first_unused, notes=[f"… and {left:,} more."] if left else [])


def _trials(report: VocabularyReport) -> Section:
    return Section(
        "How many single characters",
        ("seen at least", "characters", "tokens per character of held-out text", "chosen"),
        [
            (
                f"{trial.threshold:,}", f"{trial.characters:,}", f"{trial.tokens_per_character:.4f}",
                "yes" if trial.threshold == report.threshold else "",
            )
            for trial in report.trials
        ],
        texts=0,
    )  # fmt: skip


def _proofs(report: VocabularyReport) -> Section:
    failed = sum(not proof.passed for proof in report.proofs)
    rows = [
        (proof.name, "ok" if proof.passed else "FAILED", _plain(proof.summary), f"{proof.checked:,}",
         f"{proof.failed:,}")
        for proof in report.proofs
    ]  # fmt: skip
    title = f"Proofs: {failed} of {len(rows)} failed" if failed else f"Proofs: all {len(rows)} passed"
    return Section(title, ("proof", "result", "what was found", "checked", "failed"), rows, texts=3)


def _plain(value: Any) -> str:
    """A fact or a sentence on one line, without control characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return one_line(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _short(value: float) -> str:
    """Three digits and a decimal unit: 43.1 G."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            digits = 0 if value >= 99.95 * limit else 1 if value >= 9.995 * limit else 2
            return f"{value / limit:.{digits}f} {unit}"
    return f"{value:.0f}"
