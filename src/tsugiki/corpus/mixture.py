"""The order of data: global sample number -> (stage, source, epoch, window), a pure function in constant memory.

A *stage* is a span of samples with fixed weights. Inside it, the source of the h-th sample follows the quota method
(`apportionment.py`), so that after every sample each source is less than one window from its share. The k-th window
drawn from a source, counted over all stages, is window `permute(key(seed, name, epoch), windows, k mod windows)` of
epoch `k div windows` (`permutation.py`). The key holds the source's *name*, so that adding, removing or reweighting
another source never changes which window is the k-th drawn from this one; sources are ordered by name, so that their
order in a file does not matter. A later stage changes nothing before its start, and lengthening a run changes nothing.

No state but the sample number: any process can ask for any sample, at any world size.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from tsugiki.corpus.apportionment import WEIGHT_DENOMINATOR, Period, period, round_weights
from tsugiki.corpus.permutation import permute
from tsugiki.errors import DataError
from tsugiki.recipe import Recipe

RULE_VERSION = 1
"""Of the whole rule. Stored in every checkpoint; a run never continues under another."""


class MixtureStage(NamedTuple):
    """From global sample `start_sample` on, sources are drawn by these weights."""

    start_sample: int
    weights: Mapping[str, float]


class Drawn(NamedTuple):
    """Where samples come from; arrays of equal length."""

    stage: NDArray[np.int64]
    source: NDArray[np.int64]  # index into Mixture.names
    epoch: NDArray[np.int64]
    window: NDArray[np.int64]


@dataclass(frozen=True)
class SourcePlan:
    """What a run of a given length takes from a source."""

    name: str
    samples: int
    epochs: float
    share: float


@dataclass(frozen=True)
class _Stage:
    start: int
    period: Period
    drawn_before: NDArray[np.int64]  # [sources] windows drawn from each source in earlier stages

    def drawn_after(self, samples: int) -> NDArray[np.int64]:
        """[sources] windows drawn from each source by the stage's first `samples` samples and all stages before."""
        whole, rest = divmod(samples, self.period.length)
        part = np.bincount(self.period.source[:rest], minlength=len(self.drawn_before))
        return self.drawn_before + whole * self.period.weights + part


class Mixture:
    """Sources mixed by weight; see the module's docstring for the rule."""

    def __init__(
        self,
        seed: int,
        windows: Mapping[str, int],
        stages: Sequence[MixtureStage],
        max_epochs: Mapping[str, float | None] | None = None,
    ):
        """`windows`: windows of each source. Raises RecipeError for weights that cannot be drawn, DataError for a
        source with weight but without a window, ValueError for stages that are not in order from sample 0."""
        self.seed = seed
        self.names = sorted(windows)
        self.windows = np.array([windows[name] for name in self.names], dtype=np.int64)
        self.max_epochs = dict(max_epochs or {})
        if not stages or stages[0].start_sample != 0:
            raise ValueError("the first stage starts at sample 0")
        self.weights: list[dict[str, int]] = []
        self.stages: list[_Stage] = []
        drawn = np.zeros(len(self.names), dtype=np.int64)
        for stage in stages:
            if self.stages:
                previous = self.stages[-1]
                if stage.start_sample <= previous.start:
                    raise ValueError("stages start at rising sample numbers")
                drawn = previous.drawn_after(stage.start_sample - previous.start)
            weights = round_weights({name: stage.weights.get(name, 0.0) for name in self.names})
            empty = [name for name in self.names if weights[name] and not windows[name]]
            if empty:
                raise DataError(
                    f"source {', '.join(empty)} has a weight but no whole window: its text is shorter than one "
                    "sequence. Give it more text, a shorter data.sequence_length, or weight 0"
                )
            self.weights.append(weights)
            self.stages.append(_Stage(stage.start_sample, _period(tuple(weights[name] for name in self.names)), drawn))
        self._starts = np.array([stage.start for stage in self.stages], dtype=np.int64)

    @classmethod
    def from_recipe(cls, recipe: Recipe, stores: Mapping[str, Any]) -> "Mixture":
        """The mixture of a recipe over opened stores (anything with `window_count`)."""
        length, batch = recipe.data.sequence_length, recipe.training.global_batch_size
        first = MixtureStage(0, {name: source.weight for name, source in recipe.data.sources.items()})
        later = [MixtureStage(stage.start_step * batch, stage.weights) for stage in recipe.data.stages]
        return cls(
            recipe.seed,
            {name: store.window_count(length) for name, store in stores.items()},
            [first, *later],
            {name: source.max_epochs for name, source in recipe.data.sources.items()},
        )

    def locate(self, samples: ArrayLike) -> Drawn:
        """Where global samples (integers from 0, any shape flattened) come from."""
        numbers = np.atleast_1d(np.asarray(samples, dtype=np.int64)).ravel()
        if numbers.size and numbers.min() < 0:
            raise ValueError("sample numbers start at 0")
        stage = np.searchsorted(self._starts, numbers, side="right") - 1
        source = np.empty_like(numbers)
        count = np.empty_like(numbers)
        for index in np.unique(stage):
            here = stage == index
            part = self.stages[index]
            turn, place = np.divmod(numbers[here] - part.start, part.period.length)
            chosen = part.period.source[place].astype(np.int64)
            source[here] = chosen
            count[here] = part.drawn_before[chosen] + turn * part.period.weights[chosen] + part.period.count_before[place]
        size = self.windows[source]
        epoch, position = np.divmod(count, size)
        keys = np.empty(len(numbers), dtype=np.uint64)
        pairs, inverse = np.unique(np.stack([source, epoch]), axis=1, return_inverse=True)
        unique_keys = [_key(self.seed, self.names[name], int(turn)) for name, turn in pairs.T]
        keys[:] = np.array(unique_keys, dtype=np.uint64)[inverse.ravel()]
        return Drawn(stage, source, epoch, permute(keys, size, position))

    def plan(self, total_samples: int) -> list[SourcePlan]:
        """Windows, epochs and share of each source in the first `total_samples` samples."""
        index = bisect.bisect_left(self._starts.tolist(), max(total_samples, 1)) - 1
        drawn = self.stages[index].drawn_after(total_samples - self.stages[index].start)
        return [
            SourcePlan(name, int(taken), int(taken) / int(size) if size else 0.0, int(taken) / max(total_samples, 1))
            for name, taken, size in zip(self.names, drawn, self.windows, strict=True)
        ]

    def check(self, total_samples: int) -> None:
        """Raise DataError, naming all, when a source would be repeated more often than its `max_epochs` allows."""
        over = [
            f"data.sources.{plan.name}.max_epochs is {limit:g}, but the run takes {plan.epochs:.2f} epochs of it "
            f"({plan.samples:,} windows)"
            for plan in self.plan(total_samples)
            if (limit := self.max_epochs.get(plan.name)) is not None and plan.epochs > limit
        ]
        if over:
            raise DataError("\n".join(over) + "\nGive it less weight, more text, or a higher max_epochs")

    def describe(self) -> dict[str, Any]:
        """All that decides the order, for checkpoints and manifests."""
        return {
            "rule_version": RULE_VERSION,
            "seed": self.seed,
            "denominator": WEIGHT_DENOMINATOR,
            "windows": {name: int(size) for name, size in zip(self.names, self.windows, strict=True)},
            "stages": [
                {"start_sample": stage.start, "weights": weights}
                for stage, weights in zip(self.stages, self.weights, strict=True)
            ],
        }


@lru_cache(maxsize=64)
def _period(weights: tuple[int, ...]) -> Period:
    return period(weights)


@lru_cache(maxsize=4096)
def _key(seed: int, name: str, epoch: int) -> int:
    """Key of the shuffle of one epoch of a source. The lengths keep (1, "1x") and (11, "x") apart."""
    text = f"tsugiki order {RULE_VERSION}|{seed}|{len(name)}:{name}|{epoch}"
    return xxhash.xxh3_64_intdigest(text.encode("utf-8"))
