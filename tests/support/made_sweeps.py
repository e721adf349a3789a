"""Made-up results of sweeps, as `sweep.json` holds them."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tsugiki.estimates import Estimate
from tsugiki.experiment_results import Cost, JudgedTrial, Judgement, LossChoice, Metric, TrialLoss, Verdict
from tsugiki.files import write_json
from tsugiki.sweep_results import Probe, Rule, RunResult, SweepMetric, SweepResult, TrialResult

BASE = {"bits_per_byte:ja": 3.0, "suite:en": 0.5}
RATES = {"low": 1e-4, "middle": 1e-3, "high": 1e-2}
SCORES = {"low": (2.9, 0.51), "middle": (2.5, 0.48), "high": (2.4, 0.39)}
"""Bits per byte of ja (the gain) and the suite of en, which may fall by .05."""
LOSSES = {"low": 5.0, "middle": 4.5, "high": 4.4}


def estimate(value: float, half: float | None) -> Estimate:
    if half is None:
        return Estimate(value)
    return Estimate(value, half / 2, 10.0, value - half, value + half, "items and seeds")


def verdict(metric: str, value: float, half: float | None) -> Verdict:
    difference = value - BASE[metric]
    fall = difference if metric == "bits_per_byte:ja" else -difference
    tolerance = 0.0 if metric == "bits_per_byte:ja" else 0.05
    excess = fall - tolerance
    certain = None if half is None else abs(excess) > half
    return Verdict(
        metric, value, {"1": value}, estimate(difference, half), tolerance, fall, excess, excess <= 0, certain
    )


def judged(name: str, half: float | None) -> JudgedTrial:
    gain, keep = (verdict(metric, value, half) for metric, value in zip(BASE, SCORES[name], strict=True))
    return JudgedTrial(
        name,
        {},
        None,
        (gain,),
        (keep,),
        gain.holds,
        keep.holds,
        keep.fall / 0.05,
        keep.excess,
        estimate(0.0, half),
        False,
    )


def made_sweep(
    *, names: tuple[str, ...] = ("low", "middle", "high"), called: Mapping[str, str] | None = None,
    half: float | None = 0.02, failed: Mapping[str, str] | None = None, judge: bool = True, recommended: str | None = "middle",
) -> SweepResult:  # fmt: skip
    """A sweep of `names` (of RATES), which are shown as `called` says; `failed` trials with their reasons beside them;
    `half`: half of every interval, None for none."""
    called, failed = called or {}, failed or {}
    titles = {name: called.get(name, name) for name in names}
    trials = [judged(name, half) for name in names]
    trials = [JudgedTrial(**{**vars(one), "name": titles[one.name]}) for one in trials]
    trials += [
        JudgedTrial(name, {"1": why}, f"seed 1: {why}", (), (), False, False, None, None, None, False)
        for name, why in failed.items()
    ]  # fmt: skip
    metrics = (SweepMetric("bits_per_byte:ja", "gain", None, False, ("text",), {}),
               SweepMetric("suite:en", "keep", 0.05, True, ("order_en",), {}))  # fmt: skip
    by_loss = titles[names[-1]]
    against = titles[recommended] if recommended else None
    choice = LossChoice(
        96, 100, ("1",), tuple(TrialLoss(titles[name], {"1": LOSSES[name]}, LOSSES[name]) for name in names), {}, by_loss, {"1": by_loss},
        against, (Cost("suite:en", estimate(-0.09, half), 0.09),) if against not in (None, by_loss) else (),
        f"Training loss alone would have chosen {by_loss}.",
    )  # fmt: skip
    judgement = Judgement(
        (Metric("bits_per_byte:ja", False),), (Metric("suite:en"),), BASE, tuple(trials), against, None, (),
        {"suite:en": tuple(titles.values())}, "The rule.", f"{against} is recommended." if against else "No trial gains.",
    )  # fmt: skip
    runs = [
        TrialResult(titles[name], {"training.learning_rate": RATES[name]}, (
            RunResult(1, f"runs/sweep/{name}-seed-1", f"runs/sweep/{name}-seed-1.yaml", "done", 100, "",
                      dict(zip(BASE, SCORES[name], strict=True)), LOSSES[name]),
        ))
        for name in names
    ]  # fmt: skip
    runs += [
        TrialResult(name, {"training.learning_rate": 0.5}, (
            RunResult(1, f"runs/sweep/{place}", f"runs/sweep/{place}.yaml", "diverged", 12, why, {}, None),
        ))
        for place, (name, why) in enumerate(failed.items())
    ]  # fmt: skip
    return SweepResult(
        1, "sweep.yaml", "recipe.yaml", "runs/sweep", judge, Probe(100, 1000, "full", 40, ""), (1,), metrics, BASE,
        tuple(runs), (Rule("replay", dict.fromkeys(titles.values(), "30% en"), "What is known."),),
        ("sweep      3 trials",), judgement if judge else None, (choice,) if judge and len(names) > 1 else (),
    )  # fmt: skip


def write_sweep(folder: Path, result: SweepResult) -> Path:
    """The folder with its `sweep.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sweep.json", asdict(result))
    return folder
