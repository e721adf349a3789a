"""Which tasks an evaluation of a recipe will score, known before anything is asked and without lm-eval."""

from pathlib import Path
from typing import Any

import yaml

from tsugiki.evaluation.probes.suite import WRITTEN, quick_suite
from tsugiki.evaluation.suites import QUICK, SUITES
from tsugiki.evaluation_files import KnownTask
from tsugiki.recipe import Recipe
from tsugiki.recipe_evaluation import INSTRUCTION_TASKS, TASK_FILES, TEXTS, split_tasks, task_names
from tsugiki.score_combinations import LOWER_IS_BETTER


def known_tasks(recipe: Recipe, suite: str) -> list[KnownTask]:
    """The tasks of a suite that a recipe's section `evaluation` asks for, in its languages. Held-out texts are named
    by the recipe's sources, and are not among them."""
    section = recipe.evaluation
    asked, instructions = split_tasks(section.tasks if section is not None and section.suite == suite else None)
    return [*_of_suite(recipe, suite, asked), *map(_instructions, instructions)]


def _of_suite(recipe: Recipe, suite: str, asked: list[str] | None) -> list[KnownTask]:
    if suite == QUICK:
        return _quick(recipe, asked)
    found = []
    for name in asked if asked is not None else task_names(suite, extra=False):
        path = next(iter(sorted((TASK_FILES / suite).rglob(f"{name}.yaml"))), None)
        found.append(_of_file(path, SUITES[suite].prefix + name, name) if path else KnownTask(name, name, "other"))
    return found


def _instructions(name: str) -> KnownTask:
    """By their first score alone, since the others follow it."""
    return KnownTask(name, name, f"{INSTRUCTION_TASKS[name]}: instructions")


def _of_file(path: Path, task: str, name: str) -> KnownTask:
    facts = yaml.load(path.read_bytes(), _Plain)["metadata"]
    return KnownTask(task, name, facts.get("language", "other"), facts.get("combine") not in LOWER_IS_BETTER)


def _quick(recipe: Recipe, asked: list[str] | None) -> list[KnownTask]:
    if asked is not None:
        return [KnownTask(name, name, "code") for name in asked if name != TEXTS]
    found = []
    for probe in quick_suite(WRITTEN):
        found += [
            KnownTask(probe.name, probe.name, probe.language),
            KnownTask(f"{probe.name}_bits", f"{probe.name}_bits", probe.language, higher_is_better=False),
        ]
    for name, source in recipe.data.sources.items():
        if source.language not in (None, "code", *WRITTEN) and not source.is_chat:
            # Made from its held-out text, where that suffices.
            made = [f"{kind}_{name}" for kind in ("order", "copying", "next")]
            found += [KnownTask(task, task, str(source.language)) for task in made]
    if recipe.evaluation is not None and recipe.evaluation.allow_code_execution:
        found.append(KnownTask("code", "code", "code"))
    return found


class _Plain(yaml.SafeLoader):
    """Reads a task file's data and leaves its functions out."""


def _nothing(_loader: Any, _suffix: Any, _node: Any) -> None:
    return None


_Plain.add_multi_constructor("!", _nothing)
