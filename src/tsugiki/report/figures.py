"""The numbers on data and speed that a report shows, computed from what the run has left; no layout here.

What was gained and lost is in `measures.py`.
"""

import statistics
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.corpus.prepared import SourceManifest
from tsugiki.corpus.stepping import below
from tsugiki.corpus.window_figures import TextWindows
from tsugiki.errors import DataError, RecipeError
from tsugiki.report.run_directory import KEPT, RunDirectory


@dataclass(frozen=True)
class SourceShare:
    """What a run took from a source."""

    name: str
    language: str | None
    asked: float
    """Share of the windows that the recipe's weights ask for, up to the step reached."""
    realised: float | None
    windows: int | None
    tokens: int | None
    epochs: float | None
    available: int | None
    """Training tokens that the source has."""
    documents: int | None
    held_out: int | None
    windows_of_text: TextWindows | None
    """What windows cost a source of text, where that can be read."""


@lru_cache(maxsize=KEPT)
def order_of_data(run: RunDirectory) -> Mixture | None:
    """The order in which the run draws samples; None where the sizes of its sources are not known here."""
    recipe, batch = run.recipe, run.recipe.training.global_batch_size
    windows = {
        name: found for name, manifest in run.manifests.items()
        if (found := _windows(manifest, recipe.data.sequence_length, recipe.data.packing == "best_fit")) is not None
    }  # fmt: skip
    skip: list[Any] = list(recipe.data.skip)
    if run.checkpoint and "mixture" in run.checkpoint:
        windows |= run.checkpoint["mixture"]["windows"]
        skip = run.checkpoint["mixture"].get("skip", skip)
    if not windows.keys() >= recipe.data.sources.keys():
        return None
    stages = [MixtureStage(0, {name: source.weight for name, source in recipe.data.sources.items()})]
    stages += [MixtureStage(each.start_step * batch, each.weights) for each in recipe.data.stages]
    try:
        return Mixture(recipe.seed, {name: windows[name] for name in recipe.data.sources}, stages, skip=skip)
    except (RecipeError, DataError) as error:
        run.problems.append(str(error))
        return None


def _windows(manifest: SourceManifest, length: int, packed: bool) -> int | None:
    """The windows of a source; None for packs that the manifest does not tell of, or of another length."""
    if manifest.chat is None:
        if packed:
            return None if manifest.text is None else manifest.text.windows
        return max(0, (manifest.train.tokens - 1) // length)
    return manifest.chat.packs if manifest.chat.sequence_length == length else None


def _asked(run: RunDirectory, end: int) -> dict[str, float]:
    """The share of each source that the weights ask for among the global samples before `end`."""
    batch, data = run.recipe.training.global_batch_size, run.recipe.data
    stages = [(0, {name: source.weight for name, source in data.sources.items()})]
    stages += [(stage.start_step * batch, dict(stage.weights)) for stage in data.stages]
    bounds = [*(min(start, end) for start, _ in stages), end]
    shares = dict.fromkeys(data.sources, 0.0)
    for (_, weights), (first, last) in zip(stages if end else stages[:1], pairwise(bounds), strict=False):
        part = (last - first) / end if end else 1.0
        for name, weight in weights.items():
            shares[name] += part * weight / sum(weights.values())
    return shares


@lru_cache(maxsize=KEPT)
def mixture(run: RunDirectory) -> tuple[SourceShare, ...]:
    """Asked against realised up to the step reached, exactly: the order of data is a pure function of the sample."""
    samples, order = run.step * run.recipe.training.global_batch_size, order_of_data(run)
    end = order.reached(samples) if order else samples
    asked, passed = _asked(run, end), order.drawn_before(end) if order else {}
    stepped_over = dict.fromkeys(passed, 0)
    for first, last in below(order.skip, end) if order else ():
        assert order is not None
        start, stop = order.drawn_before(first), order.drawn_before(last)
        stepped_over = {name: count + stop[name] - start[name] for name, count in stepped_over.items()}
    found = []
    for name, source in run.recipe.data.sources.items():
        manifest, count = run.manifests.get(name), passed[name] - stepped_over[name] if order else None
        found.append(SourceShare(
            name, source.language, asked[name], count / samples if count is not None and samples else None, count,
            None if count is None else count * run.recipe.data.sequence_length,
            passed[name] / max(order.windows[name], 1) if order else None,
            manifest.train.tokens if manifest else None, manifest.train.documents if manifest else None,
            manifest.held_out.documents if manifest else None, manifest.text if manifest else None,
        ))  # fmt: skip
    return tuple(found)


@dataclass(frozen=True)
class Speed:
    """Rates of a run; medians over its logged intervals, so that one slow interval does not move them."""

    tokens: int
    seconds: float
    """Of training steps alone: without starting, measuring and saving."""
    tokens_per_second: float | None
    tflops: float | None
    mfu: float | None
    memory_gb: float | None
    """The most at any time, of the process or GPU of rank 0."""
    data_wait: float | None
    """Share of the time of steps, weighted by time."""


def speed(run: RunDirectory) -> Speed:
    """Throughput, memory and time from the run's logged steps."""
    steps = run.metrics.steps
    before, seconds, waited = 0, 0.0, 0.0
    for line in steps:
        rate, tokens = line.get("tokens_per_second"), line.get("tokens", before)
        if rate and tokens > before:
            seconds += (tokens - before) / rate
            waited += (tokens - before) / rate * (line.get("data_wait") or 0.0)
        before = max(tokens, before)

    def known(key: Literal["tokens_per_second", "tflops", "mfu", "memory_gb"]) -> list[float]:
        return [value for line in steps if (value := line.get(key)) is not None]

    def median(values: list[float]) -> float | None:
        return statistics.median(values) if values else None

    return Speed(
        before, seconds, median(known("tokens_per_second")), median(known("tflops")), median(known("mfu")),
        max(known("memory_gb"), default=None), waited / seconds if seconds else None,
    )  # fmt: skip
