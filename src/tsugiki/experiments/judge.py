"""Which trial of a sweep to take: by what it gains in the new language and what it loses of the old, never by its loss.

The rule, applied to point values (means over seeds): the first gain metric must be better than the base's, the others
not worse; a keep metric may fall by its tolerance. Intervals do two things only: each verdict says whether it is more
than noise, corrected for all verdicts of the table; and trials that the first gain metric cannot tell from the best are
tied, and the one that loses least is taken. No rule that asks for certainty could choose anything at usual sizes: 250
items of mgsm at .18 have a standard error of .034.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from tsugiki.estimates import holm, is_certain
from tsugiki.experiment_results import JudgedTrial, Judgement, Metric, Verdict
from tsugiki.experiments.comparison import ComparedMetric, decimal
from tsugiki.experiments.judge_words import choice_in_words, rule_in_words
from tsugiki.experiments.measured import Measurement, Trial

ZERO = Decimal(0)
INFINITE = Decimal("Infinity")


def judge(
    base: Mapping[str, Measurement],
    trials: Sequence[Trial],
    gain: Sequence[Metric],
    keep: Mapping[Metric, float],
) -> Judgement:
    """The table of a sweep and its choice; `base` by metric, `keep` with tolerances in the metrics' own units.

    Raises DataError where a model lacks a metric or was asked other items, ValueError without a gain metric, with a
    negative tolerance, or with two trials of one name.
    """
    if not gain or any(tolerance < 0 for tolerance in keep.values()):
        raise ValueError("a judge needs a gain metric, and tolerances of 0 or more")
    if len({trial.name for trial in trials}) < len(trials):
        raise ValueError("two trials have the same name")
    compared = {metric: ComparedMetric(metric, base, trials) for metric in (*gain, *keep)}
    judged = _corrected([_judge(trial, compared, gain, keep) for trial in trials], list(compared))
    judged = _with_ties(judged, compared[gain[0]])
    recommended = _recommended(judged)
    nearest = None if recommended else _nearest(judged)
    candidates = [trial for trial in judged if trial.gain and trial.excluded is None]
    result = Judgement(
        gain=tuple(gain), keep=tuple(keep),
        base={metric.name: float(of.base) for metric, of in compared.items()},
        trials=tuple(judged), recommended=recommended, nearest=nearest,
        beats=_beaten_by(recommended or nearest, candidates, list(compared.values())),
        fronts={metric.name: _front(candidates, compared[gain[0]], compared[metric]) for metric in keep},
        rule=rule_in_words(gain, keep), choice="",
    )  # fmt: skip
    return replace(result, choice=choice_in_words(result))


def _judge(
    trial: Trial, compared: Mapping[Metric, ComparedMetric], gain: Sequence[Metric], keep: Mapping[Metric, float]
) -> JudgedTrial:
    endings = trial.endings()
    diverged = [f"seed {seed}: {ending.reason}" for seed, ending in endings.items() if ending.diverged]
    gains: tuple[Verdict, ...] = ()
    keeps: tuple[Verdict, ...] = ()
    excluded = "; ".join(diverged) or None
    if trial.measured():
        gains = tuple(_verdict(trial.name, compared[metric], 0.0, must_gain=metric == gain[0]) for metric in gain)
        keeps = tuple(_verdict(trial.name, compared[metric], tolerance) for metric, tolerance in keep.items())
    elif excluded is None:
        excluded = "; ".join(f"seed {seed}: {ending.reason}" for seed, ending in endings.items()) or "no run finished"
    units = _units(keeps)
    return JudgedTrial(
        name=trial.name, endings={str(seed): ending.reason for seed, ending in endings.items()}, excluded=excluded,
        gain=gains, keep=keeps,
        gains=bool(gains) and all(verdict.holds for verdict in gains),
        keeps=bool(gains) and all(verdict.holds for verdict in keeps),
        worst_fall=float(units) if units.is_finite() else None,
        worst_excess=max((verdict.excess for verdict in keeps), default=None), from_best=None, tied=False,
    )  # fmt: skip


def _verdict(trial: str, compared: ComparedMetric, tolerance: float, *, must_gain: bool = False) -> Verdict:
    value = compared.value(trial)
    fall = compared.worse_by(value, compared.base)
    excess = fall - decimal(tolerance)
    return Verdict(
        metric=compared.metric.name, value=float(value), by_seed=compared.by_seed(trial),
        difference=compared.against_base(trial), tolerance=tolerance, fall=float(fall), excess=float(excess),
        holds=fall < 0 if must_gain else excess <= 0, certain=None,  # until the table is complete
    )  # fmt: skip


def _corrected(trials: Sequence[JudgedTrial], metrics: Sequence[Metric]) -> list[JudgedTrial]:
    """With each verdict marked where it is more than noise, all verdicts of the table taken together (Holm)."""
    verdicts = [verdict for trial in trials for verdict in (*trial.gain, *trial.keep)]
    better_up = {metric.name: metric.higher_is_better for metric in metrics}
    p_values = [_p_value(verdict, better_up[verdict.metric]) for verdict in verdicts]
    marks = iter([is_certain(adjusted) for adjusted in holm(p_values)])
    return [
        replace(
            trial,
            gain=tuple(replace(verdict, certain=next(marks)) for verdict in trial.gain),
            keep=tuple(replace(verdict, certain=next(marks)) for verdict in trial.keep),
        )
        for trial in trials
    ]


def _p_value(verdict: Verdict, higher_is_better: bool) -> float | None:
    """Of a true difference at the verdict's boundary. From items alone or seeds alone nothing is certain: such
    intervals are too narrow."""
    if verdict.difference.basis != "items and seeds":
        return None
    return verdict.difference.p_value(-verdict.tolerance if higher_is_better else verdict.tolerance)


def _units(keeps: Sequence[Verdict]) -> Decimal:
    """The worst fall in units of its tolerance: infinite where what may not fall at all has fallen, and least where no
    metric has a tolerance."""
    units = [decimal(verdict.fall) / decimal(verdict.tolerance) for verdict in keeps if verdict.tolerance > 0]
    if any(verdict.tolerance == 0 and verdict.fall > 0 for verdict in keeps):
        return INFINITE
    return max(units, default=-INFINITE)


def _with_ties(trials: Sequence[JudgedTrial], first: ComparedMetric) -> list[JudgedTrial]:
    eligible = [trial for trial in trials if trial.gains and trial.keeps and trial.excluded is None]
    if not eligible:
        return list(trials)
    best = min(eligible, key=lambda trial: trial.gain[0].fall)
    result = []
    for trial in trials:
        if trial.gain:
            away = first.between(trial.name, best.name)
            same = away.contains(0) or away.value == 0  # the best one is the same as itself
            tied = same and trial.gains and trial.keeps and trial.excluded is None
            trial = replace(trial, from_best=away, tied=tied)
        result.append(trial)
    return result


def _recommended(trials: Sequence[JudgedTrial]) -> str | None:
    tied = [trial for trial in trials if trial.tied]
    return min(tied, key=lambda trial: (_units(trial.keep), trial.gain[0].fall)).name if tied else None


def _nearest(trials: Sequence[JudgedTrial]) -> str | None:
    """Among those that gain, the smallest worst excess. It is compared in units of tolerance as falls are, since half a
    bit per byte and half a share of right answers are not alike; then as it is."""
    gaining = [trial for trial in trials if trial.gains and trial.excluded is None]

    def distance(trial: JudgedTrial) -> tuple[Decimal, float, float]:
        return _units(trial.keep), trial.worst_excess or 0.0, trial.gain[0].fall

    return min(gaining, key=distance).name if gaining else None


def _beaten_by(name: str | None, trials: Sequence[JudgedTrial], compared: Sequence[ComparedMetric]) -> tuple[str, ...]:
    if name is None:
        return ()
    return tuple(
        other.name for other in trials
        if all(metric.worse_by(metric.value(other.name), metric.value(name)) > ZERO for metric in compared)
    )  # fmt: skip


def _front(trials: Sequence[JudgedTrial], gain: ComparedMetric, keep: ComparedMetric) -> tuple[str, ...]:
    """Pareto's: trials that no other is better than in one of two metrics and not worse in the other."""

    def betters(one: str, other: str) -> bool:
        worse = [of.worse_by(of.value(other), of.value(one)) for of in (gain, keep)]
        return min(worse) >= ZERO and max(worse) > ZERO

    return tuple(trial.name for trial in trials if not any(betters(other.name, trial.name) for other in trials))
