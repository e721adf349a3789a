"""What a sweep found, as `sweep.json` holds it and reports read it (`files.read_json(path, SweepResult)`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tsugiki.experiment_results import JudgedTrial, Judgement, LossChoice

SWEEP_FILE = "sweep.json"
"""In the sweep's folder."""
MARKS = (
    "✓ holds and ✗ fails, as the rule says; in brackets where noise could make it. Marks are corrected for their "
    "number (Holm)."
)
NOTHING = "Nothing to judge yet: no trial has ended with its evaluation, or the base's evaluation is missing."
FORMAT = 1
"""Another number is another layout."""


@dataclass(frozen=True)
class Probe:
    """How far the trials ran."""

    steps: int
    total_steps: int
    """Of the recipe's whole run."""
    schedule: str
    """`full` (stopped after `steps`), `compressed`, or `whole`."""
    warmup_steps: int
    """Of a trial, at most `steps`."""
    words: str


@dataclass(frozen=True)
class SweepMetric:
    """A metric that was judged by."""

    name: str
    role: str
    """`gain` or `keep`."""
    tolerance: float | None
    """By how much it may fall, where it is to be kept."""
    higher_is_better: bool
    tasks: tuple[str, ...]
    left_out: dict[str, str]
    """Tasks that some model has no score for, and why."""

    @property
    def heading(self) -> list[str]:
        """The lines of its column: name, what it is judged by, which way is better."""
        role = "gain" if self.role == "gain" else f"keep within {self.tolerance:g}"
        return [self.name, role, *([] if self.higher_is_better else ["less is better"])]


@dataclass(frozen=True)
class RunResult:
    """One run of a trial."""

    seed: int
    run_dir: str
    recipe: str
    state: str
    """done, diverged, died, running, stopped or waiting."""
    step: int
    reason: str
    """How it ended that has not finished."""
    measured: dict[str, float]
    """By metric; empty where it has not finished."""
    end_loss: float | None
    """The last logged training loss."""
    spikes: int | None = None
    """Steps that stood out, each counted once; None where nothing was logged, or by a version that did not count."""

    @property
    def failed(self) -> bool:
        """Whether it ended, and not as it should."""
        return self.state in ("diverged", "died")

    @property
    def unended(self) -> bool:
        """Whether it has not ended yet."""
        return self.state in ("waiting", "running", "stopped")


@dataclass(frozen=True)
class TrialResult:
    """A variant of the recipe, and its runs by seed."""

    name: str
    changes: dict[str, Any]
    """By dotted recipe key."""
    runs: tuple[RunResult, ...]


@dataclass(frozen=True)
class Rule:
    """A rule of thumb: what it is for each trial, and what is known of it."""

    name: str
    values: dict[str, str]
    """By trial."""
    says: str


@dataclass(frozen=True)
class SweepResult:
    """All of it."""

    format: int
    sweep: str
    recipe: str
    directory: str
    finished: bool
    """Whether every run has ended."""
    probe: Probe
    seeds: tuple[int, ...]
    metrics: tuple[SweepMetric, ...]
    base: dict[str, float]
    """By metric."""
    trials: tuple[TrialResult, ...]
    rules: tuple[Rule, ...]
    plan: tuple[str, ...]
    """The lines that were printed before anything ran."""
    judgement: Judgement | None
    """None before the base and a run have been evaluated."""
    loss_choices: tuple[LossChoice, ...]

    @property
    def chosen(self) -> str | None:
        """The recommended trial, or the nearest one."""
        return (self.judgement.recommended or self.judgement.nearest) if self.judgement else None

    @property
    def chosen_by_loss(self) -> list[str]:
        """The trials that training loss alone would have chosen: one for each group that can be compared."""
        return [choice.chosen for choice in self.loss_choices if choice.chosen is not None]

    def notes_on(self, trial: JudgedTrial) -> list[str]:
        """What is to be said of a trial beside its name."""
        judgement = self.judgement
        assert judgement is not None
        found = {
            "recommended": trial.name == judgement.recommended, "nearest": trial.name == judgement.nearest,
            "tied": trial.tied and trial.name != judgement.recommended,
            "lowest loss": trial.name in self.chosen_by_loss, "not considered": trial.excluded is not None,
            "did not finish": not trial.gain,
        }  # fmt: skip
        return [note for note, holds in found.items() if holds]

    def remarks(self) -> Iterator[str]:
        """What a reader must know beside the table: what is missing of it, and why."""
        runs = [run for trial in self.trials for run in trial.runs]
        if waiting := sum(run.unended for run in runs):
            yield f"{waiting} of {len(runs)} runs have not ended: what is said is of the others."
        for metric in self.metrics:
            for reason in metric.left_out.values():
                yield f"{metric.name}: {reason}; left out for all."

    def changes(self) -> dict[str, dict[str, Any]]:
        """What each trial changes."""
        return {trial.name: trial.changes for trial in self.trials}
