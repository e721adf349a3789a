"""The order of training data as a pure function: global sample number → stage, source, epoch, window.

Nothing is shuffled, built or remembered. For sample g the rule (version 1) is:

1. The stage is the last one that starts at or before g; k = g - its start.
2. The source is that of place k mod P in the stage's period (`apportionment`), P long; sources are taken in the
   order of their names, so the order in a file does not matter.
3. Its draw number counts earlier draws of this source: those before the stage + whole periods × draws a period
   + draws earlier in this period.
4. With n windows, epoch = draw div n and position = draw mod n.
5. The window is `permute(key, n, position)`, with a key of its own for every (seed, source name, epoch).

So the k-th window drawn from a source depends on the seed, its name and its size alone: neither other sources nor
weights, stages, length of the run, number of processes or restarts change it. A later stage changes nothing before
it. Inside a stage, each source is less than one window away from its share after every sample.

Which samples a run reads is a second, smaller matter: all of them in order, but those that it steps over (`stepping`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from tsugiki.corpus.apportionment import WEIGHT_DENOMINATOR, period, round_weights
from tsugiki.corpus.permutation import mix, permute
from tsugiki.corpus.stepping import below, merged, reached, sample_numbers
from tsugiki.errors import DataError, RecipeError

if TYPE_CHECKING:
    from tsugiki.corpus.store import TokenStore
    from tsugiki.recipe import Recipe

RULE_VERSION = 1
"""Number of the rule above, stored in every checkpoint: another rule would silently give another order."""


@dataclass(frozen=True)
class MixtureStage:
    """From global sample `start_sample` on, these weights (any unit; a source not named has weight 0)."""

    start_sample: int
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Drawn:
    """Where samples come from; every array is [n], in the order of the samples asked for."""

    source: NDArray[np.int16]  # index into `Mixture.names`
    epoch: NDArray[np.int64]  # how often the source had been read through before
    window: NDArray[np.int64]  # window of the source's store
    stage: NDArray[np.int16]
    draw: NDArray[np.int64]  # how many windows of this source were drawn before this one


@dataclass(frozen=True)
class SourcePlan:
    """What a run of a given length takes from one source."""

    name: str
    samples: int  # windows drawn, with those that are stepped over
    epochs: float  # samples / windows that the source has
    share: float  # samples / all samples

    def __str__(self) -> str:
        return f"{self.name}: {self.share:.2%}, {self.samples:,} windows, {self.epochs:.2f} epochs"


class Mixture:
    """Windows of several sources in one order.

    Args:
        seed: of the order; any whole number.
        windows: number of windows that each source has.
        stages: in order of their start; the first starts at sample 0, each later one after its predecessor.
        max_epochs: limits that `check` enforces; None or absent means no limit.
        skip: ranges [a, b) of global sample numbers that the run steps over, in any order.

    Raises RecipeError for stages out of order, unknown sources or unusable weights, and DataError for a source that
    is to be drawn but has no window.
    """

    def __init__(
        self,
        seed: int,
        windows: Mapping[str, int],
        stages: Sequence[MixtureStage],
        max_epochs: Mapping[str, float | None] | None = None,
        skip: Iterable[Sequence[int]] = (),
    ):
        self.seed = seed
        self.names: tuple[str, ...] = tuple(sorted(windows))
        self.windows = {name: int(windows[name]) for name in self.names}
        self.max_epochs = dict(max_epochs or {})
        self.skip = merged(skip)
        self._check_stages(stages)
        self.weights = [round_weights({name: stage.weights.get(name, 0.0) for name in self.names}) for stage in stages]
        self._check_not_empty()

        self._sizes = np.array([max(self.windows[name], 1) for name in self.names], dtype=np.int64)
        self._keys = np.array([_source_key(seed, name) for name in self.names], dtype=np.uint64)
        self._starts = np.array([stage.start_sample for stage in stages], dtype=np.int64)  # [stages]
        self._periods = [period([weights[name] for name in self.names]) for weights in self.weights]
        self._lengths = np.array([table.length for table in self._periods], dtype=np.int64)
        self._per_period = np.stack([table.weights for table in self._periods])  # [stages, sources]
        # The tables of all stages end to end, so that one look-up serves samples of several stages.
        self._offsets = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])
        self._source_at = np.concatenate([table.source for table in self._periods])
        self._count_before = np.concatenate([table.count_before for table in self._periods])
        self._drawn_at_start = np.zeros_like(self._per_period)  # [stages, sources] draws before each stage
        for stage in range(1, len(stages)):
            length = int(self._starts[stage] - self._starts[stage - 1])
            self._drawn_at_start[stage] = self._drawn_at_start[stage - 1] + self._in_stage(stage - 1, length)

    @classmethod
    def from_recipe(
        cls, recipe: "Recipe", stores: Mapping[str, "TokenStore"], skip: Sequence[Sequence[int]] = ()
    ) -> "Mixture":
        """The mixture of a recipe over the training stores of its sources, by name. Raises as the class does.

        skip: what is stepped over beside the recipe's `data.skip`.
        """
        sources = recipe.data.sources
        stages = [MixtureStage(0, {name: source.weight for name, source in sources.items()})]
        stages += [
            MixtureStage(stage.start_step * recipe.training.global_batch_size, stage.weights)
            for stage in recipe.data.stages
        ]
        windows = {name: stores[name].window_count(recipe.data.sequence_length) for name in sources}
        limits = {name: source.max_epochs for name, source in sources.items()}
        return cls(recipe.seed, windows, stages, limits, [*recipe.data.skip, *skip])

    def sample_numbers(self, places: ArrayLike) -> NDArray[np.int64]:
        """Global sample numbers of places [n] in the order of reading: step s of B windows has (s - 1) · B and on."""
        return sample_numbers(places, self.skip)

    def reached(self, count: int) -> int:
        """The global sample number after the last of the first `count` that are read."""
        return reached(count, self.skip)

    def stage_of(self, sample: int) -> int:
        """The stage that a global sample number lies in."""
        return int(np.searchsorted(self._starts, sample, side="right")) - 1

    def locate(self, samples: ArrayLike) -> Drawn:
        """Where global samples [n] come from (whole numbers from 0, any order). Raises ValueError below 0."""
        samples = np.atleast_1d(np.asarray(samples, dtype=np.int64))
        if samples.size and samples.min() < 0:
            raise ValueError("global sample numbers start at 0")
        stage = np.searchsorted(self._starts, samples, side="right") - 1
        periods, place = np.divmod(samples - self._starts[stage], self._lengths[stage])
        entry = self._offsets[stage] + place
        source = self._source_at[entry].astype(np.int64)
        draw = (
            self._drawn_at_start[stage, source] + periods * self._per_period[stage, source] + self._count_before[entry]
        )
        size = self._sizes[source]
        epoch, position = np.divmod(draw, size)
        # Different epochs of a source never share a key, and 64 random bits a source keep sources apart.
        key = mix(self._keys[source], epoch)
        return Drawn(source.astype(np.int16), epoch, permute(key, size, position), stage.astype(np.int16), draw)

    def drawn_before(self, sample: int) -> dict[str, int]:
        """How many windows of each source come before a global sample number."""
        stage = self.stage_of(sample)
        counts = self._drawn_at_start[stage] + self._in_stage(stage, sample - int(self._starts[stage]))
        return dict(zip(self.names, counts.tolist(), strict=True))

    def plan(self, total_samples: int) -> list[SourcePlan]:
        """What a run that reads `total_samples` takes from each source, in the order of `names`."""
        end = self.reached(total_samples)
        return [
            SourcePlan(name, count, count / max(self.windows[name], 1), count / max(end, 1))
            for name, count in self.drawn_before(end).items()
        ]

    def check(self, total_samples: int) -> None:
        """Raise DataError if a run that reads `total_samples` would go through a source more often than its
        `max_epochs`. Samples that are stepped over count: the run draws so many more."""
        problems = []
        for plan in self.plan(total_samples):
            limit = self.max_epochs.get(plan.name)
            allowed = None if limit is None else int(limit * self.windows[plan.name])
            if allowed is not None and plan.samples > allowed:
                problems.append(
                    f"data.sources.{plan.name}: the run would read it {plan.epochs:.2f} times ({plan.samples:,} "
                    f"windows of {self.windows[plan.name]:,}), more than max_epochs {limit:g} allows. Lower its "
                    f"share from {plan.share:.2%} to at most {allowed / self.reached(total_samples):.2%}, give it more "
                    "text, shorten the run, or raise max_epochs."
                )
        if problems:
            raise DataError("\n".join(problems))

    def describe(self) -> dict[str, Any]:
        """All that the order depends on, for checkpoints: rule version, seed, whole weights, windows, ranges."""
        return {
            "rule_version": RULE_VERSION,
            "seed": self.seed,
            "weight_denominator": WEIGHT_DENOMINATOR,
            "windows": dict(self.windows),
            "stages": [
                {"start_sample": int(start), "weights": {name: part for name, part in weights.items() if part}}
                for start, weights in zip(self._starts, self.weights, strict=True)
            ],
            "skip": [list(range_) for range_ in self.skip],
        }

    def _in_stage(self, stage: int, length: int) -> NDArray[np.int64]:
        """Draws of each source [sources] in the first `length` samples of a stage."""
        table = self._periods[stage]
        periods, rest = divmod(length, table.length)
        begun = np.bincount(table.source[:rest], minlength=len(self.names))
        return periods * table.weights + begun

    def _check_stages(self, stages: Sequence[MixtureStage]) -> None:
        if not stages or stages[0].start_sample != 0:
            raise RecipeError("The first stage of the mixture must start at sample 0.")
        for before, stage in pairwise(stages):
            if stage.start_sample <= before.start_sample:
                raise RecipeError(
                    f"data.stages: a stage that starts at sample {stage.start_sample:,} follows one that starts at "
                    f"{before.start_sample:,}. List stages in the order of their start, each start once."
                )
        for stage in stages:
            unknown = sorted(set(stage.weights) - set(self.names))
            if unknown:
                raise RecipeError(
                    f"The mixture gives a weight to {', '.join(unknown)}, which is no source; there are "
                    f"{', '.join(self.names)}."
                )

    def _check_not_empty(self) -> None:
        empty = [
            name for name in self.names if self.windows[name] < 1 and any(weights[name] for weights in self.weights)
        ]
        if empty:
            raise DataError(
                f"{', '.join(empty)}: too little text to fill a single window. Give the source more text, set "
                "its weight to 0, or shorten data.sequence_length."
            )


def order_conflict(old: Mapping[str, Any], new: Mapping[str, Any], consumed_samples: int) -> str | None:
    """Why two mixtures, as `describe` wrote them, differ in the first `consumed_samples` that are read, or None.

    Stages that start later, ranges that are stepped over later, sources not drawn so far and the length of the run may
    differ.
    """
    if old["rule_version"] != new["rule_version"]:
        return f"the rule of the data order has version {new['rule_version']} here and {old['rule_version']} there"
    for key in ("seed", "weight_denominator"):
        if old[key] != new[key]:
            return f"the {key.replace('_', ' ')} is {new[key]} and was {old[key]}"
    skipped = merged(old.get("skip", []))
    end = reached(consumed_samples, skipped)
    if below(skipped, end) != below(merged(new.get("skip", [])), end):
        return f"the samples below {end:,} that are stepped over are {new.get('skip', [])} and were {list(skipped)}"
    past, present = ([stage for stage in mixture["stages"] if stage["start_sample"] < end] for mixture in (old, new))
    if past != present:
        return f"the weights of the first {end:,} samples are {present} and were {past}"
    for name in sorted({name for stage in past for name in stage["weights"]}):
        if old["windows"][name] != new["windows"][name]:
            return f"source {name} has {new['windows'][name]:,} windows and had {old['windows'][name]:,}"
    return None


def _source_key(seed: int, name: str) -> int:
    """64 bits from seed and name. JSON keeps them apart: ("1", "2a") and ("12", "a") are different texts."""
    return xxhash.xxh3_64_intdigest(json.dumps(["tsugiki data order", seed, name]).encode("ascii"))
