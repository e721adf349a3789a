"""What the page of an attribution and its Markdown both say: the answers in words, and the tables of what was found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsugiki.attribution_results import ATTRIBUTION_FILE, FORMAT, AttributionResult
from tsugiki.estimates import Estimate
from tsugiki.experiment_results import Attribution, Decomposition, Metric, Transfer, cell_in_words
from tsugiki.pages.axes import with_minus
from tsugiki.report.experiment_folder import ExperimentFolder, read_result

HALF = "±: half of a 95 % interval."
EFFECTS = (
    "Each effect is averaged over the other factors; an interaction is the difference of differences. "
    f"{HALF} * more than noise, corrected for all effects of the table (Holm)."
)
MATRIX = (
    "Alone: joined to the mixture that all runs share, minus without. Beside all others: all sources, minus all but "
    f"this one. {HALF} * more than noise, corrected for the whole matrix (Holm)."
)
SPIKES = "Steps whose loss or gradient stood out from those before, each counted once, in all runs of the cell."
WITH = "with"
"""The level of a source that is in a mixture."""


@dataclass(frozen=True)
class AttributionFolder(ExperimentFolder):
    """An attribution's folder with what it holds."""

    result: AttributionResult


def read_attribution(folder: Path) -> AttributionFolder:
    """Read `attribution.json`. Raises RecipeError where it has another layout, DataError or StorageError as
    `read_json`."""
    return AttributionFolder(
        folder,
        read_result(folder / ATTRIBUTION_FILE, AttributionResult, FORMAT, "tsugiki attribute EXPERIMENT --estimate"),
    )


@dataclass(frozen=True)
class Told:
    """An estimate as tables show it."""

    estimate: Estimate
    higher_is_better: bool
    certain: bool | None = None
    """More than noise, corrected for all of its table."""

    @property
    def value(self) -> str:
        return estimate_text(self.estimate.value) + (" *" if self.certain else "")

    @property
    def reach(self) -> str:
        """Half its interval."""
        limits = self.estimate.limits()
        return "no interval known" if limits is None else f"±{(limits[1] - limits[0]) / 2:.4f}"

    @property
    def kind(self) -> str:
        """gain or loss where that is certain."""
        if not self.certain:
            return "range"
        return "gain" if (self.estimate.value > 0) == self.higher_is_better else "loss"


Entry = str | Told | None
Heading = Sequence[str]
"""The lines of a column's heading."""


@dataclass(frozen=True)
class FactTable:
    """A table: its first `names` columns are words, the others figures."""

    caption: str
    headings: Sequence[Heading]
    rows: list[list[Entry]]
    names: int = 1
    notes: list[str] = field(default_factory=list)


# --- in words ---------------------------------------------------------------------------------------


def answers(result: AttributionResult) -> list[tuple[str, list[str]]]:
    """What was asked, answered, each question with a line a metric: changes in parts, what sources do, or, where
    neither was asked, the certain effects."""
    found = result.attribution
    if result.transfer is not None:
        return [("What each source does to the domains of the others", list(result.transfer.words))]
    if found is None:
        return []
    metrics = {metric.name: metric for metric in found.metrics}
    asked = [(title, [_in_parts(one, metrics[one.metric]) for one in of_it]) for title, of_it in changes(found)]
    return asked or [("What is more than noise", certain_effects(found))]


def _in_parts(one: Decomposition, metric: Metric) -> str:
    """Of the change, each part alone gave so much, and the rest so much."""
    whole, *parts = (f"{name} {with_interval(estimate)}" for name, estimate in parts_of(one).items())
    return f"{name_of(metric)}: {whole}: {', '.join(parts)}."


def with_interval(estimate: Estimate | None) -> str:
    """+0.0214 [+0.0101, +0.0327]"""
    if estimate is None:
        return "not told by the runs that finished"
    limits = estimate.limits()
    reach = f"[{estimate_text(limits[0])}, {estimate_text(limits[1])}]" if limits else "[no interval known]"
    return f"{estimate_text(estimate.value)} {reach}"


def estimate_text(value: float) -> str:
    """A difference."""
    return with_minus(f"{round(value, 4) + 0.0:+.4f}")  # which has no -0.0000


def certain_effects(found: Attribution) -> list[str]:
    """By metric, the effects that are more than noise."""
    lines = []
    for metric in found.metrics:
        of_it = [one for one in found.effects if one.metric == metric.name]
        if any(one.certain is not None for one in of_it):
            said = [
                f"{one.term}, {one.levels}, {with_minus(one.estimate.text())}" for one in of_it if one.certain
            ] or ["no effect is more than noise"]  # fmt: skip
            lines.append(f"{name_of(metric)}: {'; '.join(said)}.")
    return lines


def name_of(metric: Metric) -> str:
    """A metric, and which way is better."""
    return f"{metric.name} ({'more' if metric.higher_is_better else 'less'} is better)"


# --- tables -----------------------------------------------------------------------------------------


def changes(found: Attribution) -> Iterator[tuple[str, list[Decomposition]]]:
    """The comparisons, each with its title and the change of every metric."""
    grouped: dict[str, list[Decomposition]] = {}
    for one in found.decompositions:
        moved = [name for name in one.start if one.start[name] != one.end[name]]
        same = {name: level for name, level in one.start.items() if name not in moved}
        both = " to ".join(cell_in_words({name: cell[name] for name in moved}) for cell in (one.start, one.end))
        grouped.setdefault(f"From {both}" + (f" (at {cell_in_words(same)})" if same else ""), []).append(one)
    yield from grouped.items()


def parts_of(one: Decomposition) -> dict[str, Estimate | None]:
    """The rows of a change: the whole of it, each part alone, the rest together; None where no run tells."""
    parts: dict[str, Estimate | None] = {"the whole change": one.total}
    parts |= {f"{part} alone": estimate for part, estimate in one.alone.items()}
    return parts if one.rest is None else {**parts, "only together": one.rest}


def change_table(title: str, ofs: Sequence[Decomposition], found: Attribution) -> FactTable:
    """A row a metric, a column a part."""
    better = {metric.name: metric for metric in found.metrics}
    headings = list(dict.fromkeys(part for one in ofs for part in parts_of(one)))
    rows: list[list[Entry]] = [
        [name_of(better[one.metric]),
         *(_told(parts_of(one).get(part), better[one.metric]) for part in headings)]
        for one in ofs
    ]  # fmt: skip
    return FactTable(title, [["metric"], *([part] for part in headings)], rows, notes=[HALF])


def effect_table(found: Attribution) -> FactTable:
    """A row an effect, a column a metric."""
    by_row: dict[tuple[str, str], dict[str, Told]] = {}
    better = {metric.name: metric.higher_is_better for metric in found.metrics}
    for one in found.effects:
        row = by_row.setdefault((one.term, one.levels), {})
        row[one.metric] = Told(one.estimate, better[one.metric], one.certain)
    rows: list[list[Entry]] = [
        [term, levels.replace(") at ", ")\nat "), *(row.get(metric.name) for metric in found.metrics)]
        for (term, levels), row in by_row.items()
    ]
    return FactTable("Effects", [["effect"], ["levels"], *map(_heading, found.metrics)], rows, 2, [EFFECTS])


def level_table(found: Attribution) -> FactTable:
    """The mean at each level, every combination of the others counted alike."""
    by_row: dict[tuple[str, str], dict[str, str]] = {}
    for one in found.means:
        by_row.setdefault((one.factor, one.level), {})[one.metric] = _level(one.estimate)
    rows: list[list[Entry]] = [
        [factor, level, *(row.get(metric.name) for metric in found.metrics)] for (factor, level), row in by_row.items()
    ]
    if found.grand_mean:
        whole = {name: _level(estimate) for name, estimate in found.grand_mean.items()}
        rows.append(["all", "", *(whole.get(metric.name) for metric in found.metrics)])
    notes = [f"Every combination of the other factors counts alike. {HALF}"]
    return FactTable("Means at each level", [["factor"], ["level"], *map(_heading, found.metrics)], rows, 2, notes)


def cell_table(result: AttributionResult) -> FactTable:
    """The base, then the mean of each cell over its seeds."""
    factors = list(result.cells[0].levels) if result.cells else []
    rows: list[list[Entry]] = []
    if result.base:
        base = ["base", *[""] * (len(factors) - 1)]
        rows.append([*base, *(_plain(result.base.get(one.name)) for one in result.metrics), ""])
    for cell in result.cells:
        done = sum(run.state == "done" for run in cell.runs)
        values = [_plain(cell.means.get(one.name)) for one in result.metrics]
        rows.append([*cell.levels.values(), *values, f"{done} of {len(cell.runs)}"])
    headings = [*([name] for name in factors), *(one.heading for one in result.metrics), ["runs"]]
    return FactTable("Means over seeds", headings, rows, len(factors))


def matrix_table(found: Transfer) -> FactTable:
    """A row a source, both ways to see what it does in two columns a metric."""
    cells = {(one.source, one.metric): one for one in found.cells}
    ways = [
        way for way, known in (("alone", any(one.added for one in found.cells)),
                               ("beside all others", any(one.left_out for one in found.cells))) if known
    ]  # fmt: skip
    rows: list[list[Entry]] = []
    for source in found.sources:
        row: list[Entry] = [source]
        for metric in found.metrics:
            one = cells[source, metric.name]
            both = {"alone": (one.added, one.certain[0]), "beside all others": (one.left_out, one.certain[1])}
            row += [_told(both[way][0], metric, both[way][1]) for way in ways]
        rows.append(row)
    headings = [[*_heading(metric), way] for metric in found.metrics for way in ways]
    return FactTable("What each source does", [["source"], *headings], rows, notes=[MATRIX])


def correlation_table(result: AttributionResult) -> FactTable | None:
    """Pairs of metrics, as they are and with the means of factors removed."""
    rows: list[list[Entry]] = []
    for one in result.correlations:
        low, high = one.after_low, one.after_high
        reach = f" [{_r(low)}, {_r(high)}]" if low is not None and high is not None else ""
        rows.append([" and ".join(one.metrics), f"{one.runs}", _r(one.raw), _r(one.after) + reach])
    if not rows:
        return None
    removed = ", ".join(result.correlations[0].removed)
    notes = [f"Removed: what the means of {removed} make, with a 95 % interval of what is left."]
    headings = [["metrics"], ["runs"], ["as they are"], ["means removed"]]
    return FactTable("Correlations over runs", headings, rows, notes=notes)


def spike_table(result: AttributionResult) -> FactTable | None:
    """Steps that stood out in each cell, its seeds apart; None where nothing was counted."""
    counted = {cell.name: [run for run in cell.runs if run.spikes is not None] for cell in result.cells}
    if not any(counted.values()):
        return None
    rows: list[list[Entry]] = []
    for cell in result.cells:
        numbers = [run.spikes or 0 for run in counted[cell.name]]
        by_seed = ", ".join(f"{run.spikes} at seed {run.seed}" for run in counted[cell.name])
        rows.append([*cell.levels.values(), by_seed, f"{sum(numbers)}" if numbers else None])
    factors = list(result.cells[0].levels)
    headings = [*([name] for name in factors), ["by seed"], ["spikes"]]
    return FactTable("Spikes", headings, rows, len(factors) + 1, [SPIKES])


def failed_table(result: AttributionResult) -> FactTable | None:
    """The runs that diverged or died, and why."""
    rows: list[list[Entry]] = [
        [f"{name}, seed {run.seed}", run.state, run.reason, f"{run.step:,}"] for name, run in result.failed()
    ]
    headings = [["run"], ["ended"], ["reason"], ["at step"]]
    return FactTable("Diverged or died; in no estimate", headings, rows, 3) if rows else None


def _heading(metric: Metric) -> list[str]:
    return [metric.name, *([] if metric.higher_is_better else ["less is better"])]


def _told(estimate: Estimate | None, metric: Metric, certain: bool | None = None) -> Told | None:
    return None if estimate is None else Told(estimate, metric.higher_is_better, certain)


def _level(estimate: Estimate) -> str:
    limits = estimate.limits()
    return f"{estimate.value:.4f}" + (f" ±{(limits[1] - limits[0]) / 2:.4f}" if limits else "")


def _plain(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _r(value: float | None) -> str:
    return "–" if value is None else with_minus(f"{value:.3f}")


def setting(result: AttributionResult) -> list[tuple[str, str]]:
    """What was run, in names and values."""
    runs = [run for cell in result.cells for run in cell.runs]
    levels: Mapping[str, Sequence[str]] = result.attribution.factors if result.attribution else {}
    return [
        *((name, ", ".join(of_it)) for name, of_it in levels.items()),
        *([("sources", ", ".join(result.transfer.sources))] if result.transfer else []),
        ("runs that finished", f"{sum(run.state == 'done' for run in runs)} of {len(runs)}"),
        ("seeds", ", ".join(map(str, result.seeds))),
        ("steps of each", f"{result.probe.steps:,} of {result.probe.total_steps:,}"),
        ("of them warm-up", f"{result.probe.warmup_steps:,}"),
    ]  # fmt: skip
