"""The sweep file: which recipe is varied, how far each trial runs, and what it is judged by.

It is read by the recipe's own rules (YAML 1.2, every problem with its line, unknown keys named with the nearest); what
each trial changes is checked by reading the whole recipe with those changes (`expand`), before anything is run.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from tsugiki.errors import RecipeError
from tsugiki.files import explain_os_error
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import OVERRIDE, parse_recipe
from tsugiki.recipe_names import section_at
from tsugiki.recipe_values import Count, Listed, PathText, Section, SourceName, Text, whole_number
from tsugiki.recipe_values import FilePath as FolderPath
from tsugiki.recipe_yaml import MAX_BYTES, Document, read
from tsugiki.shapes import Path, dotted, explain

SET_BY_THE_SWEEP = ("run_dir", "seed", "evaluation", "training.stop_after_steps", "training.eval_documents")
"""Keys that no trial may change: where it runs, its repeats, its length, and how it is measured, which must be the same
for all."""


def _listed(value: Any) -> Any:
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


class JudgeSection(Section):
    """What decides. A metric is `suite:LANGUAGE`, a task's name, or `bits_per_byte:SOURCE` (or a language)."""

    gain: Annotated[list[Text], BeforeValidator(_listed), Field(min_length=1)] = Field(
        description="What should get better; the first one ranks, the others must not fall below the base."
    )
    keep: dict[Text, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="What must not fall, and by how much at most, in the metric's own units."
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


class SweepSection(Section):
    """A sweep, whole."""

    recipe: PathText = Field(description="The recipe that is varied, relative to this file.")
    sweep_dir: FolderPath | None = Field(
        default=None,
        description="Folder of the sweep. Default: beside the recipe's run_dir, named as this file.",
    )
    trials: dict[SourceName, dict[Text, Any]] | None = Field(
        default=None, description="The trials by name, each with the recipe keys that it changes.", min_length=1
    )
    vary: dict[Text, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        default=None, description="Instead of trials: recipe keys with the values to combine.", min_length=1
    )
    probe: ProbeSection | None = Field(default=None, description="Default: the recipe's whole length.")
    seeds: Annotated[int, Field(ge=1, le=1000), BeforeValidator(whole_number)] = Field(
        default=1, description="Repeats of each trial: the recipe's seed and the ones that follow it."
    )
    judge: JudgeSection = Field(description="What decides.")
    executor: Annotated[ExecutorSection, BeforeValidator(_named)] = Field(
        default=ExecutorSection(), description="Who runs the trials: local or slurm, or a mapping with `kind`."
    )


@dataclass(frozen=True)
class Variant:
    """One way to change the recipe."""

    name: str
    changes: dict[str, Any]
    """By dotted recipe key."""
    line: int
    """Of the sweep file."""


@dataclass(frozen=True)
class SweepFile:
    """A sweep file that has been read, and the recipe that it varies."""

    path: FilePath
    section: SweepSection
    recipe_path: FilePath
    recipe_text: str
    base: Recipe
    """The recipe as it stands."""
    variants: tuple[Variant, ...]
    document: Document
    check_files: bool

    @property
    def directory(self) -> FilePath:
        """Where the sweep works."""
        return self.section.sweep_dir or self.base.run_dir.parent / self.path.stem

    @property
    def seeds(self) -> list[int]:
        """Of the repeats."""
        return [self.base.seed + number for number in range(self.section.seeds)]

    def line_of(self, *path: str) -> str:
        """`sweep.yaml:12`, where a key stands."""
        line = self.document.lines.get(tuple(path), self.document.lines.get(path[:1], 1))
        return f"{self.path}:{line}"

    def recipe_with(self, variant: Variant, more: Mapping[str, Any]) -> Recipe:
        """The recipe as a variant changes it, with further keys on top.

        Raises RecipeError, naming the line of the sweep file.
        """
        try:
            overrides = _overrides(variant.changes | dict(more))
            return parse_recipe(self.recipe_text, str(self.recipe_path), overrides, self.check_files)
        except RecipeError as error:
            where = f"{self.path}:{variant.line}: trial {variant.name}"
            lines = (line.removeprefix(f"{OVERRIDE}: ") for line in str(error).splitlines())
            raise RecipeError("\n".join(f"{where}: {line}" for line in lines)) from None


def load_sweep(path: FilePath, *, check_files: bool = True) -> SweepFile:
    """Read a sweep file and the recipe that it names.

    Raises RecipeError with a problem a line. The trials' recipes are not read yet: `trials.expand` does.
    """
    document = read(_text_of(path), str(path))
    if not isinstance(document.tree, dict):
        raise RecipeError(f"{path}:1: a sweep is a mapping of keys to values, such as `recipe: recipe.yaml`")
    try:
        section = SweepSection.model_validate(document.tree)
    except ValidationError as error:
        raise RecipeError(_problems(error, path, document)) from None
    if (section.trials is None) == (section.vary is None):
        raise RecipeError(f"{path}:1: give one of trials (named) and vary (a grid)")
    recipe_path = path.parent / section.recipe
    text = _text_of(recipe_path)
    base = parse_recipe(text, str(recipe_path), (), check_files)
    return SweepFile(
        path, section, recipe_path, text, base, tuple(_variants(section, path, document)), document, check_files
    )


def _text_of(path: FilePath) -> str:
    try:
        content = path.read_bytes()
        return content[: MAX_BYTES + 1].decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(explain_os_error(error, path, "read")) from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text; save the file as UTF-8") from None


def _problems(error: ValidationError, path: FilePath, document: Document) -> str:
    lines: list[tuple[int, str]] = []
    meant: set[Path] = set()
    # A misspelt key is also a missing one; the first message says all there is to say.
    for details in sorted(error.errors(include_url=False), key=lambda one: one["type"] == "missing"):
        place: Path = tuple(part for part in details["loc"] if part != "[key]")
        while place and place not in document.lines and details["type"] not in ("missing", "extra_forbidden"):
            place = place[:-1]
        if details["type"] == "extra_forbidden":
            known = _keys_beside(place)
            near = get_close_matches(str(place[-1]), known, 1, 0.6)
            meant.update((*place[:-1], key) for key in near)
            message = "unknown key" + (f"; did you mean {near[0]}?" if near else f"; known ones are {', '.join(known)}")
        elif details["type"] != "missing":
            message = explain(details)
        elif place in meant:
            continue
        else:
            message = "missing"
        line = document.lines.get(place) or document.lines.get(place[:-1], 1)
        lines.append((line, f"{path}:{line}: {dotted(place)}: {message}"))
    return "\n".join(text for _, text in sorted(dict.fromkeys(lines)))


def _keys_beside(place: Path) -> list[str]:
    section: type[Section] = SweepSection
    below: dict[str, type[Section]] = {"probe": ProbeSection, "judge": JudgeSection, "executor": ExecutorSection}
    if len(place) > 1:
        section = below.get(str(place[0]), SweepSection)
    return list(section.model_fields)


# --- trials ---------------------------------------------------------------------------------------


def _variants(section: SweepSection, path: FilePath, document: Document) -> list[Variant]:
    found = []
    if section.trials is not None:
        for name, changes in section.trials.items():
            found.append(Variant(name, _flat(changes), document.lines.get(("trials", name), 1)))
    else:
        assert section.vary is not None
        line = document.lines.get(("vary",), 1)
        labels = _labels(list(section.vary))
        for values in itertools.product(*(list(enumerate(each)) for each in section.vary.values())):
            parts = [
                _label(labels[key], place, value) for key, (place, value) in zip(section.vary, values, strict=True)
            ]
            changes = {key: value for key, (_, value) in zip(section.vary, values, strict=True)}
            found.append(Variant("_".join(parts)[:64], _flat(changes), line))
    names = [variant.name.lower() for variant in found]
    problems = []
    for variant in found:
        where = f"{path}:{variant.line}: trial {variant.name}"
        if names.count(variant.name.lower()) > 1:
            problems.append(f"{where}: two trials have this name; give them different values or names")
        for key in variant.changes:
            taken = next((one for one in SET_BY_THE_SWEEP if key == one or key.startswith(f"{one}.")), None)
            if taken is not None:
                problems.append(f"{where}: {key}: no trial may change this; {_whose(taken)}")
    if problems:
        raise RecipeError("\n".join(problems))
    return found


def _whose(key: str) -> str:
    return {
        "run_dir": "the sweep gives each its folder (sweep_dir)",
        "seed": "seeds says how often each trial is repeated",
        "training.stop_after_steps": "probe.steps says how far each runs",
    }.get(key, "all are measured alike, as the recipe says")


def _flat(changes: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """`{training: {learning_rate: 1e-4}}` is the key `training.learning_rate`: a section is changed, not replaced."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        key = f"{inside}{name}"
        if isinstance(value, dict) and section_at(tuple(key.split("."))) is not None:
            found |= _flat(value, f"{key}.")
        else:
            found[key] = value
    return found


def _overrides(changes: Mapping[str, Any]) -> list[str]:
    """As `parse_recipe` takes them; JSON is YAML."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]


def _labels(keys: list[str]) -> dict[str, str]:
    """The last part of each key, or the whole where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def _label(name: str, place: int, value: Any) -> str:
    """`learning_rate-1e-4`; a value that is no name of a folder has its number."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float):
        mantissa, _, exponent = f"{value:.6e}".partition("e")
        text = min(f"{value:g}", f"{float(mantissa):g}e{int(exponent)}", key=len)
    elif isinstance(value, int):
        text = str(value)
    else:
        text = value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,32}", value) else str(place + 1)
    return f"{name}-{text}"
