"""What an attribution found, as `attribution.json` holds it and reports read it (`files.read_json(path,
AttributionResult)`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tsugiki.experiment_results import Attribution, Correlation, Transfer
from tsugiki.sweep_results import Probe, RunResult

ATTRIBUTION_FILE = "attribution.json"
"""In the experiment's folder."""
FORMAT = 1
"""Another number is another layout."""


@dataclass(frozen=True)
class MeasuredMetric:
    """A metric of the experiment."""

    name: str
    higher_is_better: bool
    tasks: tuple[str, ...]
    left_out: dict[str, str]
    """Tasks that some model has no score for, and why."""

    @property
    def heading(self) -> list[str]:
        """The lines of its column."""
        return [self.name, *([] if self.higher_is_better else ["less is better"])]


@dataclass(frozen=True)
class CellResult:
    """A cell and its runs."""

    name: str
    levels: dict[str, str]
    """By factor; of a transfer, `with` or `without` by source."""
    changes: dict[str, Any]
    """By dotted recipe key."""
    runs: tuple[RunResult, ...]
    means: dict[str, float]
    """By metric, over the seeds that finished; empty where none did."""


@dataclass(frozen=True)
class AttributionResult:
    """All of it."""

    format: int
    experiment: str
    recipe: str
    directory: str
    finished: bool
    """Whether every run has ended."""
    probe: Probe
    seeds: tuple[int, ...]
    metrics: tuple[MeasuredMetric, ...]
    base: dict[str, float]
    """By metric; empty before the base is evaluated."""
    cells: tuple[CellResult, ...]
    plan: tuple[str, ...]
    """The lines that were printed before anything ran."""
    attribution: Attribution | None
    """Of factors; None before a run has finished, and for a transfer."""
    transfer: Transfer | None
    """Of sources, likewise."""
    correlations: tuple[Correlation, ...]
    problem: str
    """Why nothing could be estimated; empty where it could."""

    def changes(self) -> dict[str, dict[str, Any]]:
        """What each cell changes."""
        return {cell.name: cell.changes for cell in self.cells}

    def remarks(self) -> Iterator[str]:
        """What a reader must know beside the tables: what is missing of them, and why."""
        for metric in self.metrics:
            for reason in metric.left_out.values():
                yield f"{metric.name}: {reason}; left out for all"
        runs = [run for cell in self.cells for run in cell.runs]
        if waiting := sum(run.unended for run in runs):
            yield f"{waiting} of {len(runs)} runs have not ended: what is said is of the others"
        if self.problem:
            yield f"nothing can be estimated: {self.problem}"
        if self.attribution is not None:
            if self.attribution.missing:
                yield f"no run finished of {'; '.join(self.attribution.missing)}"
            if self.attribution.untold:
                yield f"not in means and effects: {'; '.join(self.attribution.untold)}"

    def failed(self) -> Iterator[tuple[str, RunResult]]:
        """The runs that diverged or died, with their cells' names."""
        for cell in self.cells:
            yield from ((cell.name, run) for run in cell.runs if run.failed)
