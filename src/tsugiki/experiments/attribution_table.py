"""An attribution's result on the terminal: cells, effects or the matrix of a transfer, and the answers in words."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from tsugiki.attribution_results import AttributionResult, MeasuredMetric
from tsugiki.estimates import Estimate
from tsugiki.experiment_results import Attribution, Metric, Transfer
from tsugiki.printable import one_line

EFFECTS = "95 % intervals; * more than noise, corrected for all effects of the table (Holm)"
MATRIX = "first: added alone; second: added to all others; * more than noise, corrected for the whole matrix (Holm)"
METRICS_AT_ONCE = 4
"""Columns beside each other: with more, numbers break on a terminal of a hundred columns."""
Item = TypeVar("Item")


def draw(result: AttributionResult) -> Iterator[Table]:
    """The tables of what is known, each of some metrics."""
    for metrics in _some(result.metrics):
        yield _cells(result, metrics)
    if result.attribution is not None:
        for some in _some(result.attribution.metrics):
            yield _effects(result.attribution, some)
    if result.transfer is not None:
        for some in _some(result.transfer.metrics):
            yield _matrix(result.transfer, some)


def _some(metrics: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(metrics), METRICS_AT_ONCE):
        yield metrics[start : start + METRICS_AT_ONCE]


def _cells(result: AttributionResult, metrics: Sequence[MeasuredMetric]) -> Table:
    """Means over seeds, the base first."""
    table = _table("mean over seeds")
    for name in result.cells[0].levels:
        table.add_column(one_line(name), overflow="fold")
    for metric in metrics:
        table.add_column("\n".join(map(one_line, metric.heading)), justify="right", overflow="fold")
    table.add_column("runs", justify="right")
    if result.base:
        levels = ["base", *[""] * (len(result.cells[0].levels) - 1)]
        table.add_row(*levels, *(_number(result.base.get(metric.name)) for metric in metrics), "")
    for cell in result.cells:
        done = sum(run.state == "done" for run in cell.runs)
        values = [_number(cell.means.get(metric.name)) for metric in metrics]
        table.add_row(
            *(Text(one_line(level)) for level in cell.levels.values()), *values, f"{done} of {len(cell.runs)}"
        )
    return table


def _effects(found: Attribution, metrics: Sequence[Metric]) -> Table:
    """A row an effect, a column a metric."""
    table = _table("effects, each averaged over the other factors")
    table.add_column("effect", overflow="fold")
    for metric in metrics:
        table.add_column(one_line(metric.name), justify="right", overflow="fold")
    cells: dict[tuple[str, str], dict[str, Text]] = {}
    for effect in found.effects:
        cells.setdefault((effect.term, effect.levels), {})[effect.metric] = _estimate(effect.estimate, effect.certain)
    for (term, levels), by_metric in cells.items():
        name = Text(f"{one_line(term)}\n{one_line(levels)}")
        table.add_row(name, *(by_metric.get(metric.name, Text("")) for metric in metrics))
    return table


def _matrix(found: Transfer, metrics: Sequence[Metric]) -> Table:
    """A row a source, a column a metric."""
    table = _table("what each source does")
    table.add_column("source", overflow="fold")
    for metric in metrics:
        table.add_column(one_line(metric.name), justify="right", overflow="fold")
    cells = {(cell.source, cell.metric): cell for cell in found.cells}
    for source in found.sources:
        row = [Text(one_line(source))]
        for metric in metrics:
            cell = cells[source, metric.name]
            both = [
                _estimate(one, sure) for one, sure in zip((cell.added, cell.left_out), cell.certain, strict=True) if one
            ]
            row.append(Text("\n").join(both))
        table.add_row(*row)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _estimate(found: Estimate, certain: bool | None) -> Text:
    return Text(f"{found.text()} {'*' if certain else ' '}")


def remarks(result: AttributionResult) -> Iterator[str]:
    """The lines below the tables: what is missing, then the answers."""
    if result.attribution is not None:
        yield EFFECTS
    if result.transfer is not None:
        yield MATRIX
    yield from result.remarks()
    for name, run in result.failed():
        yield f"{name}, seed {run.seed}: {run.state} at step {run.step:,}: {run.reason}; in no estimate"
    if result.problem:
        return
    if result.attribution is not None:
        found = result.attribution
        yield ""
        for change in found.decompositions:
            yield f"answer     {change.words}"
        for pair in result.correlations:
            yield f"together   {pair.words}"
        yield f"method     {found.method}"
    if result.transfer is not None:
        yield ""
        for words in result.transfer.words:
            yield f"transfer   {words}"
    yield f"probe      {result.probe.words}"
