"""The sweep file: which recipe is varied, how far each trial runs, and what it is judged by."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from tsugiki.errors import RecipeError
from tsugiki.experiments.experiment_file import (
    ExperimentFile,
    ExperimentSection,
    Variant,
    Where,
    flat,
    listed,
    read_recipe,
    read_section,
    taken_keys,
)
from tsugiki.recipe_values import FilePath as FolderPath
from tsugiki.recipe_values import Section, SourceName, Text


class JudgeSection(Section):
    """What decides. A metric is `suite:LANGUAGE`, a task's name, or `bits_per_byte:SOURCE` (or a language)."""

    gain: Annotated[list[Text], BeforeValidator(listed), Field(min_length=1)] = Field(
        description="What should get better; the first one ranks, the others must not fall below the base."
    )
    keep: dict[Text, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="What must not fall, and by how much at most, in the metric's own units."
    )


class SweepSection(ExperimentSection):
    """A sweep, whole."""

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
    judge: JudgeSection = Field(description="What decides.")


@dataclass(frozen=True)
class SweepFile(ExperimentFile):
    """A sweep file that has been read."""

    verb: ClassVar[str] = "sweep"
    conclude: ClassVar[str] = "judge"
    folder_key: ClassVar[str] = "sweep_dir"
    compares_with_base: ClassVar[bool] = True

    section: SweepSection

    @property
    def asked(self) -> dict[str, list[str]]:
        """What gains and what is kept."""
        return {"judge.gain": self.section.judge.gain, "judge.keep": list(self.section.judge.keep)}


def load_sweep(path: FilePath, *, check_files: bool = True) -> SweepFile:
    """Read a sweep file and the recipe that it names.

    Raises RecipeError with a problem a line. The trials' recipes are not read yet: `trials.expand` does.
    """
    where, section = read_section(path, SweepSection, "sweep")
    if (section.trials is None) == (section.vary is None):
        raise RecipeError(f"{path}:1: give one of trials (named) and vary (a grid)")
    recipe_path, text, base = read_recipe(where, section, check_files)
    variants = tuple(_trials(section, where) if section.trials is not None else _grid(section, where))
    names = [variant.name.lower() for variant in variants]
    problems: list[str] = []
    for variant in variants:
        found = taken_keys(variant.changes)
        if names.count(variant.name.lower()) > 1:
            found.insert(0, "two trials have this name; give them different values or names")
        problems += map(variant.blame, found)
    if problems:
        raise RecipeError("\n".join(problems))
    return SweepFile(where, section, recipe_path, text, base, check_files, variants)


def _trials(section: SweepSection, where: Where) -> Iterator[Variant]:
    assert section.trials is not None
    for name, changes in section.trials.items():
        keys, title = flat(changes), f"trial {name}"
        places = {key: f"{where.inside(('trials', name), key)}: {title}" for key in keys}
        yield Variant(name, keys, f"{where.at('trials', name)}: {title}", places)


def _grid(section: SweepSection, where: Where) -> Iterator[Variant]:
    assert section.vary is not None
    labels = _labels(list(section.vary))
    for values in itertools.product(*(list(enumerate(each)) for each in section.vary.values())):
        parts = [_label(labels[key], place, value) for key, (place, value) in zip(section.vary, values, strict=True)]
        changes = {key: value for key, (_, value) in zip(section.vary, values, strict=True)}
        name = "_".join(parts)[:64]
        places = {key: f"{where.inside(('vary',), key)}: trial {name}" for key in changes}
        yield Variant(name, flat(changes), f"{where.at('vary')}: trial {name}", places)


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
