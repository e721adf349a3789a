"""The charts of an attribution: a change in its parts, means of cells with their seeds, the matrix of a transfer."""

from collections.abc import Iterator, Sequence

from tsugiki.attribution_results import AttributionResult
from tsugiki.experiment_results import Attribution, Decomposition, Metric, Transfer, TransferCell, cell_in_words
from tsugiki.pages.axes import Axis
from tsugiki.pages.dot_chart import Dot, dot_chart
from tsugiki.pages.heat_map import Cell, heat_map
from tsugiki.pages.markup import Markup, Part, element
from tsugiki.pages.scatter import Better
from tsugiki.report.attribution_facts import WITH, name_of, parts_of

BITS = "bits_per_byte:"
ALONE, BESIDE = "added alone", "beside all others"


def change_charts(of_it: Sequence[Decomposition], found: Attribution) -> Part:
    """For each metric a small chart: the whole change, each part alone, the rest together."""
    metrics = {metric.name: metric for metric in found.metrics}
    charts = []
    for one in of_it:
        metric = metrics[one.metric]
        dots = [
            Dot(name, part.value, part.limits(), _better(metric)) if part else Dot(name, None)
            for name, part in parts_of(one).items()
        ]  # fmt: skip
        charts.append(dot_chart(name_of(metric), dots, Axis("difference", digits="+.4f")))
    return element("div", *charts, class_="multiples") if charts else None


def cell_charts(result: AttributionResult) -> Iterator[Markup]:
    """For each metric: the base, and every cell's mean with the values of its seeds."""
    names = _names_of_cells(result)
    for metric in result.metrics:
        dots = [Dot("base", result.base[metric.name])] if metric.name in result.base else []
        for cell, (group, name) in zip(result.cells, names, strict=True):
            seeds = [run.measured[metric.name] for run in cell.runs if metric.name in run.measured]
            points = tuple(seeds) if len(seeds) > 1 else ()
            dots.append(Dot(name, cell.means.get(metric.name), group=group, points=points))
        title = name_of(Metric(metric.name, metric.higher_is_better))
        note = "Triangles: means; rings: the seeds." if any(dot.points for dot in dots) else ""
        yield dot_chart(title, dots, Axis(metric.name, digits=".4f"), zero=False, note=note)


def _names_of_cells(result: AttributionResult) -> list[tuple[str, str]]:
    """Of each cell's row: its group by the first half of the factors, its name by the others, whose levels stand alone
    where each belongs to one factor; of a transfer, the sources in the mixture."""
    if result.transfer is not None:
        mixtures = [[name for name, level in cell.levels.items() if level == WITH] for cell in result.cells]
        return [("", " + ".join(sources) or "none of the sources") for sources in mixtures]
    factors = list(result.cells[0].levels)
    first, second = factors[: len(factors) // 2], factors[len(factors) // 2 :]
    levels = {level: {factor for factor in second for cell in result.cells if cell.levels[factor] == level}
              for cell in result.cells for level in cell.levels.values()}  # fmt: skip
    alone = len(second) > 1 and all(len(of) <= 1 for of in levels.values())
    return [
        (cell_in_words({factor: cell.levels[factor] for factor in first}),
         ", ".join(cell.levels[factor] if alone else f"{factor} {cell.levels[factor]}" for factor in second))
        for cell in result.cells
    ]  # fmt: skip


def matrices(found: Transfer) -> Iterator[Markup]:
    """For each kind of metric (one unit, one direction) the matrix of sources and metrics, in both ways to see it."""
    kinds: dict[tuple[str, bool], list[Metric]] = {}
    for metric in found.metrics:
        unit = "bits per byte" if metric.name.startswith(BITS) else "steps" if metric.name == "spikes" else "score"
        kinds.setdefault((unit, metric.higher_is_better), []).append(metric)
    cells = {(one.source, one.metric): one for one in found.cells}
    for way in (ALONE, BESIDE):
        for (unit, _), metrics in kinds.items():
            rows = [[_cell(cells[source, metric.name], way) for metric in metrics] for source in found.sources]
            if any(cell.known for row in rows for cell in row):
                better = "more" if metrics[0].higher_is_better else "less"
                yield heat_map(
                    f"What a source does {way}, in {unit} ({better} is better)",
                    found.sources, [metric.name.removeprefix(BITS) for metric in metrics], rows,
                    better=_better(metrics[0]), row_title="source",
                    column_title="held-out text" if unit == "bits per byte" else "",
                    note="* more than noise, corrected for the whole matrix (Holm).",
                )  # fmt: skip


def _cell(one: TransferCell, way: str) -> Cell:
    estimate, certain = (one.added, one.certain[0]) if way == ALONE else (one.left_out, one.certain[1])
    return Cell(None) if estimate is None else Cell(estimate.value, estimate.limits(), "*" if certain else "")


def _better(metric: Metric) -> Better:
    return "higher" if metric.higher_is_better else "lower"
