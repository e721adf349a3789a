"""What the sections share: axes of steps, one run or several side by side, marks of spikes and checkpoints."""

from collections.abc import Callable, Sequence

from tsugiki.metrics_file import StepLine
from tsugiki.pages.axes import Axis, with_minus
from tsugiki.pages.line_chart import Line, Mark
from tsugiki.pages.markup import Markup, Part, element
from tsugiki.pages.table import Column, facts, table
from tsugiki.report.run_directory import RunDirectory

STEP = Axis("step", digits=",.0f", low=0.0)
BITS_AXIS = Axis("bits per byte", digits=".3f")
Runs = Sequence[RunDirectory]


def side_by_side(runs: Runs, rows: Sequence[tuple[str, Callable[[RunDirectory], Part]]]) -> Markup:
    """Facts: of one run as a list, of several as a table with a column each. What no run has is left out."""
    found = [(name, [read(run) for run in runs]) for name, read in rows]
    found = [(name, values) for name, values in found if any(value not in (None, "") for value in values)]
    if len(runs) == 1:
        return facts([(name, values[0]) for name, values in found])
    columns: list[Column | str] = ["", *(Column(run.name) for run in runs)]
    return table(columns, [[name, *(value or "–" for value in values)] for name, values in found])


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
    """Spikes and checkpoints."""
    found = [
        Mark(spike["step"], f"step {spike['step']:,}: {spike.get('action', 'record')}", "spike")
        for spike in run.metrics.spikes
    ]  # fmt: skip
    return found + [Mark(step, name, "checkpoint") for name, step in run.checkpoints]


def curve(name: str, lines: Sequence[StepLine], values: Sequence[float | None], colour: int | None = None) -> Line:
    """A figure of logged steps."""
    return Line(name, [line["step"] for line in lines], values, colour=colour)
