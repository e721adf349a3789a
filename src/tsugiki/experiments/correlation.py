"""Do two metrics move together from run to run, and still so when what moves them both is taken out?

Raw correlations over a sweep of learning rates say little: higher rates forget more of everything, so that the losses
of code and arithmetic correlated at .999 in runs that had no code in the mixture. Removing the means of learning rate
and mixture leaves what they share besides.
"""

import math
from collections.abc import Sequence

import numpy as np

from tsugiki.errors import RecipeError
from tsugiki.estimates import NORMAL_QUANTILE
from tsugiki.experiment_results import Correlation
from tsugiki.experiments.attribution import Run, value_of
from tsugiki.experiments.judge_words import listed
from tsugiki.experiments.measured import Ending
from tsugiki.least_squares import Array

NOTHING_LEFT = 1e-9
"""Share of a metric's spread below which what is left of it is rounding."""


def correlate(runs: Sequence[Run], metrics: tuple[str, str], remove: Sequence[str]) -> Correlation:
    """Pearson's r over the runs that finished, and r of what is left after each factor's level means are taken out of
    both, with Fisher's interval on what degrees of freedom remain.

    Raises RecipeError for a factor that the runs do not have, DataError where a run lacks a metric.
    """
    finished = [run for run in runs if not isinstance(run.found, Ending)]
    for name in remove:
        if any(name not in run.cell for run in finished):
            raise RecipeError(f"the runs have no factor {name} whose means could be removed.")
    values = np.array([[value_of(run, metric) for metric in metrics] for run in finished]).reshape(-1, 2)
    levels = [np.ones((len(finished), 1))]
    for name in remove:
        of_runs = [run.cell[name] for run in finished]
        levels.append((np.array(of_runs)[:, None] == np.array(sorted(set(of_runs)))[None]).astype(float))
    design = np.hstack(levels)
    coefficients, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    raw = _pearson(values - values.mean(axis=0), values) if len(finished) > 2 else None
    freedom = len(finished) - int(rank)
    after = _pearson(values - design @ coefficients, values) if freedom > 2 else None
    low = high = None
    if after is not None and abs(after) < 1:
        reach = NORMAL_QUANTILE / math.sqrt(freedom - 2)
        low, high = math.tanh(math.atanh(after) - reach), math.tanh(math.atanh(after) + reach)
    return Correlation(
        metrics=metrics, runs=len(finished), raw=raw, removed=tuple(remove), after=after, after_low=low,
        after_high=high, words=_words(metrics, len(finished), raw, remove, after, low, high),
    )  # fmt: skip


def _pearson(rest: Array, values: Array) -> float | None:
    """Of the two columns of `rest`, whose means are 0; None where one has no spread but rounding."""
    lengths = np.linalg.norm(rest, axis=0)
    if (lengths <= NOTHING_LEFT * np.linalg.norm(values, axis=0)).any():
        return None
    return float(np.clip(rest[:, 0] @ rest[:, 1] / lengths.prod(), -1, 1))


def _words(
    metrics: tuple[str, str], runs: int, raw: float | None, remove: Sequence[str],
    after: float | None, low: float | None, high: float | None,
) -> str:  # fmt: skip
    both = f"{metrics[0]} and {metrics[1]}"
    if raw is None:
        return f"Over {runs} runs {both} have no correlation that could be computed."
    first = f"Over {runs} runs {both} correlate at {raw:.3f}"
    taken = f"after the means of {listed(list(remove))} are removed"
    if after is None:
        return f"{first}; {taken}, nothing is left to correlate."
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"{first}; {taken}, at {after:.3f}{interval}."
