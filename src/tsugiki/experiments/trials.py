"""From an experiment's file to its trials: the whole recipe of each, checked, and the files that it leaves.

NAME-seed-S/           an ordinary run directory, in the experiment's folder
NAME-seed-S.yaml       its recipe; `tsugiki run` takes it as any other
NAME-seed-S.log        what its processes printed
NAME-seed-S.ended.json how it ended, once it has (`Ended`)
base.yaml, base/ ...   the same of the base, which is evaluated and not trained
shared/                what several trials read (`sharing`)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from typing_extensions import TypedDict

from tsugiki.errors import RecipeError
from tsugiki.experiments.experiment_file import ExperimentFile, Variant
from tsugiki.experiments.sharing import assign
from tsugiki.files import read_json, write_atomically
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps
from tsugiki.recipe_file import load_recipe, parse_recipe, show
from tsugiki.recipe_resume import compare_for_resume


class Ended(TypedDict):
    """What is recorded of a trial that is over."""

    ending: Literal["done", "diverged", "died"]
    steps: int
    """That it was to make."""
    step: int
    """That it reached."""
    reason: str
    results: dict[str, str]
    """By suite, the folder of its results, relative to the experiment's folder."""


@dataclass(frozen=True)
class Trial:
    """One run of an experiment."""

    number: int
    """Counted from 0: what `--trial` takes, and an array of jobs."""
    name: str
    seed: int
    recipe: Recipe
    changes: dict[str, Any]
    steps: int
    """That it makes."""

    @property
    def folder(self) -> Path:
        """Its run directory."""
        return self.recipe.run_dir

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name}, seed {self.seed}" if self.number >= 0 else self.name

    def beside(self, ending: str) -> Path:
        """A file of its own beside its run directory."""
        return self.folder.with_name(f"{self.folder.name}{ending}")

    def ended(self) -> Ended | None:
        """How it ended; None while it has not, or had fewer steps to make then."""
        path = self.beside(".ended.json")
        found = read_json(path, Ended) if path.exists() else None
        return found if found is not None and found["steps"] == self.steps else None


@dataclass(frozen=True)
class Plan:
    """All trials of an experiment."""

    file: ExperimentFile
    trials: tuple[Trial, ...]
    """Every variant at the first seed, then at the next: what is stopped early has compared them all."""
    base: Trial
    """Evaluated and not trained: its number is -1, its steps 0."""
    scaled: tuple[str, ...]
    """What a compressed schedule shortens, in words."""

    @property
    def directory(self) -> Path:
        """The experiment's folder."""
        return self.file.directory

    def makers(self, trials: Sequence[Trial]) -> list[Trial]:
        """Of some trials, one for each vocabulary and folder of stores, who makes them for the others; the base reads
        what one of them makes."""
        found: dict[Any, Trial] = {}
        for trial in (*trials, self.base):
            recipe = trial.recipe
            vocabulary = recipe.vocabulary_dir if recipe.vocabulary is not None else None
            found.setdefault((vocabulary, recipe.prepared_dir, frozenset(recipe.data.sources)), trial)
        return list(found.values())


def expand(file: ExperimentFile) -> Plan:
    """The trials with their recipes.

    Raises RecipeError with every problem of every trial, naming the lines of the experiment's file.
    """
    if file.base.evaluation is None:
        raise RecipeError(
            f"{file.recipe_path}: has no section evaluation, so nothing would be measured: add it, such as "
            "evaluation: {suite: quick}"
        )
    if file.base.model.name_or_path is None:
        raise RecipeError(
            f"{file.recipe_path}: model.architecture starts from random weights; trials are compared with the base "
            "that they continue: give model.name_or_path"
        )
    problems, scaled = [], []
    wanted: list[tuple[Variant, int, dict[str, Any], Recipe]] = []
    for seed in file.seeds:
        for variant in file.variants:
            try:
                more, words = _probe(file, variant)
                more |= {"seed": seed, "run_dir": str(file.directory / f"{variant.name}-seed-{seed}")}
                wanted.append((variant, seed, more, file.recipe_with(variant, more)))
                scaled += words
            except RecipeError as error:
                problems += str(error).splitlines()
    if problems:
        raise RecipeError("\n".join(dict.fromkeys(problems)))
    places = assign(file.base, [recipe for *_, recipe in wanted], file.directory / "shared")
    trials = []
    for number, ((variant, seed, more, _), place) in enumerate(zip(wanted, places, strict=True)):
        more |= {"data.prepared_dir": str(place.prepared_dir)}
        if place.vocabulary_dir is not None:
            more |= {"vocabulary.output_dir": str(place.vocabulary_dir)}
        recipe = file.recipe_with(variant, more)
        steps = min(total_steps(recipe), recipe.training.stop_after_steps or total_steps(recipe))
        trials.append(Trial(number, variant.name, seed, _measured(recipe, base=False), variant.changes, steps))
    return Plan(file, tuple(trials), _base_of(file, trials), tuple(dict.fromkeys(scaled)))


def _probe(file: ExperimentFile, variant: Variant) -> tuple[dict[str, Any], list[str]]:
    """The keys that make a variant's run as long as the probe, and what else they shorten."""
    probe, recipe = file.section.probe, file.recipe_with(variant, {})
    if recipe.training.num_epochs is not None:
        place = file.path if file.base.training.num_epochs is None else file.recipe_path
        raise RecipeError(
            f"{place}: training.num_epochs: trials are planned, and costs told, before the data are prepared, which "
            "alone say how many steps epochs are: give training.max_steps instead (after `tsugiki prepare RECIPE`, "
            "`tsugiki validate RECIPE` says how many they are)"
        )
    if probe is None:
        return {"training.stop_after_steps": None}, []
    total = total_steps(recipe)
    if probe.steps > total:
        raise RecipeError(
            f"{file.where.at('probe', 'steps')}: probe.steps: {probe.steps:,} is more than the {total:,} steps of "
            f"trial {variant.name}"
        )
    if probe.steps == total:
        return {"training.stop_after_steps": None}, []
    if probe.schedule == "full":
        return {"training.stop_after_steps": probe.steps}, []
    training, factor = recipe.training, probe.steps / total
    keys: dict[str, Any] = {
        "training.stop_after_steps": None, "training.max_steps": probe.steps, "training.max_tokens": None
    }  # fmt: skip
    words = [f"the schedule of {total:,} steps is pressed into {probe.steps:,}"]
    for key in ("warmup_steps", "decay_steps", "embedding_warmup_steps"):
        steps = getattr(training, key)
        if steps:
            keys[f"training.{key}"] = max(1, round(steps * factor))
            words.append(f"{key} from {steps:,} to {keys[f'training.{key}']:,}")
    if recipe.data.stages:
        stages = [stage.model_dump(mode="json") for stage in recipe.data.stages]
        for stage in stages:
            was, stage["start_step"] = stage["start_step"], max(1, round(stage["start_step"] * factor))
            words.append(f"the stage that starts at step {was:,} starts at {stage['start_step']:,}")
        keys["data.stages"] = stages
    return keys, words


def _measured(recipe: Recipe, *, base: bool) -> Recipe:
    """The recipe with an evaluation of one model alone: the base is asked once, for all."""
    assert recipe.evaluation is not None
    section = recipe.evaluation.model_copy(
        update={"base": "only" if base else False, "steps": [], "published": False}
    )  # fmt: skip
    return recipe.model_copy(update={"evaluation": section})


def _base_of(file: ExperimentFile, trials: Sequence[Trial]) -> Trial:
    """The base, asked with the recipe of the trial that has most sources, whose held-out text it is scored on."""
    fullest = max(trials, key=lambda trial: (len(trial.recipe.data.sources), -trial.number))
    recipe = _measured(fullest.recipe, base=True).model_copy(update={"run_dir": file.directory / "base"})
    return Trial(-1, "base", fullest.seed, recipe, {}, 0)


def write_recipes(plan: Plan) -> None:
    """Write the recipe of every trial.

    Raises RecipeError where one has begun with another recipe, which cannot be gone on with.
    """
    texts = {
        trial.beside(
            ".yaml"
        ): f"# {trial.title}: written by `tsugiki {plan.file.verb} {plan.file.path}`\n{show(trial.recipe)}"
        for trial in (*plan.trials, plan.base)
    }
    changed = {path: text for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text}
    problems = []
    for trial in plan.trials:
        path = trial.beside(".yaml")
        if path in changed and path.exists() and trial.folder.exists():
            before = load_recipe(path, check_files=False).model_dump(mode="json")
            now = parse_recipe(changed[path], str(path), check_files=False)
            problems += [
                f"{trial.folder} has begun with another recipe: {one}"
                for one in compare_for_resume(before, now, 0) if one.kind == "fixed"
            ]  # fmt: skip
    if problems:
        problems.append(
            f"Give changed trials another name, or the file another {plan.file.folder_key}, or remove what is there "
            f"({plan.directory})"
        )
        raise RecipeError("\n".join(problems))
    plan.directory.mkdir(parents=True, exist_ok=True)
    for path, text in changed.items():
        write_atomically(path, text)
