"""An experiment from its file to what its runs left: plan, and run what is missing.

The work itself is done by processes of their own (`runner`); what is known stands in files. So each of these functions
may be called at any time, by several processes, and after whatever ended the one before. What follows from the runs is
found by the experiment's kind (`sweep`, `attribution_runs`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from tsugiki.attribution_results import AttributionResult
from tsugiki.errors import FINISHED, RESUMABLE, DataError, StorageError, TsugikiError
from tsugiki.experiments.collect import Collected, count_spikes
from tsugiki.experiments.cost import plan_lines, probe_words
from tsugiki.experiments.executors import Say, find_slots, run_locally, slow_precision
from tsugiki.experiments.experiment_file import ExperimentFile
from tsugiki.experiments.measures import Known, Measures, resolve
from tsugiki.experiments.rules_of_thumb import Weights, read_weights
from tsugiki.experiments.runner import Stopped, Workers, held, is_over, last_error, run_trial
from tsugiki.experiments.slurm import submit, write_scripts
from tsugiki.experiments.status import standing
from tsugiki.experiments.trials import Plan, Trial, expand, write_recipes
from tsugiki.files import read_json
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps
from tsugiki.sweep_results import Probe, RunResult, SweepResult

R = TypeVar("R", SweepResult, AttributionResult)
BaseFolder = Callable[[Recipe], Path]
"""Where a recipe's base model lies on this machine."""


class Experiment:
    """An experiment's file, read and checked. Raises RecipeError with all its problems."""

    def __init__(self, file: ExperimentFile, known: Known, base_folder: BaseFolder):
        self.plan: Plan = expand(file)
        self.measures: Measures = resolve(self.plan, known)
        self._base_folder = base_folder

    @property
    def suites(self) -> list[str]:
        """Evaluations of each model."""
        return self.measures.suites

    @cached_property
    def weights(self) -> Weights:
        """Of the base, as its folder has them."""
        return read_weights(self._base_folder(self.plan.file.base))

    def plan_lines(self, asked: Sequence[str]) -> list[str]:
        """The plan in words, with the lines that say what is measured."""
        executor = self.plan.file.section.executor
        at_once, where = executor.at_once, "by Slurm"
        if executor.kind == "local":
            slots = find_slots(executor)
            at_once, where = len(slots.environments), slots.words
        lines = plan_lines(self.plan, asked, self.weights.parameters, at_once, where)
        return lines + (slow_precision(self.plan) if executor.kind == "local" else [])

    def run_here(self, say: Say) -> None:
        """Run on this machine what has not ended. Raises Stopped, or StorageError where another process does."""
        plan = self.plan
        with held(plan.directory / f".{plan.file.verb}.lock", wait=False):
            left = [trial for trial in plan.trials if not is_over(trial.ended(), self.suites)]
            base = [] if is_over(plan.base.ended(), self.suites) else [plan.base]
            if not left and not base:
                say(f"trials     all {len(plan.trials)} have ended")
                return
            write_recipes(plan)
            slots = find_slots(plan.file.section.executor)
            workers = Workers(plan.file.section.executor.launch)
            self._share(workers, left, slots.environments[0], say)
            run_locally(
                [*base, *left], self.suites, workers, slots, say,
                progress=lambda trial: standing(trial, self.suites).words,
            )  # fmt: skip

    def run_shared(self, say: Say) -> None:
        """Make what trials share and evaluate the base: what must be there before any trial of an array."""
        write_recipes(self.plan)
        workers = Workers()
        self._share(workers, list(self.plan.trials), {}, say)
        say(f"base       {run_trial(self.plan.base, self.suites, workers, {})['ending']}")

    def run_one(self, number: int, say: Say) -> str:
        """Run one trial; returns how it ended. What it shares is made where it is not there."""
        trial = self.plan.trials[number]
        if not trial.beside(".yaml").exists():
            write_recipes(self.plan)
        say(f"trial      {number}: {trial.title}, in {trial.folder}")
        workers = Workers(self.plan.file.section.executor.launch)
        ended = run_trial(trial, self.suites, workers, {})
        say(f"{ended['ending']:<10} at step {ended['step']:,}" + (f": {ended['reason']}" if ended["reason"] else ""))
        return ended["ending"]

    def submit(self, say: Say) -> None:
        """Write the scripts of an array, and submit them."""
        write_recipes(self.plan)
        scripts = write_scripts(self.plan)
        for script, job in zip(scripts, submit(scripts), strict=True):
            say(f"submitted  {script} as job {job}")

    def _share(self, workers: Workers, trials: list[Trial], environment: Mapping[str, str], say: Say) -> None:
        """Vocabularies and token stores, each once. Raises TsugikiError with the last words of what failed."""
        makers = self.plan.makers(trials)
        log = self.plan.directory / "shared.log"
        for maker in makers:
            words = ["vocabulary"] if maker.recipe.vocabulary is not None else []
            for verb in (*words, "prepare"):
                code = workers.call([verb, str(maker.beside(".yaml"))], log, environment)
                if code == RESUMABLE:
                    raise Stopped
                if code != FINISHED:
                    raise TsugikiError(f"{verb} of what the trials share failed: {last_error(log)} (see {log})")
        for place in dict.fromkeys(str(one.recipe.prepared_dir) for one in makers):
            say(f"shared     token stores in {place}")

    def earlier(self, name: str, shape: type[R]) -> R | None:
        """The result in the experiment's folder, if it is of these runs: it has the plan as it was said before they
        ran. None where there is none that can be read."""
        try:
            found = read_json(self.plan.directory / name, shape)
        except (StorageError, DataError):
            return None
        same = found.probe == self.probe() and found.seeds == tuple(self.plan.file.seeds)
        changes = {trial.name: trial.changes for trial in self.plan.trials}
        return found if same and found.changes() == changes else None

    def probe(self) -> Probe:
        """How far the trials run."""
        trial, section = self.plan.trials[0], self.plan.file.section.probe
        total = total_steps(self.plan.file.base)
        return Probe(
            steps=trial.steps, total_steps=total, words=probe_words(self.plan),
            schedule=section.schedule if section is not None and trial.steps < total else "whole",
            warmup_steps=min(trial.recipe.training.warmup_steps, trial.steps),
        )  # fmt: skip

    def runs(self, found: Collected) -> dict[str, tuple[RunResult, ...]]:
        """Each run of each trial, and where it stands."""
        measured = {
            (trial.name, seed): {name: one.value for name, one in metrics.items()}
            for trial in found.trials for seed, metrics in trial.measured().items()
        }  # fmt: skip
        losses = {(one.trial, one.seed): one.losses[-1] for one in found.losses}
        results: dict[str, tuple[RunResult, ...]] = {}
        for trial in self.plan.trials:
            where, key = standing(trial, self.suites), (trial.name, trial.seed)
            run = RunResult(
                seed=trial.seed, run_dir=str(trial.folder), recipe=str(trial.beside(".yaml")), state=where.state,
                step=where.step, reason=where.words if where.state in ("diverged", "died") else "",
                measured=measured.get(key, {}), end_loss=losses.get(key), spikes=count_spikes(trial),
            )  # fmt: skip
            results[trial.name] = (*results.get(trial.name, ()), run)
        return results

    def again(self) -> list[str]:
        """Forget how trials ended that failed, so that they are tried once more; returns their titles."""
        failed = [
            trial for trial in (*self.plan.trials, self.plan.base)
            if (found := trial.ended()) and found["ending"] != "done"
        ]  # fmt: skip
        for trial in failed:
            trial.beside(".ended.json").unlink()
        return [trial.title for trial in failed]
