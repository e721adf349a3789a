"""An attribution from its file to its answers: plan, run what is missing (`experiment`), estimate from what ended."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from tsugiki.attribution_results import ATTRIBUTION_FILE, FORMAT, AttributionResult, CellResult, MeasuredMetric
from tsugiki.errors import RecipeError
from tsugiki.experiment_results import Attribution, Correlation, Metric, Transfer, cell_in_words
from tsugiki.experiments.attribution import Run, attribute
from tsugiki.experiments.attribution_design import name_of
from tsugiki.experiments.attribution_file import WITH, AttributionFile, load_attribution
from tsugiki.experiments.collect import Collected, collect
from tsugiki.experiments.correlation import correlate
from tsugiki.experiments.experiment import BaseFolder, Experiment
from tsugiki.experiments.measured import Ending
from tsugiki.experiments.measured import Trial as Measured
from tsugiki.experiments.measures import Known
from tsugiki.experiments.transfer import MixtureRun, transfer
from tsugiki.files import write_json
from tsugiki.sweep_results import RunResult


class AttributionRuns(Experiment):
    """An attribution file, read and checked. Raises RecipeError with all its problems."""

    def __init__(self, path: Path, known: Known, base_folder: BaseFolder):
        self.file: AttributionFile = load_attribution(path)
        super().__init__(self.file, known, base_folder)

    @cached_property
    def described(self) -> list[str]:
        """The plan in lines."""
        return self.plan_lines(self._asked())

    def _asked(self) -> list[str]:
        section = self.file.section
        if section.transfer is not None:
            sources = ", ".join(f"{name} {weight:g}" for name, weight in section.transfer.sources.items())
            lines = [f"transfer   {sources}, taken from {section.rest}; {' and '.join(section.transfer.mode)}"]
        else:
            lines = [f"factor     {factor.name}: {', '.join(factor.levels)}" for factor in self.file.factors]
            lines.append(f"effects    {', '.join(map(name_of, self.file.terms))}")
            lines += [
                f"compare    {cell_in_words(one.start)} with {cell_in_words(one.end)}" for one in self.file.comparisons
            ]
        return [*lines, f"metrics    {', '.join(section.metrics)}"]

    def estimate(self) -> AttributionResult:
        """Estimate from what has ended, and write `attribution.json`."""
        found, before = collect(self.plan, self.measures), self.earlier(ATTRIBUTION_FILE, AttributionResult)
        metrics = [one.metric for one in self.measures.every]
        effects: Attribution | None = None
        matrix: Transfer | None = None
        correlations: tuple[Correlation, ...] = ()
        problem = ""
        if not any(trial.measured() for trial in found.trials):
            problem = "no run has finished"
        elif self.file.section.transfer is None:
            effects, correlations = self._attribute(found, metrics)
            if found.waiting and not effects.effects and not any(one.alone for one in effects.decompositions):
                effects, correlations, problem = None, (), "nothing is told"
        else:
            try:
                matrix = self._transfer(found.trials, metrics)
            except RecipeError as error:
                problem = str(error)
        if problem and found.waiting:
            problem = self._too_early(found)
        result = AttributionResult(
            format=FORMAT, experiment=str(self.file.path), recipe=str(self.file.recipe_path),
            directory=str(self.plan.directory), finished=not found.waiting and bool(found.base), probe=self.probe(),
            seeds=tuple(self.file.seeds),
            metrics=tuple(
                MeasuredMetric(
                    one.metric.name, one.metric.higher_is_better, one.tasks, found.left_out.get(one.metric.name, {})
                )
                for one in self.measures.every
            ),
            base={name: one.value for name, one in found.base.items()}, cells=tuple(self._cells(self.runs(found))),
            plan=before.plan if before else tuple(self.described), attribution=effects, transfer=matrix,
            correlations=correlations, problem=problem,
        )  # fmt: skip
        self.plan.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.plan.directory / ATTRIBUTION_FILE, asdict(result))
        return result

    def _too_early(self, found: Collected) -> str:
        """Why what has ended answers nothing yet, and how to go on."""
        count, waiting = len(self.plan.trials), [trial.title for trial in found.waiting]
        first = "; ".join(waiting[:2]) + (" and others" if len(waiting) > 2 else "")
        return (
            f"{count - len(waiting)} of {count} runs have ended, which do not answer what is asked yet; still to run: "
            f"{first}. tsugiki attribute {self.file.path} goes on, and estimates at its end; tsugiki attribute status "
            f"{self.file.path} says where each run stands"
        )

    def _attribute(
        self, collected: Collected, metrics: Sequence[Metric]
    ) -> tuple[Attribution, tuple[Correlation, ...]]:
        """What runs that have not ended would tell is left out, like what those would that failed."""
        runs = [
            Run(self.file.cells[trial.name], seed, _values(found))
            for trial in collected.trials for seed, found in trial.seeds.items()
        ]  # fmt: skip
        not_yet = Ending(diverged=False, reason="has not ended")
        runs += [Run(self.file.cells[trial.name], trial.seed, not_yet) for trial in collected.waiting]
        effects = attribute(self.file.factors, runs, metrics, self.file.comparisons, self.file.terms)
        names = [factor.name for factor in self.file.factors]
        return effects, tuple(correlate(runs, (first, second), names) for first, second in self.file.section.correlate)

    def _transfer(self, trials: Sequence[Measured], metrics: Sequence[Metric]) -> Transfer:
        runs = [
            MixtureRun(frozenset(name for name, level in self.file.cells[trial.name].items() if level == WITH), seed,
                       _values(found))
            for trial in trials for seed, found in trial.seeds.items()
        ]  # fmt: skip
        return transfer([factor.name for factor in self.file.factors], runs, metrics, self.file.domains)

    def _cells(self, runs: dict[str, tuple[RunResult, ...]]) -> list[CellResult]:
        changes = {trial.name: trial.changes for trial in self.plan.trials}
        cells = []
        for name, of_it in runs.items():
            done = [run.measured for run in of_it if run.measured]
            means = {metric: sum(one[metric] for one in done) / len(done) for metric in done[0]} if done else {}
            cells.append(CellResult(name, dict(self.file.cells[name]), changes[name], of_it, means))
        return cells


def _values(found: object) -> dict[str, float] | Ending:
    """Of one run, as the estimates take it."""
    if isinstance(found, Ending):
        return found
    assert isinstance(found, dict)
    return {name: one.value for name, one in found.items()}
