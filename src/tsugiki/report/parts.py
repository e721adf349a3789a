"""What the sections share: axes of steps, one run or several side by side, marks of spikes and checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tsugiki.metrics_file import StepLine
from tsugiki.pages.axes import Axis, with_minus
from tsugiki.pages.line_chart import Line, Mark
from tsugiki.pages.markup import Markup, Part, element
from tsugiki.pages.table import Column, facts, table
from tsugiki.report.run_directory import RunDirectory

STEP = Axis("step", digits=",.0f", low=0.0)
BITS_AXIS = Axis("bits per byte", digits=".3f")
Runs = Sequence[RunDirectory]


def side_by_side(
    runs: Runs, rows: Sequence[tuple[str, Callable[[RunDirectory], Part]]], *, numeric: bool = True
) -> Markup:
    """Facts: of one run as a list, of several as a table with a column each. What no run has is left out. numeric:
    whether they are figures, which are not broken over lines."""
    found = [(name, [read(run) for run in runs]) for name, read in rows]
    found = [(name, values) for name, values in found if any(value not in (None, "") for value in values)]
    if len(runs) == 1:
        return facts([(name, values[0]) for name, values in found])
    columns: list[Column | str] = ["", *(Column(run.name, numeric=numeric) for run in runs)]
    rest = [[name, *(value or "–" if numeric else _breakable(value) for value in values)] for name, values in found]
    return table(columns, rest)


def _breakable(value: Part) -> Part:
    """A text that may be broken anywhere, such as a path or a digest."""
    return element("span", value or "–", class_="anywhere")


def colours(run: RunDirectory) -> dict[str, int]:
    """A colour for each source, the same in every chart."""
    return {name: place for place, name in enumerate(run.recipe.data.sources)}


def signed(value: float, digits: int = 3) -> str:
    """A difference."""
    return with_minus(f"{value:+.{digits}f}")


def heading(text: str) -> Markup:
    return element("h3", text)


def paragraph(text: str, class_: str | None = None) -> Markup:
    return element("p", text, class_=class_)


def marks(run: RunDirectory) -> list[Mark]:
    """Spikes and checkpoints of one run."""
    return _spikes(run) + [Mark(step, name, "checkpoint") for name, step in run.checkpoints]


def marks_of_several(runs: Runs, shown: Runs) -> list[Mark]:
    """The spikes of those `shown` among some runs, in their colours; checkpoints of all would hide each other."""
    return [
        replace(mark, label=f"{run.name}, {mark.label}", colour=place)
        for place, run in enumerate(runs) if run in shown for mark in _spikes(run)
    ]  # fmt: skip


def _spikes(run: RunDirectory) -> list[Mark]:
    return [
        Mark(spike["step"], f"step {spike['step']:,}: {spike.get('action', 'record')}", "spike")
        for spike in run.metrics.spikes
    ]  # fmt: skip


def curve(name: str, lines: Sequence[StepLine], values: Sequence[float | None], colour: int | None = None) -> Line:
    """A figure of logged steps."""
    return Line(name, [line["step"] for line in lines], values, colour=colour)
