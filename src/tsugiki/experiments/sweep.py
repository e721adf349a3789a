"""A sweep from its file to its table: plan, run what is missing (`experiment`), judge by evaluation."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from tsugiki.experiments.collect import Collected, collect
from tsugiki.experiments.experiment import BaseFolder, Experiment
from tsugiki.experiments.judge import judge
from tsugiki.experiments.loss_choice import choose_by_loss
from tsugiki.experiments.measures import Known
from tsugiki.experiments.rules_of_thumb import rules_of_thumb
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.files import write_json
from tsugiki.sweep_results import FORMAT, SWEEP_FILE, Rule, SweepMetric, SweepResult, TrialResult


class Sweep(Experiment):
    """A sweep file, read and checked. Raises RecipeError with all its problems."""

    def __init__(self, path: Path, known: Known, base_folder: BaseFolder):
        file = load_sweep(path)
        super().__init__(file, known, base_folder)
        self._section = file.section.judge

    @cached_property
    def described(self) -> tuple[list[str], list[Rule]]:
        """The plan in lines, and the rules of thumb on the base's own weights."""
        keep = ", ".join(f"{name} within {fall:g}" for name, fall in self._section.keep.items())
        asked = f"judge      gain {', '.join(self._section.gain)}" + (f"; keep {keep}" if keep else "")
        return self.plan_lines([asked]), rules_of_thumb(self.plan, self.weights)

    def judge(self) -> SweepResult:
        """Judge what has ended, and write `sweep.json`."""
        found, before = collect(self.plan, self.measures), self.earlier(SWEEP_FILE, SweepResult)
        lines, rules = (before.plan, before.rules) if before is not None else self.described
        metric = {name: one.metric for name, one in self.measures.by_name.items()}
        judgement, by_loss = None, []
        if found.base and any(trial.measured() for trial in found.trials):
            judgement = judge(
                found.base, found.trials, [metric[name] for name in self._section.gain],
                {metric[name]: fall for name, fall in self._section.keep.items()},
            )  # fmt: skip
            last = max(trial.steps for trial in self.plan.trials)
            by_loss = choose_by_loss(found.losses, found.base, found.trials, judgement, last_step=last)
        changes, runs = {trial.name: trial.changes for trial in self.plan.trials}, self.runs(found)
        result = SweepResult(
            format=FORMAT, sweep=str(self.plan.file.path), recipe=str(self.plan.file.recipe_path),
            directory=str(self.plan.directory), finished=not found.waiting and bool(found.base),
            probe=self.probe(), seeds=tuple(self.plan.file.seeds), metrics=tuple(self._metrics(found)),
            base={name: one.value for name, one in found.base.items()},
            trials=tuple(TrialResult(name, changes[name], of_it) for name, of_it in runs.items()),
            rules=tuple(rules), plan=tuple(lines), judgement=judgement, loss_choices=tuple(by_loss),
        )  # fmt: skip
        self.plan.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.plan.directory / SWEEP_FILE, asdict(result))
        return result

    def _metrics(self, found: Collected) -> list[SweepMetric]:
        def of(name: str, role: str, tolerance: float | None) -> SweepMetric:
            measure = self.measures.by_name[name]
            left_out = found.left_out.get(name, {})
            return SweepMetric(name, role, tolerance, measure.metric.higher_is_better, measure.tasks, left_out)

        return [
            *(of(name, "gain", None) for name in self._section.gain),
            *(of(name, "keep", tolerance) for name, tolerance in self._section.keep.items()),
        ]
