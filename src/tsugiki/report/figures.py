"""The numbers that a report shows, computed from what the run has left; no layout here."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.corpus.stepping import below
from tsugiki.errors import DataError, RecipeError
from tsugiki.metrics_file import Scored, ValidationLine
from tsugiki.pages.scatter import Better, Limits
from tsugiki.report.run_directory import Cell, Row, RunDirectory
from tsugiki.score_combinations import bits_per_byte
from tsugiki.statistics import Sample, difference_interval, score_interval

BITS = "bits per byte"


@dataclass(frozen=True)
class Measure:
    """One score of the base and of the final model."""

    key: str
    """The same in every run that measures it."""
    name: str
    language: str
    metric: str
    before: float | None
    after: float | None
    before_limits: Limits | None
    after_limits: Limits | None
    difference: float | None
    difference_limits: Limits | None
    items: int | None
    better: Better
    average: bool = False
    from_validation: bool = False
    """Of held-out text in training, where the base is the model before step 1."""


def gains(run: RunDirectory) -> list[Measure]:
    """The scores of tasks from the run's evaluation, then bits per byte of held-out text from its validations (the
    first and the last), of sources that the evaluation has no text of."""
    found = list(_of_tasks(run))
    texts = {measure.name for measure in found if measure.metric == BITS}
    return found + [measure for measure in _of_validations(run) if measure.name not in texts]


def rows_of(run: RunDirectory) -> tuple[Row | None, Row | None]:
    """(base, final model) of the table of scores."""
    if run.scores is None:
        return None, None
    own = [row for row in run.scores["rows"] if not row["published"]]
    base = next((row for row in own if row["name"] == run.scores["baseline"]), None) if run.scores["baseline"] else None
    others = [row for row in own if row is not base]
    return base, others[-1] if others else None


def _of_tasks(run: RunDirectory) -> list[Measure]:
    base, final = rows_of(run)
    if run.scores is None or final is None:
        return []
    found = []
    for block in run.scores["languages"]:
        language = block["language"].removesuffix(f": {BITS}")
        for task, title in block["tasks"].items():
            cell = final["tasks"].get(task)
            if cell is not None and cell["score"] is not None:
                found.append(_measure(task, title, language, base["tasks"].get(task) if base else None, cell))
        if len(block["averaged"]) > 1:
            cell = final["averages"].get(block["language"])
            if cell is not None and cell["score"] is not None:
                before = base["averages"].get(block["language"]) if base else None
                metric = BITS if block["language"].endswith(BITS) else ""
                one = _measure(f"average {block['language']}", f"average of {len(block['averaged'])}", language, before,
                               {**cell, "metric": metric}, average=True)  # fmt: skip
                found.append(one)
    return found


def _measure(key: str, name: str, language: str, before: Cell | None, after: Cell, *, average: bool = False) -> Measure:
    difference = after.get("difference")
    return Measure(
        key, name, language, after.get("metric", ""), before["score"] if before else None, after["score"],
        _limits(before.get("interval") if before else None), _limits(after.get("interval")),
        difference["estimate"] if difference else None, _limits(difference["interval"] if difference else None),
        after.get("items"), "lower" if after.get("metric") == BITS else "higher", average,
    )  # fmt: skip


def _limits(interval: Sequence[float] | None) -> Limits | None:
    return (interval[0], interval[1]) if interval is not None and len(interval) == 2 else None


def _of_validations(run: RunDirectory) -> list[Measure]:
    first, last = ends(run)
    if first is None or last is None:
        return []
    found = []
    for name, after in last["sources"].items():
        before = first["sources"].get(name)
        if before is None:
            continue
        source = run.recipe.data.sources.get(name)
        a, b = before["bits_per_byte"], after["bits_per_byte"]
        one, other = documents(before), documents(after)
        pair = (other, one) if one is not None and other is not None and len(one.rows) == len(other.rows) else None
        found.append(Measure(
            f"text_{name}", name, (source and source.language) or "other", BITS, a, b, _reach(one), _reach(other),
            b - a if a is not None and b is not None else None,
            _limits(difference_interval(*pair).limits()) if pair else None,
            after.get("documents"), "lower", from_validation=True,
        ))  # fmt: skip
    return found


def ends(run: RunDirectory) -> tuple[ValidationLine | None, ValidationLine | None]:
    """The first validation and the last one, where they are two."""
    lines = run.metrics.validations
    return (lines[0], lines[-1]) if len(lines) > 1 and lines[-1]["step"] > lines[0]["step"] else (None, None)


def _reach(sample: Sample | None) -> Limits | None:
    return _limits(score_interval(sample).limits()) if sample else None


def documents(scored: Scored) -> Sample | None:
    """Nats and bytes of each held-out document, where they were logged."""
    nats, sizes = scored.get("nats_by_document"), scored.get("bytes_by_document")
    if not nats or not sizes or len(nats) != len(sizes):
        return None
    return Sample(np.stack([np.array(nats), np.array(sizes, dtype=np.float64)], axis=1), bits_per_byte)


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


def order_of_data(run: RunDirectory) -> Mixture | None:
    """The order in which the run draws samples; None where the sizes of its sources are not known here."""
    recipe, batch = run.recipe, run.recipe.training.global_batch_size
    windows = {
        name: max(0, (manifest.train.tokens - 1) // recipe.data.sequence_length)
        for name, manifest in run.manifests.items()
    }
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


def mixture(run: RunDirectory) -> list[SourceShare]:
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
            manifest.held_out.documents if manifest else None,
        ))  # fmt: skip
    return found


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
