"""What an experiment's runs left behind, as judge and attribution take it: measurements by metric with their items, and
training losses.

Read from files alone, so that it can be done while trials run, and on another machine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.errors import DataError
from tsugiki.evaluation_files import ModelResult, TaskResult, read_results
from tsugiki.experiments.loss_choice import TrainingLosses
from tsugiki.experiments.measured import Ending, Items, Measurement
from tsugiki.experiments.measured import Trial as Judged
from tsugiki.experiments.measures import SPIKES, Measure, Measures
from tsugiki.experiments.trials import Ended, Plan, Trial
from tsugiki.metrics_file import last_attempt, read_metrics


@dataclass(frozen=True)
class Collected:
    """All that is known of an experiment."""

    base: dict[str, Measurement]
    """By metric; empty before the base is evaluated."""
    trials: list[Judged]
    """Those of which a run has ended."""
    losses: list[TrainingLosses]
    left_out: dict[str, dict[str, str]]
    """By metric, the tasks that some model has no score for, and why."""
    waiting: list[Trial]
    """That have not ended."""


def collect(plan: Plan, measures: Measures) -> Collected:
    """Read everything. Raises DataError for results that cannot be compared."""
    base_ended = plan.base.ended()
    if base_ended is not None and base_ended["ending"] != "done":
        raise DataError(f"the base could not be evaluated: {base_ended['reason']} (see {plan.base.beside('.log')})")
    base = _results(plan.directory, base_ended)
    ended = {trial.number: trial.ended() for trial in plan.trials}
    results = {
        number: _results(plan.directory, one) for number, one in ended.items() if one and one["ending"] == "done"
    }
    left_out = {
        one.metric.name: _left_out(one, {"the base": base, **_titled(plan, results)})
        for one in measures.every
        if one.suite
    }
    found: dict[str, dict[int, Mapping[str, Measurement] | Ending]] = {}
    for trial in plan.trials:
        how = ended[trial.number]
        if how is None:
            continue
        seeds = found.setdefault(trial.name, {})
        if how["ending"] == "done":
            here = results[trial.number]
            _require_same_items(trial, base, here, measures)
            seeds[trial.seed] = _measurements(here, measures, left_out) | _of_run(trial, measures)
        else:
            seeds[trial.seed] = Ending(how["ending"] == "diverged", _words(how))
    return Collected(
        _measurements(base, measures, left_out) if base else {},
        [Judged(name, seeds) for name, seeds in found.items()],
        [losses for trial in plan.trials if (losses := training_losses(trial)) is not None],
        {name: tasks for name, tasks in left_out.items() if tasks},
        [trial for trial in plan.trials if ended[trial.number] is None],
    )


def training_losses(trial: Trial) -> TrainingLosses | None:
    """The logged losses of a run up to its last step, as the model went through them; None before there is any."""
    steps = [
        (line["step"], line["loss"]) for line in last_attempt(read_metrics(trial.folder / "metrics.jsonl").steps)
        if line.get("loss") is not None and line["step"] <= trial.steps
    ]  # fmt: skip
    if not steps:
        return None
    numbers, losses = zip(*steps, strict=True)
    return TrainingLosses(trial.name, trial.seed, same_data(trial), numbers, losses)


def same_data(trial: Trial) -> str:
    """Text that is equal for trials whose training losses are over the same samples: model, vocabulary, data."""
    recipe = trial.recipe
    parts: dict[str, Any] = {
        "model": recipe.model.model_dump(mode="json", exclude={"attn_implementation", "allow_pickle"}),
        "vocabulary": recipe.vocabulary and recipe.vocabulary.model_dump(mode="json", exclude={"output_dir"}),
        "data": recipe.data.model_dump(mode="json", exclude={"prepared_dir", "workers", "max_bad_documents"}),
        "batch": recipe.training.global_batch_size,
    }
    return json.dumps(parts)


def _results(directory: Path, ended: Ended | None) -> dict[str, ModelResult]:
    """By suite."""
    return {suite: read_results(directory / folder) for suite, folder in ended["results"].items()} if ended else {}


def _titled(plan: Plan, results: Mapping[int, dict[str, ModelResult]]) -> dict[str, dict[str, ModelResult]]:
    return {f"trial {trial.title}": results[trial.number] for trial in plan.trials if trial.number in results}


def _left_out(measure: Measure, models: Mapping[str, dict[str, ModelResult]]) -> dict[str, str]:
    """The tasks of a metric that cannot be averaged over. Raises DataError where none is left."""
    missing: dict[str, str] = {}
    for title, results in models.items():
        if measure.suite not in results:
            continue
        scored, every = results[measure.suite].scored(), results[measure.suite].tasks
        for task in measure.tasks:
            if task not in scored:
                missing.setdefault(task, f"{title} has no score: {getattr(every.get(task), 'reason', 'not asked')}")
    if missing.keys() >= set(measure.tasks):
        raise DataError(f"{measure.metric.name} cannot be measured: {next(iter(missing.values()))}")
    return missing


def _measurements(
    results: Mapping[str, ModelResult], measures: Measures, left_out: Mapping[str, Mapping[str, str]]
) -> dict[str, Measurement]:
    """Of one model, by metric."""
    found = {}
    for one in measures.every:
        if one.suite is None:
            continue
        scored = results[one.suite].scored()
        tasks = [scored[task] for task in one.tasks if task not in left_out[one.metric.name]]
        found[one.metric.name] = Measurement.of({task.task: Items(task.ids, task.sample) for task in tasks})
    return found


def _of_run(trial: Trial, measures: Measures) -> dict[str, Measurement]:
    """What is read from the run itself."""
    if all(one.metric.name != SPIKES for one in measures.every):
        return {}
    return {SPIKES: Measurement(float(count_spikes(trial) or 0))}


def count_spikes(trial: Trial) -> int | None:
    """Steps of a run that stood out, each counted once, however often it was made; None before anything is logged."""
    path = trial.folder / "metrics.jsonl"
    if not path.exists():
        return None
    steps = {line["step"] for line in read_metrics(path).spikes}
    return sum(step <= trial.steps for step in steps)


def _require_same_items(
    trial: Trial, base: Mapping[str, ModelResult], here: Mapping[str, ModelResult], measures: Measures
) -> None:
    """Items are paired by their names, which must mean the same text for both."""
    for one in measures.every:
        if one.suite is None:
            continue
        theirs = base[one.suite].scored() if one.suite in base else {}
        for name in one.tasks:
            ours, other = here[one.suite].scored().get(name), theirs.get(name)
            if ours is not None and other is not None and _differ(ours, other):
                raise DataError(
                    f"{name} was asked of the base with other items than of trial {trial.title}: its data or version "
                    f"has changed. Remove {trial.beside('.ended.json')} and the base's, and give the same command again"
                )


def _differ(one: TaskResult, other: TaskResult) -> bool:
    return (one.metric, one.combine, one.digest) != (other.metric, other.combine, other.digest)


def _words(ended: Ended) -> str:
    return f"{ended['ending']} at step {ended['step']:,}: {ended['reason']}"
