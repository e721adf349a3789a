"""What each source of text does to each domain: a matrix from runs that add one source, or leave one out.

*Added*: a source joins the mixture that all runs share; *left out*: of all sources, this one is missing. Both are
differences of two mixtures at the same seeds; where sources help each other, they differ. All runs together tell how
far seeds move a metric, by ordinary least squares with mixtures and seeds as blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tsugiki.errors import RecipeError
from tsugiki.estimates import Estimate, holm, is_certain
from tsugiki.experiment_results import Metric, Transfer, TransferCell
from tsugiki.experiments.attribution_design import refuse_aliased
from tsugiki.experiments.attribution_words import with_interval
from tsugiki.experiments.judge_words import listed
from tsugiki.experiments.measured import Ending, metric_of
from tsugiki.least_squares import Fit, effect_columns, fit

Mixture = frozenset[str]
"""Which of the sources in question are in it, besides what all runs share."""
Pair = tuple[Mixture, Mixture]
"""With a source, and without."""


@dataclass(frozen=True, eq=False)
class MixtureRun:
    """One run of one mixture."""

    sources: Mixture
    seed: int
    found: Mapping[str, float] | Ending
    """By metric, or how it ended without any."""


def transfer(
    sources: Sequence[str],
    runs: Sequence[MixtureRun],
    metrics: Sequence[Metric],
    domains: Mapping[str, Sequence[str]],
) -> Transfer:
    """The matrix, and what it says of each source and the metrics of the other ones' domains (`domains`: by source).

    Raises RecipeError where no pair of mixtures differs by one source or a run has an unknown one, DataError where a
    run lacks a metric.
    """
    unknown = sorted({name for run in runs for name in run.sources} - set(sources))
    if unknown:
        raise RecipeError(f"a run mixes in {listed(unknown)}, which is none of the sources {listed(sources)}.")
    finished = [run for run in runs if not isinstance(run.found, Ending)]
    mixtures = list(dict.fromkeys(run.sources for run in finished))
    seeds = sorted({run.seed for run in finished})
    pairs = {source: _pairs(source, sources, mixtures) for source in sources}
    if not any(pair for both in pairs.values() for pair in both):
        raise RecipeError(
            "No two mixtures that finished differ by one source alone: run the mixture without any of "
            f"{listed(sources)} and with each one, or with all and with all but each one."
        )
    which = np.eye(len(mixtures))[[mixtures.index(run.sources) for run in finished]]
    design = np.hstack([which, effect_columns([seeds.index(run.seed) for run in finished], len(seeds))])
    refuse_aliased(design, [_name(mixture) for mixture in mixtures] + ["the seeds"] * (len(seeds) - 1))
    cells = []
    for metric in metrics:
        found = fit(design, np.array([_value(run, metric.name) for run in finished]))
        for source in sources:
            added, left_out = (_difference(found, pair, mixtures) for pair in pairs[source])
            cells.append(TransferCell(source, metric.name, added, left_out, certain=(None, None)))
    cells = _marked(cells)
    on_others = [
        (cell, metric, other)
        for other in sources for metric in metrics if metric.name in domains.get(other, ())
        for cell in cells if cell.metric == metric.name and cell.source != other
    ]  # fmt: skip
    return Transfer(tuple(sources), tuple(metrics), tuple(cells), tuple(_told(on_others)))


def _pairs(source: str, sources: Sequence[str], mixtures: Sequence[Mixture]) -> tuple[Pair | None, Pair | None]:
    """The mixtures with and without a source: alone, and among all."""
    whole = frozenset(sources)
    added: Pair = (frozenset({source}), frozenset())
    left_out: Pair = (whole, whole - {source})
    return (
        added if set(added) <= set(mixtures) else None,
        left_out if set(left_out) <= set(mixtures) else None,
    )  # fmt: skip


def _difference(found: Fit, pair: Pair | None, mixtures: Sequence[Mixture]) -> Estimate | None:
    if pair is None:
        return None
    weights = np.zeros(len(found.coefficients))  # the mixtures' columns come first
    weights[mixtures.index(pair[0])], weights[mixtures.index(pair[1])] = 1, -1
    return found.combination(weights)


def _value(run: MixtureRun, metric: str) -> float:
    assert not isinstance(run.found, Ending)
    return metric_of(run.found, metric, f"the run {_name(run.sources)}, seed {run.seed}")


def _name(mixture: Mixture) -> str:
    return f"with {listed(sorted(mixture))}" if mixture else "without any of the sources"


def _marked(cells: Sequence[TransferCell]) -> list[TransferCell]:
    """Corrected over the matrix (Holm)."""
    p_values = [one.p_value() if one else None for cell in cells for one in (cell.added, cell.left_out)]
    marks = iter([is_certain(p) for p in holm(p_values)])
    return [replace(cell, certain=(next(marks), next(marks))) for cell in cells]


def _told(on_others: Sequence[tuple[TransferCell, Metric, str]]) -> list[str]:
    """A sentence on each effect of a source on the domain of another one; of those that may all be noise, one."""
    noise: dict[tuple[str, str], list[str]] = {}
    told = []
    for cell, metric, domain in on_others:
        marks = [certain for one, certain in zip((cell.added, cell.left_out), cell.certain, strict=True) if one]
        if marks and all(certain is False for certain in marks):
            noise.setdefault((domain, metric.name), []).append(cell.source)
        else:
            told.append(_words(cell, metric, domain))
    if noise:
        which = [f"{listed(of)} on {domain} ({metric})" for (domain, metric), of in noise.items()]
        told.append(f"No more than noise, neither alone nor beside the others: {'; '.join(which)}.")
    return told


def _words(cell: TransferCell, metric: Metric, domain: str) -> str:
    """What a source does to the domain of another one."""
    better = "more" if metric.higher_is_better else "less"
    said = []
    if cell.added:
        said.append(f"added alone {with_interval(cell.added)}{_doubt(cell.certain[0])}")
    if cell.left_out:
        said.append(f"beside all others {with_interval(cell.left_out)}{_doubt(cell.certain[1])}")
    if not said:
        said.append("not known, no pair of runs shows it")
    return f"{cell.source} on {domain} ({metric.name}, {better} is better): {listed(said)}."


def _doubt(certain: bool | None) -> str:
    return "" if certain is not False else " (may be noise)"
