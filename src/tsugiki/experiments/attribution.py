"""What made the difference: main effects, two-way interactions, and the change from one cell to another in parts.

Ordinary least squares on each metric, seeds as blocks. Two codings answer two questions. Effect-coded: what does a
factor do on average over all levels of the others? From a cell, 0/1: of the change from A to B, what would each part
alone have made, and what came only from changing them together?
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tsugiki.errors import DataError, RecipeError
from tsugiki.estimates import Estimate, holm, is_certain
from tsugiki.experiment_results import Attribution, Decomposition, Effect, LevelMean, Metric, cell_in_words
from tsugiki.experiments.attribution_design import (
    Cell,
    Factor,
    Term,
    all_terms,
    columns,
    full_design,
    name_of,
    refuse_aliased,
    require_identifiable,
    two_way_terms,
)
from tsugiki.experiments.attribution_words import change_in_words, method_in_words
from tsugiki.experiments.measured import Ending, metric_of
from tsugiki.least_squares import Array, PartialFit, effect_columns, partial_fit


@dataclass(frozen=True, eq=False)
class Run:
    """One run of the experiment."""

    cell: Cell
    seed: int
    found: Mapping[str, float] | Ending
    """By metric, or how it ended without any."""


@dataclass(frozen=True)
class Comparison:
    """Two cells whose difference is to be explained."""

    start: Cell
    end: Cell
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What counts as one: {"data": ["mathematics", "code"]}. Factors that are in none are parts of their own."""


def attribute(
    factors: Sequence[Factor],
    runs: Sequence[Run],
    metrics: Sequence[Metric],
    comparisons: Sequence[Comparison] = (),
    terms: Sequence[Term] | None = None,
) -> Attribution:
    """All of it, on every metric. `terms`: main effects and two-way interactions that are asked; all, if None.

    What only runs would tell that did not finish is left out, and named. Raises RecipeError where all runs together,
    finished or not, cannot tell apart what is asked, DataError where a run lacks a metric or no run finished,
    ValueError where a cell was run twice at one seed.
    """
    terms = two_way_terms(factors) if terms is None else terms
    if len({(tuple(sorted(run.cell.items())), run.seed) for run in runs}) < len(runs):
        raise ValueError("a cell was run twice at one seed")
    finished = [run for run in runs if not isinstance(run.found, Ending)]
    left_out = {
        f"{cell_in_words(run.cell)}, seed {run.seed}": run.found.reason
        for run in runs if isinstance(run.found, Ending)
    }  # fmt: skip
    if not finished:
        raise DataError("No run of the experiment finished: there is nothing to attribute.")
    _Model(factors, terms, runs).require_identifiable()
    for comparison in comparisons:
        require_comparable(factors, [run.cell for run in runs], terms, comparison)
    alive = _alive(factors, finished)
    names = {factor.name for factor in alive}
    model = _Model(alive, [term for term in terms if names.issuperset(term)], finished)
    effects: list[Effect] = []
    means: list[LevelMean] = []
    grand: dict[str, Estimate] = {}
    untold = [
        f"{factor.name} {level}" for factor in factors for level in factor.levels
        if not any(run.cell[factor.name] == level for run in finished)
    ]  # fmt: skip
    decompositions: list[Decomposition] = []
    for metric in metrics:
        found = model.fit(metric.name)
        for term, levels, weights in _contrasts(model):
            estimate = found.combination(weights)
            if estimate is None:
                untold.append(f"{name_of(term)}, {levels}")
            else:
                effects.append(Effect(metric.name, name_of(term), levels, estimate, certain=None))
        for factor in alive:
            for level in factor.levels:
                estimate = found.combination(model.average({factor.name: level}))
                if estimate is None:
                    untold.append(f"the mean of {factor.name} {level}")
                else:
                    means.append(LevelMean(metric.name, factor.name, level, estimate))
        whole = found.combination(model.average({}))
        if whole is not None:
            grand[metric.name] = whole
    for comparison in comparisons:
        decompositions += _decompose(factors, finished, metrics, comparison, terms)
    cells = {cell_in_words(run.cell): None for run in runs}
    done = {cell_in_words(run.cell) for run in finished}
    marks = holm([effect.estimate.p_value() for effect in effects])
    return Attribution(
        factors={factor.name: factor.levels for factor in factors}, metrics=tuple(metrics),
        seeds=tuple(map(str, model.seeds)), runs=len(finished), left_out=left_out,
        missing=tuple(cell for cell in cells if cell not in done), untold=tuple(dict.fromkeys(untold)),
        effects=tuple(replace(effect, certain=is_certain(p)) for effect, p in zip(effects, marks, strict=True)),
        means=tuple(means), grand_mean=grand, decompositions=tuple(decompositions),
        method=method_in_words(len(finished), model.terms, len(alive), len(model.seeds), model.freedom, len(effects)),
    )  # fmt: skip


def _alive(factors: Sequence[Factor], finished: Sequence[Run]) -> list[Factor]:
    """The factors with the levels of which some run finished, where that leaves two: averages go over these."""
    found = []
    for factor in factors:
        levels = tuple(level for level in factor.levels if any(run.cell[factor.name] == level for run in finished))
        if len(levels) > 1:
            found.append(Factor(factor.name, levels))
    return found


class _Model:
    """The columns of some terms and of the seeds' blocks over the runs, and any cell in the same columns."""

    def __init__(self, factors: Sequence[Factor], terms: Sequence[Term], runs: Sequence[Run]) -> None:
        self.factors, self.terms, self._runs = factors, terms, runs
        self.seeds = sorted({run.seed for run in runs})
        design, owners = columns(factors, terms, [run.cell for run in runs])
        blocks = effect_columns([self.seeds.index(run.seed) for run in runs], len(self.seeds))
        self._design = np.hstack([design, blocks])
        self._names = [*map(name_of, owners), *["the seeds"] * blocks.shape[1]]
        rank = int(np.linalg.matrix_rank(self._design))
        self.freedom = len(runs) - rank
        self.full = rank == self._design.shape[1]
        """Whether the runs tell every column."""
        self._everything = full_design(factors)
        self._coded = self._rows(self._everything)

    def require_identifiable(self) -> None:
        """Raises RecipeError with the names of what the runs cannot tell apart."""
        refuse_aliased(self._design, self._names)

    def fit(self, metric: str) -> PartialFit:
        return partial_fit(self._design, np.array([value_of(run, metric) for run in self._runs]))

    def cell(self, cell: Cell) -> Array:
        """The weights that make a cell's expected value, over seeds."""
        return self._rows([cell])[0]

    def average(self, fixed: Cell) -> Array:
        """The same for the mean of all cells that have some levels, each counted once."""
        chosen = [all(cell[name] == level for name, level in fixed.items()) for cell in self._everything]
        return self._coded[chosen].mean(axis=0)

    def _rows(self, cells: Sequence[Cell]) -> Array:
        coded, _ = columns(self.factors, self.terms, cells)
        return np.hstack([coded, np.zeros((len(cells), len(self.seeds) - 1))])


def value_of(run: Run, metric: str) -> float:
    """A metric of a run that finished. Raises DataError if it was not measured."""
    assert not isinstance(run.found, Ending)
    return metric_of(run.found, metric, f"the run {cell_in_words(run.cell)}, seed {run.seed}")


def _contrasts(model: _Model) -> Iterator[tuple[Term, str, Array]]:
    """Of each term, what is compared in words, and the weights that compare it."""
    by_name = {factor.name: factor for factor in model.factors}
    for term in model.terms:
        first, *second = (by_name[name] for name in term)
        base = first.levels[0]
        for level in first.levels[1:]:

            def change(at: Cell, factor: Factor = first, level: str = level) -> Array:
                levels = ({**at, factor.name: level}, {**at, factor.name: factor.levels[0]})
                return model.average(levels[0]) - model.average(levels[1])

            if not second:
                yield term, f"{level} - {base}", change({})
            for other in second:
                for place in other.levels[1:]:
                    weights = change({other.name: place}) - change({other.name: other.levels[0]})
                    yield term, f"({level} - {base}) at {place} minus at {other.levels[0]}", weights


def require_comparable(
    factors: Sequence[Factor], cells: Sequence[Cell], terms: Sequence[Term], comparison: Comparison
) -> None:
    """Raises RecipeError for a comparison of cells or parts that do not exist, or that runs of these cells cannot
    answer."""
    for cell in (comparison.start, comparison.end):
        unknown = [name for name in cell if name not in {factor.name for factor in factors}]
        if unknown:
            raise RecipeError(_no_factor(unknown[0], factors))
        columns(factors, [], [cell])  # which refuses levels that do not exist
    parts = _parts(factors, comparison)
    require_identifiable(factors, cells, _terms_of_change(terms, parts))


def _no_factor(name: str, factors: Sequence[Factor]) -> str:
    return f"there is no factor {name} among {', '.join(sorted(factor.name for factor in factors))}."


def _parts(factors: Sequence[Factor], comparison: Comparison) -> dict[str, list[str]]:
    """The factors that change, by the part that they belong to. Raises RecipeError."""
    start, end = comparison.start, comparison.end
    known = {factor.name for factor in factors}
    unknown = [name for names in comparison.parts.values() for name in names if name not in known]
    if unknown:
        raise RecipeError(_no_factor(unknown[0], factors))
    changing = [factor.name for factor in factors if start.get(factor.name) != end.get(factor.name)]
    parts = {part: [name for name in names if name in changing] for part, names in comparison.parts.items()}
    parts = {part: names for part, names in parts.items() if names}
    grouped = [name for names in parts.values() for name in names]
    if len(set(grouped)) < len(grouped):
        raise RecipeError("a factor belongs to two parts of one comparison; give it to one.")
    parts |= {name: [name] for name in changing if name not in grouped}
    if not parts:
        raise RecipeError(f"both cells of a comparison are {cell_in_words(start)}: name two different ones.")
    return parts


def _terms_of_change(terms: Sequence[Term], parts: Mapping[str, Sequence[str]]) -> list[Term]:
    """With every interaction of the factors that change: a cell's own value, not what two at a time make of it."""
    changing = [name for names in parts.values() for name in names]
    known = [set(term) for term in terms]
    return [*terms, *(term for term in all_terms(changing) if set(term) not in known)]


def _decompose(
    factors: Sequence[Factor],
    runs: Sequence[Run],
    metrics: Sequence[Metric],
    comparison: Comparison,
    terms: Sequence[Term],
) -> list[Decomposition]:
    start, end, parts = comparison.start, comparison.end, _parts(factors, comparison)
    model = _Model(factors, _terms_of_change(terms, parts), runs)
    saturated = _Model(factors, list(all_terms([factor.name for factor in factors])), runs)
    if saturated.full and saturated.freedom > 0:
        # Every cell is its own mean. What main effects and pairs make of a cell can lie far from it: where a share is
        # near 0 or 1, beyond them.
        model = saturated
    origin = model.cell(start)
    total = model.cell(end) - origin
    weights = {
        part: model.cell({**start, **{name: end[name] for name in names}}) - origin for part, names in parts.items()
    }  # fmt: skip
    result = []
    for metric in metrics:
        found = model.fit(metric.name)
        whole = found.combination(total)
        alone = {part: told for part, of_it in weights.items() if (told := found.combination(of_it)) is not None}
        rest = found.combination(total - sum(weights.values())) if len(parts) > 1 else None
        words = change_in_words(metric, start, end, whole, {part: alone.get(part) for part in parts}, rest)
        result.append(Decomposition(metric.name, dict(start), dict(end), whole, alone, rest, words))
    return result
