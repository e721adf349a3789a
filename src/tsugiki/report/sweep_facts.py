"""What the page of a sweep and its Markdown both say: its folder, rates, costs, endings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.errors import RecipeError
from tsugiki.estimates import Estimate
from tsugiki.experiment_results import Cost, LossChoice
from tsugiki.pages.axes import with_minus
from tsugiki.pages.scatter import Limits
from tsugiki.recipe_yaml import read
from tsugiki.report.experiment_folder import ExperimentFolder, read_result
from tsugiki.sweep_results import FORMAT, MARKS, SWEEP_FILE, RunResult, SweepResult, TrialResult

RATE = "training.learning_rate"
WITH_THE_RATE = {RATE, "training.min_lr"}
"""Keys that are one choice together."""
LEGEND = f"Below each value the difference to the base on the same items, with half its 95 % interval. {MARKS}"


@dataclass(frozen=True)
class SweepFolder(ExperimentFolder):
    """A sweep's folder with what it holds."""

    result: SweepResult

    def rate(self, trial: TrialResult) -> float | None:
        """The peak learning rate of a trial: what it changes, or what its recipe says."""
        value: Any = trial.changes.get(RATE)
        if value is None and trial.runs and (text := self.recipe_text(trial.runs[0])) is not None:
            try:
                tree = read(text, str(self.recipe_file(trial.runs[0]))).tree
            except RecipeError:
                return None  # the page can do without
            section = tree.get("training") if isinstance(tree, dict) else None
            value = section.get("learning_rate") if isinstance(section, dict) else None
        return float(value) if isinstance(value, int | float) and value > 0 else None


def read_sweep(folder: Path) -> SweepFolder:
    """Read `sweep.json`. Raises RecipeError where it has another layout, DataError or StorageError as `read_json`."""
    return SweepFolder(folder, read_result(folder / SWEEP_FILE, SweepResult, FORMAT, "tsugiki sweep SWEEP --judge"))


def disagrees(choice: LossChoice) -> bool:
    """Whether training loss would have chosen another trial than the judge did, among those that it can compare."""
    compared = {trial.trial for trial in choice.trials}
    return choice.chosen is not None and choice.chosen != choice.against and choice.against in {*compared, None}


def breaks(result: SweepResult, name: str) -> list[str]:
    """What a trial fails by the rule, in sentences."""
    trial = next((one for one in (result.judgement.trials if result.judgement else ()) if one.name == name), None)
    if trial is None:
        return []
    said = [f"{trial.name} is not considered: {trial.excluded}."] if trial.excluded else []
    broken = []
    for verdict in (*trial.gain, *trial.keep):
        if not verdict.holds:
            worse = f"{verdict.fall:.4f} worse than" if verdict.fall > 0 else "no better than"
            allowed = f", where {verdict.tolerance:g} is allowed" if verdict in trial.keep else ""
            noise = "" if verdict.certain else " (noise could make it)"
            broken.append(f"{verdict.metric} is {worse} the base's{allowed}{noise}")
    if broken:
        said.append(f"By the rule {trial.name} fails: {'; '.join(broken)}.")
    return said


def difference(found: Estimate) -> str:
    """A difference with half its interval."""
    return with_minus(found.text())


def cost_in_words(cost: Cost) -> str:
    """Whether the choice by loss is worse or better in a metric."""
    if cost.worse_by == 0:
        return "equal"
    word = "worse" if cost.worse_by > 0 else "better"
    reach = cost.difference.limits()
    if reach is None:
        return f"{word}; no interval known"
    return f"{word}; could be noise" if reach[0] <= 0 <= reach[1] else word


def end_losses(result: SweepResult) -> dict[str, tuple[float, Limits | None]]:
    """By trial: the mean training loss at the end, and the lowest and highest seed's."""
    found = {}
    for choice in result.loss_choices:
        for trial in choice.trials:
            values = [trial.by_seed[seed] for seed in choice.seeds if seed in trial.by_seed]
            found[trial.trial] = (trial.mean, (min(values), max(values)) if len(values) > 1 else None)
    return found


def endings(result: SweepResult) -> Iterator[tuple[str, RunResult]]:
    """The runs that diverged or died, with their trials' names."""
    for trial in result.trials:
        yield from ((trial.name, run) for run in trial.runs if run.failed)


def rule_values(values: Mapping[str, str]) -> list[str]:
    """The values of a rule of thumb: one for all where they agree, else one a trial."""
    different = list(dict.fromkeys(values.values()))
    return different if len(different) <= 1 else [f"{name}: {value}" for name, value in values.items()]


def warmup_in_words(result: SweepResult) -> str:
    """How much of the probe was warm-up."""
    probe = result.probe
    share = probe.warmup_steps / probe.steps if probe.steps else 0.0
    said = (
        f"Each trial makes {probe.steps:,} of the recipe's {probe.total_steps:,} steps, {probe.warmup_steps:,} of them "
        f"({share:.0%}) in warm-up"
    )
    if share > 0.3:
        said += ", in which a rate has not been tried yet: both gain and loss are smaller than they will be"
    return said + "."
