"""The file of an experiment: which recipe is run in several ways, how often, how far, and by whom.

Sweeps and attributions share it; what they vary and ask stands in files of their own (`sweep_file`,
`attribution_file`). It is read by the recipe's own rules (YAML 1.2, every problem with its line, unknown keys named
with the nearest); what each variant changes is checked by reading the whole recipe with those changes
(`trials.expand`), before anything is run.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from tsugiki.errors import RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import OVERRIDE, parse_recipe, read_text
from tsugiki.recipe_kinds import Kind, require_kind
from tsugiki.recipe_names import section_at
from tsugiki.recipe_values import Count, Listed, PathText, Section, Text, whole_number
from tsugiki.recipe_yaml import Document, read
from tsugiki.shapes import Path, dotted, explain

SET_BY_THE_EXPERIMENT = ("run_dir", "seed", "evaluation", "training.stop_after_steps", "training.eval_documents")
"""Keys that no variant may change: where it runs, its repeats, its length, and how it is measured, which must be the
same for all."""


def listed(value: Any) -> Any:
    """One text may be written without brackets."""
    return [value] if isinstance(value, str) else value


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class ProbeSection(Section):
    """How far each trial runs."""

    steps: Count = Field(description="Steps of each trial.")
    schedule: Literal["full", "compressed"] = Field(
        default="full",
        description="full: the recipe's whole schedule, stopped after these steps. compressed: a schedule of this"
        " length, with warm-up, decay and stages shortened alike.",
    )


class ExecutorSection(Section):
    """Who runs the trials."""

    kind: Literal["local", "slurm"] = Field(
        default="local", description="local: this machine. slurm: an array of jobs."
    )
    at_once: Listed | None = Field(
        default=None, description="Trials at a time. Default: local, one a GPU or core; slurm, as many as it grants."
    )
    gpus_per_trial: Listed = Field(default=1, description="local: GPUs that each trial gets, where there are any.")
    launch: Text | None = Field(
        default=None,
        description="What starts a trial's processes, put before `-m tsugiki run`, such as torchrun with its options,"
        " or srun python. Default: this Python, one process.",
    )
    options: list[Text] = Field(default=[], description="slurm: lines of #SBATCH, such as --gpus-per-node=8.")
    setup: list[Text] = Field(
        default=[], description="slurm: shell lines before the work, such as source .venv/bin/activate."
    )


class ExperimentSection(Section):
    """What every experiment says."""

    recipe: PathText = Field(description="The recipe that is varied, relative to this file.")
    probe: ProbeSection | None = Field(default=None, description="Default: the recipe's whole length.")
    seeds: Annotated[int, Field(ge=1, le=1000), BeforeValidator(whole_number)] = Field(
        default=1, description="Repeats of each trial: the recipe's seed and the ones that follow it."
    )
    executor: Annotated[ExecutorSection, BeforeValidator(_named)] = Field(
        default=ExecutorSection(), description="Who runs the trials: local or slurm, or a mapping with `kind`."
    )


@dataclass(frozen=True)
class Variant:
    """One way to change the recipe."""

    name: str
    changes: dict[str, Any]
    """By dotted recipe key."""
    place: str
    """Where it stands: `sweep.yaml:12: trial low`."""
    places: Mapping[str, str]
    """By key, where that is set: `effects.yaml:8: rate, high`."""

    def blame(self, problem: str) -> str:
        """A problem with the place of the key that it names."""
        for key, place in self.places.items():
            entry = key.rpartition(".")[0]  # `data.sources.ja` of its weight
            for name in (key, entry) if entry.count(".") > 1 else (key,):
                if re.search(rf"(?:^|: ){re.escape(name)}[:.]", problem):
                    return f"{place}: {problem}"
        return f"{self.place}: {problem}"


@dataclass(frozen=True)
class Where:
    """The file, and the lines of its keys."""

    path: FilePath
    document: Document

    def line(self, *keys: str | int) -> int:
        """Where a key stands, or the nearest one around it that is known."""
        place: Path = keys
        while place and place not in self.document.lines:
            place = place[:-1]
        return self.document.lines.get(place, 1)

    def at(self, *keys: str | int) -> str:
        """`sweep.yaml:12`"""
        return f"{self.path}:{self.line(*keys)}"

    def inside(self, place: Path, key: str) -> str:
        """The same of a dotted key in the mapping at `place`, whether it is written with dots or nested."""
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            below = (*place, ".".join(parts[:end]))
            if below in self.document.lines:
                return self.inside(below, ".".join(parts[end:])) if end < len(parts) else self.at(*below)
        return self.at(*place)


@dataclass(frozen=True)
class ExperimentFile:
    """An experiment's file that has been read, and the recipe that it varies."""

    verb: ClassVar[str]
    """What the command line calls it."""
    conclude: ClassVar[str]
    """Its option that concludes from what has ended, and runs nothing."""
    folder_key: ClassVar[str]
    """The section's key that names the folder."""
    compares_with_base: ClassVar[bool]

    where: Where
    section: ExperimentSection
    recipe_path: FilePath
    recipe_text: str
    base: Recipe
    """The recipe as it stands."""
    check_files: bool
    variants: tuple[Variant, ...]

    @property
    @abstractmethod
    def asked(self) -> Mapping[str, Sequence[str]]:
        """The names of metrics that it asks for, by the key that does."""

    def misnamed_metrics(self) -> list[str]:
        """What is wrong with metrics that are named beside `asked`, which has been found to name metrics."""
        return []

    @property
    def path(self) -> FilePath:
        """Of the file."""
        return self.where.path

    @property
    def directory(self) -> FilePath:
        """Where the experiment works: as it says, or beside the recipe's run, named as the file."""
        named: FilePath | None = getattr(self.section, self.folder_key)
        return named or self.base.run_dir.parent / self.path.stem

    @property
    def seeds(self) -> list[int]:
        """Of the repeats."""
        return [self.base.seed + number for number in range(self.section.seeds)]

    def recipe_with(self, variant: Variant, more: Mapping[str, Any]) -> Recipe:
        """The recipe as a variant changes it, with further keys on top.

        Raises RecipeError, naming the line of the experiment's file.
        """
        try:
            overrides = _overrides(variant.changes | dict(more))
            return parse_recipe(self.recipe_text, str(self.recipe_path), overrides, self.check_files)
        except RecipeError as error:
            lines = (line.removeprefix(f"{OVERRIDE}: ") for line in str(error).splitlines())
            raise RecipeError("\n".join(map(variant.blame, lines))) from None


S = TypeVar("S", bound=ExperimentSection)


def read_section(path: FilePath, section: type[S], kind: Kind) -> tuple[Where, S]:
    """The file in its declared form.

    Raises RecipeError with a problem a line.
    """
    document = read(read_text(path, "experiment", ""), str(path))
    if not isinstance(document.tree, dict):
        raise RecipeError(f"{path}:1: no {kind}, which is a mapping of keys to values, such as `recipe: recipe.yaml`")
    require_kind(document.tree, kind, str(path))
    where = Where(path, document)
    try:
        return where, section.model_validate(document.tree)
    except ValidationError as error:
        raise RecipeError(_problems(error, where, section)) from None


def read_recipe(where: Where, section: ExperimentSection, check_files: bool) -> tuple[FilePath, str, Recipe]:
    """The recipe that is varied: its path, its text and as it stands. Raises RecipeError."""
    path = where.path.parent / section.recipe
    text = read_text(path)
    return path, text, parse_recipe(text, str(path), (), check_files)


def _problems(error: ValidationError, where: Where, kind: type[Section]) -> str:
    lines: list[tuple[int, str]] = []
    meant: set[Path] = set()
    # A misspelt key is also a missing one; the first message says all there is to say.
    for details in sorted(error.errors(include_url=False), key=lambda one: one["type"] == "missing"):
        place: Path = tuple(part for part in details["loc"] if part != "[key]")
        while place and place not in where.document.lines and details["type"] not in ("missing", "extra_forbidden"):
            place = place[:-1]
        if details["type"] == "extra_forbidden":
            known = _keys_beside(place, kind)
            near = get_close_matches(str(place[-1]), known, 1, 0.6)
            meant.update((*place[:-1], key) for key in near)
            message = "unknown key" + (nearest(str(place[-1]), known) or f"; known ones are {', '.join(known)}")
        elif details["type"] != "missing":
            message = explain(details)
        elif place in meant:
            continue
        else:
            message = "missing"
        line = where.document.lines.get(place) or where.document.lines.get(place[:-1], 1)
        lines.append((line, f"{where.path}:{line}: {dotted(place)}: {message}"))
    return "\n".join(text for _, text in sorted(dict.fromkeys(lines)))


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean replay?`, or nothing."""
    near = get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _keys_beside(place: Path, kind: type[BaseModel]) -> list[str]:
    """Of the section that an unknown key stands in."""
    for part in place[:-1]:
        field = kind.model_fields.get(str(part))
        below = _section_of(field.annotation) if field else None
        kind = below or kind
    return [field.alias or name for name, field in kind.model_fields.items()]


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section in `Section`, `Section | None`, `list[Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_of(part))), None)


# --- what a variant changes -----------------------------------------------------------------------


def taken_keys(changes: Mapping[str, Any]) -> list[str]:
    """What is wrong with the keys that a variant changes: those that are not its own to change."""
    problems = []
    for key in changes:
        taken = next((one for one in SET_BY_THE_EXPERIMENT if key == one or key.startswith(f"{one}.")), None)
        if taken is not None:
            problems.append(f"{key}: no trial may change this; {_whose(taken)}")
    return problems


def _whose(key: str) -> str:
    return {
        "run_dir": "each gets a folder of its own",
        "seed": "seeds says how often each trial is repeated",
        "training.stop_after_steps": "probe.steps says how far each runs",
    }.get(key, "all are measured alike, as the recipe says")


def flat(changes: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """`{training: {learning_rate: 1e-4}}` is the key `training.learning_rate`: a section is changed, not replaced."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        key = f"{inside}{name}"
        if isinstance(value, dict) and section_at(tuple(key.split("."))) is not None:
            found |= flat(value, f"{key}.")
        else:
            found[key] = value
    return found


def _overrides(changes: Mapping[str, Any]) -> list[str]:
    """As `parse_recipe` takes them; JSON is YAML."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
