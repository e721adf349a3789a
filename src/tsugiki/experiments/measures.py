"""The metrics of an experiment: what their names mean, found out before anything runs.

suite:ja              the mean over the suite's tasks in a language that have a score for all models
bits_per_byte:ja      held-out text: of the source of this name, or of all sources in this language
mgsm_ja, mgsm         a task by its name, with or without its language
spikes                steps that stood out, as training recorded them: of runs, so that no base has it
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tsugiki.errors import RecipeError
from tsugiki.evaluation_files import KnownTask
from tsugiki.experiment_results import Metric
from tsugiki.experiments.experiment_file import nearest
from tsugiki.experiments.sharing import stored_as
from tsugiki.experiments.trials import Plan
from tsugiki.recipe import Recipe
from tsugiki.shapes import Path

QUICK = "quick"
"""The suite that scores held-out text."""
SPIKES = "spikes"
Known = Callable[[Recipe, str], Sequence[KnownTask]]
"""Which tasks a suite will score for a recipe."""


@dataclass(frozen=True)
class Measure:
    """A metric, and the tasks that it is the mean of."""

    metric: Metric
    suite: str | None
    """None for what is read from the run itself."""
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Measures:
    """All that is asked for, each metric once."""

    by_name: dict[str, Measure]

    @property
    def every(self) -> list[Measure]:
        """In the order of the file."""
        return list(self.by_name.values())

    @property
    def suites(self) -> list[str]:
        """The evaluations that they take, each model's."""
        return list(dict.fromkeys(one.suite for one in self.every if one.suite is not None))


def resolve(plan: Plan, known: Known) -> Measures:
    """What the names of metrics in the experiment's file mean. Where runs are compared with the base, `spikes` is none.

    Raises RecipeError for a name that means nothing here, with the names that do; for held-out text that a trial has
    not, or has of other documents.
    """
    names, problems = _names(plan.base.recipe, known), []
    if not plan.file.compares_with_base:
        names[SPIKES] = Measure(Metric(SPIKES, higher_is_better=False), None, ())
    found: dict[str, Measure] = {}
    for key, asked in plan.file.asked.items():
        for number, name in enumerate(asked):
            at: Path = (*key.split("."), name)
            if at not in plan.file.where.document.lines:  # a list
                at = (*at[:-1], number)
            where = f"{plan.file.where.at(*at)}: {key}"
            measure = names.get(name)
            if measure is not None:
                found[name] = measure
                problems += _differences(plan, measure, f"{where}: {name}")
                continue
            shown = [one for one in names if not one.endswith("_bits")]
            problems.append(
                f"{where}: {name} is not measured by this recipe"
                + (nearest(name, shown) or ".")
                + f" It measures {', '.join(shown)}"
            )
    problems = problems or plan.file.misnamed_metrics()
    if problems:
        raise RecipeError("\n".join(problems))
    return Measures(found)


def _names(recipe: Recipe, known: Known) -> dict[str, Measure]:
    """Every name that means something here."""
    assert recipe.evaluation is not None  # `expand` has refused a recipe without
    suite, found = recipe.evaluation.suite, {}
    tasks = known(recipe, suite)
    for language in dict.fromkeys(task.language for task in tasks if ": " not in task.language):
        of_it = tuple(task.task for task in tasks if task.language == language and task.higher_is_better)
        if of_it:
            found[f"suite:{language}"] = Measure(Metric(f"suite:{language}"), suite, of_it)
    languages: dict[str, list[str]] = {}
    for name, source in recipe.data.sources.items():
        if recipe.holds_out(name) and not source.is_chat:
            languages.setdefault(source.language or name, []).append(name)
    held_out = {name: [name] for names in languages.values() for name in names}
    for label, sources in {**languages, **held_out}.items():
        metric = Metric(f"bits_per_byte:{label}", higher_is_better=False)
        found[metric.name] = Measure(metric, QUICK, tuple(f"text_{name}" for name in sources))
    for task in tasks:
        found[task.name] = Measure(Metric(task.name, task.higher_is_better), suite, (task.task,))
    for task in tasks:
        stem, mark, language = task.name.rpartition("_")
        alike = [one for one in tasks if one.name.rpartition("_")[0] == stem]
        if mark and language == task.language and len(alike) == 1 and stem not in found:
            found[stem] = Measure(Metric(stem, task.higher_is_better), suite, (task.task,))
    return found


def _differences(plan: Plan, measure: Measure, where: str) -> list[str]:
    """Where the held-out text of a metric is not the same for all trials."""
    problems = []
    for source in (task.removeprefix("text_") for task in measure.tasks if measure.suite == QUICK):
        if source not in plan.base.recipe.data.sources:
            continue
        kinds: dict[str, str] = {}
        for trial in plan.trials:
            if source not in trial.recipe.data.sources:
                problems.append(
                    f"{where}: trial {trial.name} has no source {source}; give it weight 0 there to watch it"
                )
            else:
                kinds.setdefault(stored_as(trial.recipe, source), trial.name)
        if len(kinds) > 1:
            first, other, *_ = kinds.values()
            problems.append(f"{where}: trials {first} and {other} hold out other documents of {source}")
    return list(dict.fromkeys(problems))
