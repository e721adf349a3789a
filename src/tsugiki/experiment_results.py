"""What sweeps and attributions find, as they write it and reports read it: plain JSON by `dataclasses.asdict`.

Differences are in a metric's own units, the first model minus the second: bits per byte that get better are negative.
A *fall* or an *excess* is positive where a model is worse, whatever the metric's direction. Names of seeds are text,
as in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tsugiki.estimates import Estimate


def cell_in_words(cell: Mapping[str, str]) -> str:
    """`mathematics yes, learning rate 3e-3`: a level for each of some factors."""
    return ", ".join(f"{name} {level}" for name, level in cell.items())


@dataclass(frozen=True)
class Metric:
    """What is measured, as the sweep file names it: `suite:ja`, `bits_per_byte:en`, `mgsm`."""

    name: str
    higher_is_better: bool = True


@dataclass(frozen=True)
class Verdict:
    """One metric of one trial against the base."""

    metric: str
    value: float
    """The mean over seeds."""
    by_seed: dict[str, float]
    difference: Estimate
    """The trial minus the base, on the same items."""
    tolerance: float
    """By how much it may fall: 0 for a metric that should gain."""
    fall: float
    """By how much the point value is worse than the base; negative where it is better."""
    excess: float
    """fall - tolerance; `holds` up to 0."""
    holds: bool
    """The first gain metric is above the base; another is not below it; a keep metric fell by its tolerance at most."""
    certain: bool | None
    """Whether this verdict is more than noise, corrected for all verdicts of the table; None: no interval is known."""

    @property
    def mark(self) -> str:
        """✓ or ✗; in brackets where noise could make it."""
        sign = "✓" if self.holds else "✗"
        return sign if self.certain else f"({sign})"


@dataclass(frozen=True)
class JudgedTrial:
    """A trial in the table, in the order of the sweep file."""

    name: str
    endings: dict[str, str]
    """By seed, how a run ended that did not finish: "diverged at step 812", "killed by signal 9"."""
    excluded: str | None
    """Why it cannot be chosen whatever its values; None for most."""
    gain: tuple[Verdict, ...]
    keep: tuple[Verdict, ...]
    """Both empty where no run finished."""
    gains: bool
    keeps: bool
    worst_fall: float | None
    """The largest fall of a keep metric, in units of its tolerance; None without keep metrics that have one."""
    worst_excess: float | None
    """The largest excess of a keep metric."""
    from_best: Estimate | None
    """Its first gain metric minus that of the best trial among those that gain and keep."""
    tied: bool
    """Gains and keeps, and `from_best` contains 0 (the best one included)."""


@dataclass(frozen=True)
class Judgement:
    """The table of a sweep, and what follows from it."""

    gain: tuple[Metric, ...]
    keep: tuple[Metric, ...]
    base: dict[str, float]
    """By metric."""
    trials: tuple[JudgedTrial, ...]
    recommended: str | None
    nearest: str | None
    """Where none gains and keeps: the one among those that gain that comes nearest to keeping."""
    beats: tuple[str, ...]
    """The trials that the recommended or nearest one beats in every metric, by point values."""
    fronts: dict[str, tuple[str, ...]]
    """By keep metric, the trials that no other one betters both in it and in the first gain metric."""
    rule: str
    """In one sentence."""
    choice: str
    """What the rule chose, and why, in words."""


@dataclass(frozen=True)
class TrialLoss:
    """Mean training loss of one trial at the end of the probe."""

    trial: str
    by_seed: dict[str, float]
    mean: float
    """Over the seeds that all trials compared have."""


@dataclass(frozen=True)
class Cost:
    """What the choice by loss is worse by."""

    metric: str
    difference: Estimate
    """The choice by loss minus the judge's."""
    worse_by: float
    """Negative where it is better."""


@dataclass(frozen=True)
class LossChoice:
    """What training loss alone would have chosen among trials with the same data and vocabulary."""

    first_step: int
    last_step: int
    """Of the stretch that the means are over, both included."""
    seeds: tuple[str, ...]
    trials: tuple[TrialLoss, ...]
    left_out: dict[str, str]
    """Trials that have no such loss or none to compare with, and why."""
    chosen: str | None
    by_seed: dict[str, str]
    """The trial with the lowest loss at each seed."""
    against: str | None
    """The judge's recommended or nearest trial."""
    costs: tuple[Cost, ...]
    words: str


@dataclass(frozen=True)
class Effect:
    """A main effect or a two-way interaction on one metric, effect-coded: averaged over all other factors."""

    metric: str
    term: str
    """`mathematics` or `mathematics × learning rate`."""
    levels: str
    """What is compared: `yes - no`, or `(yes - no) at 3e-3 minus at 3e-4`."""
    estimate: Estimate
    certain: bool | None
    """More than noise, corrected for all effects of the table; None: no interval is known."""


@dataclass(frozen=True)
class LevelMean:
    """The mean of a metric at one level of a factor, every combination of the others counted alike."""

    metric: str
    factor: str
    level: str
    estimate: Estimate


@dataclass(frozen=True)
class Decomposition:
    """Of the change from cell A to cell B, what each part alone makes (0/1 coding from A), and the rest together."""

    metric: str
    start: dict[str, str]
    end: dict[str, str]
    """Level by factor."""
    total: Estimate | None
    """None where the runs that finished do not tell it; parts of which that holds are not in `alone`."""
    alone: dict[str, Estimate]
    """By part (a factor, or several under one name)."""
    rest: Estimate | None
    """None where the cells differ in one part only, too."""
    words: str


@dataclass(frozen=True)
class Attribution:
    """A factorial experiment, answered."""

    factors: dict[str, tuple[str, ...]]
    metrics: tuple[Metric, ...]
    seeds: tuple[str, ...]
    runs: int
    left_out: dict[str, str]
    """Runs that diverged, died or have not ended, and why; they are in no estimate."""
    missing: tuple[str, ...]
    """Cells of which no run finished."""
    untold: tuple[str, ...]
    """Levels of which no run finished, which no mean and effect takes in, and what else the others do not tell."""
    effects: tuple[Effect, ...]
    means: tuple[LevelMean, ...]
    grand_mean: dict[str, Estimate]
    """By metric: every combination of levels counted alike."""
    decompositions: tuple[Decomposition, ...]
    method: str
    """In one sentence."""


@dataclass(frozen=True)
class TransferCell:
    """What one source does to one domain."""

    source: str
    metric: str
    added: Estimate | None
    """With this source alone added to the common mixture, minus without; None where no such pair was run."""
    left_out: Estimate | None
    """All sources minus all but this one."""
    certain: tuple[bool | None, bool | None]
    """Of `added` and `left_out`, corrected for the whole matrix."""


@dataclass(frozen=True)
class Transfer:
    """The source x domain matrix."""

    sources: tuple[str, ...]
    metrics: tuple[Metric, ...]
    cells: tuple[TransferCell, ...]
    words: tuple[str, ...]
    """One sentence for each pair of a source and the domain of another one."""


@dataclass(frozen=True)
class Correlation:
    """Of two metrics over runs: as they are, and after removing what the named factors' means make."""

    metrics: tuple[str, str]
    runs: int
    raw: float | None
    removed: tuple[str, ...]
    """The factors whose means were taken out."""
    after: float | None
    """None where nothing is left to vary."""
    after_low: float | None
    after_high: float | None
    words: str
