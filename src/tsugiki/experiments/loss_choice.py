"""What training loss alone would have chosen, and what that would have cost: the choice that the judge is to avoid.

Losses are compared only where they mean the same: between trials with the same data and vocabulary, at the same seed,
which draws the same samples (another seed moves the loss as much as a neighbouring learning rate does), over the last
5 % of the probe.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tsugiki.experiment_results import Cost, Judgement, LossChoice, TrialLoss
from tsugiki.experiments.comparison import ComparedMetric, decimal
from tsugiki.experiments.judge_words import listed, number
from tsugiki.experiments.measured import Measurement, Trial

STRETCH = 0.05
"""Of the probe's steps: its end, over which losses are averaged."""


@dataclass(frozen=True, eq=False)
class TrainingLosses:
    """The training loss that one run logged."""

    trial: str
    seed: int
    alike: str
    """Equal where data and vocabulary are equal: their fingerprints."""
    steps: Sequence[int]
    losses: Sequence[float]


def choose_by_loss(
    losses: Sequence[TrainingLosses],
    base: Mapping[str, Measurement],
    trials: Sequence[Trial],
    judgement: Judgement,
    *,
    last_step: int,
) -> list[LossChoice]:
    """One choice for each group of trials whose losses can be compared: two trials at least.

    `base` and `trials` as the judge had them; `last_step` is the probe's.
    """
    first_step = last_step - math.ceil(STRETCH * last_step) + 1
    ends: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    left_out = {}
    ended = {
        trial.name: f"seed {seed}: {ending.reason}"
        for trial in trials for seed, ending in trial.endings().items()
        if ending.diverged or not trial.measured()
    }  # fmt: skip
    for run in losses:
        stretch = [loss for step, loss in zip(run.steps, run.losses, strict=True) if first_step <= step <= last_step]
        if run.trial in ended:
            left_out[run.trial] = ended[run.trial]
        elif not stretch:
            left_out[run.trial] = f"seed {run.seed}: no loss of steps {first_step:,} to {last_step:,}"
        elif not all(map(math.isfinite, stretch)):
            left_out[run.trial] = f"seed {run.seed}: a loss that is not finite"
        else:
            ends[run.alike][run.trial][str(run.seed)] = math.fsum(stretch) / len(stretch)
    groups = [
        {trial: by_seed for trial, by_seed in group.items() if trial not in left_out} for group in ends.values()
    ]  # fmt: skip
    metrics = [ComparedMetric(metric, base, trials) for metric in (*judgement.gain, *judgement.keep)]
    result = []
    for group in groups:
        if len(group) > 1:
            others = {name: "other data or another vocabulary" for of in groups if of is not group for name in of}
            result.append(_choose(group, left_out | others, metrics, judgement, (first_step, last_step)))
    return result


def _choose(
    group: Mapping[str, Mapping[str, float]],
    left_out: dict[str, str],
    metrics: Sequence[ComparedMetric],
    judgement: Judgement,
    stretch: tuple[int, int],
) -> LossChoice:
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in group.values())), key=int)
    trials: tuple[TrialLoss, ...] = ()
    chosen: str | None = None
    costs: tuple[Cost, ...] = ()
    against = judgement.recommended or judgement.nearest
    if seeds:
        trials = tuple(
            TrialLoss(name, dict(by_seed), math.fsum(by_seed[seed] for seed in seeds) / len(seeds))
            for name, by_seed in group.items()
        )
        chosen = min(trials, key=lambda trial: trial.mean).trial
        if against is not None and against != chosen:
            costs = tuple(_cost(metric, chosen, against) for metric in metrics)
    by_seed = {seed: min((of[seed], name) for name, of in group.items())[1] for seed in seeds}
    words = _words(trials, chosen, by_seed, against, metrics, costs, stretch)
    return LossChoice(
        first_step=stretch[0], last_step=stretch[1], seeds=tuple(seeds), trials=trials, left_out=left_out,
        chosen=chosen, by_seed=by_seed, against=against, costs=costs, words=words,
    )  # fmt: skip


def _cost(metric: ComparedMetric, chosen: str, against: str) -> Cost:
    worse = metric.worse_by(metric.value(chosen), metric.value(against))
    return Cost(metric.metric.name, metric.between(chosen, against), float(worse))


def _words(
    trials: Sequence[TrialLoss],
    chosen: str | None,
    by_seed: Mapping[str, str],
    against: str | None,
    metrics: Sequence[ComparedMetric],
    costs: Sequence[Cost],
    stretch: tuple[int, int],
) -> str:
    if chosen is None:
        return "No seed finished in all of these trials: their losses cannot be compared."
    ranked = sorted(trials, key=lambda trial: trial.mean)
    where = f"mean of steps {stretch[0]:,} to {stretch[1]:,} at the same seed"
    lines = [f"Training loss alone ({where}) would have chosen {chosen} ({ranked[0].mean:.3f}; next {ranked[1].trial} "
             f"{ranked[1].mean:.3f})."]  # fmt: skip
    if len(set(by_seed.values())) > 1:
        choices = [f"{name} at seed {seed}" for seed, name in by_seed.items()]
        lines.append(f"Its choice depends on the seed: {listed(choices)}.")
    if against is None:
        lines.append("The judge chose none.")
    elif against == chosen:
        lines.append("So did the judge.")
    else:
        changes = []
        for metric, cost in zip(metrics, costs, strict=True):
            direction = "worse" if cost.worse_by > 0 else "better"
            by = number(abs(float(decimal(cost.worse_by))))
            changes.append(f"{metric.metric.name} {by} {direction}" if cost.worse_by else f"{metric.metric.name} equal")
        lines.append(f"Against {against}, the judge's choice, that is {listed(changes)}.")
    return " ".join(lines)
