"""A sweep from its file to its table: plan, run what is missing, judge by evaluation.

The work itself is done by processes of their own (`runner`); what is known stands in files. So each of these functions
may be called at any time, by several processes, and after whatever ended the one before.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tsugiki.errors import FINISHED, RESUMABLE, TsugikiError
from tsugiki.experiments.collect import Collected, collect
from tsugiki.experiments.cost import plan_lines, probe_words
from tsugiki.experiments.executors import Say, find_slots, run_locally
from tsugiki.experiments.judge import judge
from tsugiki.experiments.loss_choice import choose_by_loss
from tsugiki.experiments.measures import Known, Measures, resolve
from tsugiki.experiments.rules_of_thumb import read_weights, rules_of_thumb
from tsugiki.experiments.runner import Stopped, Workers, held, is_over, last_error, run_trial
from tsugiki.experiments.slurm import submit, write_scripts
from tsugiki.experiments.status import standing
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.experiments.trials import Plan, Trial, expand, write_recipes
from tsugiki.files import write_json
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps
from tsugiki.sweep_results import FORMAT, SWEEP_FILE, Probe, Rule, RunResult, SweepMetric, SweepResult, TrialResult

BaseFolder = Callable[[Recipe], Path]
"""Where a recipe's base model lies on this machine."""


class Sweep:
    """A sweep file, read and checked. Raises RecipeError with all its problems."""

    def __init__(self, path: Path, known: Known, base_folder: BaseFolder):
        self.plan: Plan = expand(load_sweep(path))
        self.measures: Measures = resolve(self.plan, known)
        self._base_folder = base_folder
        self._described: tuple[list[str], list[Rule]] | None = None

    @property
    def suites(self) -> list[str]:
        """Evaluations of each model."""
        return self.measures.suites

    def describe(self) -> tuple[list[str], list[Rule]]:
        """The plan in lines, and the rules of thumb on the base's own weights."""
        if self._described is None:
            weights = read_weights(self._base_folder(self.plan.file.base))
            executor = self.plan.file.section.executor
            at_once, where = executor.at_once, "by Slurm"
            if executor.kind == "local":
                slots = find_slots(executor)
                at_once, where = len(slots.environments), slots.words
            lines = plan_lines(self.plan, self.measures, weights.parameters, at_once, where)
            self._described = lines, rules_of_thumb(self.plan, weights)
        return self._described

    def run_here(self, say: Say) -> None:
        """Run on this machine what has not ended. Raises Stopped, or StorageError where another process sweeps here."""
        plan = self.plan
        with held(plan.directory / ".sweep.lock", wait=False):
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

    def judge(self) -> SweepResult:
        """Judge what has ended, and write `sweep.json`."""
        found, (lines, rules) = collect(self.plan, self.measures), self.describe()
        judgement, by_loss = None, []
        if found.base and any(trial.measured() for trial in found.trials):
            judgement = judge(
                found.base, found.trials, [one.metric for one in self.measures.gain],
                {one.metric: fall for one, fall in self.measures.keep},
            )  # fmt: skip
            last = max(trial.steps for trial in self.plan.trials)
            by_loss = choose_by_loss(found.losses, found.base, found.trials, judgement, last_step=last)
        result = SweepResult(
            format=FORMAT, sweep=str(self.plan.file.path), recipe=str(self.plan.file.recipe_path),
            directory=str(self.plan.directory), finished=not found.waiting and bool(found.base),
            probe=self._probe(), seeds=tuple(self.plan.file.seeds), metrics=tuple(self._metrics(found)),
            base={name: one.value for name, one in found.base.items()}, trials=tuple(self._trials(found)),
            rules=tuple(rules), plan=tuple(lines), judgement=judgement, loss_choices=tuple(by_loss),
        )  # fmt: skip
        self.plan.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.plan.directory / SWEEP_FILE, asdict(result))
        return result

    def _probe(self) -> Probe:
        trial, section = self.plan.trials[0], self.plan.file.section.probe
        total = total_steps(self.plan.file.base)
        return Probe(
            steps=trial.steps, total_steps=total, words=probe_words(self.plan),
            schedule=section.schedule if section is not None and trial.steps < total else "whole",
            warmup_steps=min(trial.recipe.training.warmup_steps, trial.steps),
        )  # fmt: skip

    def _metrics(self, found: Collected) -> list[SweepMetric]:
        def of(measure: Any, role: str, tolerance: float | None) -> SweepMetric:
            metric = measure.metric
            left_out = found.left_out.get(metric.name, {})
            return SweepMetric(metric.name, role, tolerance, metric.higher_is_better, measure.tasks, left_out)

        return [
            *(of(one, "gain", None) for one in self.measures.gain),
            *(of(one, "keep", tolerance) for one, tolerance in self.measures.keep),
        ]

    def _trials(self, found: Collected) -> list[TrialResult]:
        measured = {
            (trial.name, seed): {name: one.value for name, one in metrics.items()}
            for trial in found.trials for seed, metrics in trial.measured().items()
        }  # fmt: skip
        losses = {(one.trial, one.seed): one.losses[-1] for one in found.losses}
        results: dict[str, TrialResult] = {}
        for trial in self.plan.trials:
            where, key = standing(trial, self.suites), (trial.name, trial.seed)
            run = RunResult(
                seed=trial.seed, run_dir=str(trial.folder), recipe=str(trial.beside(".yaml")), state=where.state,
                step=where.step, reason=where.words if where.state in ("diverged", "died") else "",
                measured=measured.get(key, {}), end_loss=losses.get(key),
            )  # fmt: skip
            before = results.get(trial.name)
            results[trial.name] = TrialResult(trial.name, trial.changes, (*(before.runs if before else ()), run))
        return list(results.values())


def again(plan: Plan) -> list[str]:
    """Forget how trials ended that failed, so that they are tried once more; returns their titles."""
    failed = [trial for trial in (*plan.trials, plan.base) if (found := trial.ended()) and found["ending"] != "done"]
    for trial in failed:
        trial.beside(".ended.json").unlink()
    return [trial.title for trial in failed]
