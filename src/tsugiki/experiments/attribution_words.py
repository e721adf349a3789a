"""An attribution's answers as sentences."""

from collections.abc import Mapping, Sequence

from tsugiki.estimates import Estimate
from tsugiki.experiment_results import Metric, cell_in_words
from tsugiki.experiments.judge_words import listed, number

ROUNDING = 1e-12
"""What is smaller is left of sums that are 0."""


def with_interval(estimate: Estimate | None) -> str:
    """+0.0214 [+0.0101, +0.0327]"""
    if estimate is None:
        return "what no run that finished tells"
    value = _signed(estimate.value)
    reach = estimate.limits()
    return f"{value} [{_signed(reach[0])}, {_signed(reach[1])}]" if reach else f"{value} [no interval known]"


def _signed(value: float) -> str:
    text = number(0.0 if abs(value) < ROUNDING else value)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def change_in_words(
    metric: Metric,
    start: Mapping[str, str],
    end: Mapping[str, str],
    total: Estimate | None,
    alone: Mapping[str, Estimate | None],
    rest: Estimate | None,
) -> str:
    """Of the change from A to B, each part alone gave so much, the rest together so much."""
    changed = [name for name in start if start[name] != end[name]]
    same = {name: level for name, level in start.items() if name not in changed}
    cells = [cell_in_words({name: cell[name] for name in changed}) for cell in (start, end)]
    at = f" (at {cell_in_words(same)})" if same else ""
    better = "more" if metric.higher_is_better else "less"
    gave = [f"{part} alone gave {with_interval(estimate)}" for part, estimate in alone.items()]
    if len(alone) > 1:
        both = "both" if len(alone) == 2 else "all"
        gave.append(f"the rest of {both} together {with_interval(rest)}")
    return (
        f"{metric.name} ({better} is better): of the change from {cells[0]} to {cells[1]}{at}, {with_interval(total)}, "
        f"{listed(gave)}."
    )


def method_in_words(
    runs: int, terms: Sequence[Sequence[str]], factors: int, seeds: int, freedom: int, effects: int
) -> str:
    """How the numbers were made, in one sentence."""
    blocks = f", {seeds} seeds as fixed blocks" if seeds > 1 else ""
    asked = "main effects and two-way interactions"
    if len(terms) < factors * (factors + 1) // 2:
        pairs = sum(len(term) == 2 for term in terms)
        asked = f"{len(terms) - pairs} main effects and {pairs} two-way interactions"
    fitted = f"Ordinary least squares over {runs} runs: {asked} of {factors} factors, effect-coded{blocks}"
    if freedom == 0:
        return (
            f"{fitted}; no interval is known, since nothing was run more often than effects need: ask for more seeds."
        )
    return (
        f"{fitted}; 95 % intervals by Student's t on {freedom} residual degrees of freedom, for trainings "
        f"anew and the same held-out items; what is called certain is corrected for all {effects} effects of the table "
        "(Holm)."
    )
