"""The attribution file: factors with named levels and what each sets, or sources whose transfer is asked.

Every run is of a *cell*: a level for each factor. In a transfer the factors are the sources, with the levels `with` and
`without`. What a source gets of the mixture is taken from one other (`rest`), so that all further shares are constant,
and two factors may displace the same source: their shares add up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from tsugiki.errors import RecipeError
from tsugiki.experiment_results import cell_in_words
from tsugiki.experiments.attribution import Comparison, require_comparable
from tsugiki.experiments.attribution_design import (
    Cell,
    Factor,
    Term,
    full_design,
    half_design,
    require_identifiable,
    two_way_terms,
)
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
from tsugiki.recipe import Recipe
from tsugiki.recipe_values import FilePath as FolderPath
from tsugiki.recipe_values import Section, Text
from tsugiki.recipe_yaml import plain_value

SHARES = "shares"
"""In a level, beside recipe keys: by source, the weight that it gets from `rest`."""
WITH, WITHOUT = "with", "without"
NAME_LENGTH = 150
"""Of a trial, which is the name of a folder: file systems take 255, and there are endings."""
Names = Annotated[list[Text], BeforeValidator(listed), Field(min_length=1)]
Level = Text | bool | int | float
"""A level by its name: `3e-3` is text as a key, and a number as a value."""
Mode = Literal["add-one", "leave-one-out"]


class CompareSection(Section):
    """Two cells whose difference is to be explained."""

    start: dict[Text, Level] = Field(
        alias="from", description="A level for each factor; one that is not named is at its first level."
    )
    end: dict[Text, Level] = Field(alias="to", description="The levels that are others there.", min_length=1)
    parts: dict[Text, Names] = Field(
        default={}, description="Factors that count as one, by the name that they have together."
    )


class TransferSection(Section):
    """Which source is asked for its effect on which domain."""

    sources: dict[Text, Annotated[float, Field(gt=0)]] = Field(
        description="The sources, each with the weight that it gets from `rest`.", min_length=2
    )
    mode: Annotated[list[Mode], BeforeValidator(listed), Field(min_length=1)] = Field(
        default=["add-one", "leave-one-out"],
        description="add-one: none of them, and each alone. leave-one-out: all of them, and all but each.",
    )
    domains: dict[Text, Names] = Field(
        default={}, description="By source, the metrics of its domain. Default: bits_per_byte:SOURCE."
    )


class AttributionSection(ExperimentSection):
    """An attribution, whole."""

    attribution_dir: FolderPath | None = Field(
        default=None, description="Folder of the experiment. Default: beside the recipe's run_dir, named as this file."
    )
    factors: dict[Text, dict[Text, dict[Text, Any]]] | None = Field(
        default=None,
        description="Factors by name, each with its levels, each with the recipe keys that it sets, and `shares`.",
        min_length=1,
    )
    transfer: TransferSection | None = Field(
        default=None, description="Instead of factors: what sources do to domains."
    )
    rest: Text | None = Field(default=None, description="The source that shares are taken from.")
    design: Literal["full", "half"] = Field(
        default="full", description="full: every combination of levels. half: of factors with two levels each."
    )
    terms: list[Annotated[list[Text], BeforeValidator(listed), Field(min_length=1, max_length=2)]] | None = Field(
        default=None, description="Factors and pairs of them whose effects are asked. Default: all."
    )
    compare: list[CompareSection] = Field(default=[], description="Changes to explain.")
    correlate: list[Annotated[list[Text], Field(min_length=2, max_length=2)]] = Field(
        default=[], description="Pairs of metrics: do they move together?"
    )
    metrics: Names = Field(description="What is measured, named as in a sweep's judge; or `spikes`.")


@dataclass(frozen=True)
class AttributionFile(ExperimentFile):
    """An attribution file that has been read."""

    verb: ClassVar[str] = "attribute"
    conclude: ClassVar[str] = "estimate"
    folder_key: ClassVar[str] = "attribution_dir"
    compares_with_base: ClassVar[bool] = False

    section: AttributionSection
    factors: tuple[Factor, ...]
    cells: Mapping[str, Cell]
    """By the name of the variant."""
    terms: tuple[Term, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def asked(self) -> dict[str, list[str]]:
        """What is measured."""
        return {"metrics": self.section.metrics}

    @property
    def domains(self) -> dict[str, list[str]]:
        """The metrics of each source's domain, those that are measured."""
        assert self.section.transfer is not None
        named = self.section.transfer.domains
        return {
            source: [one for one in named.get(source, [f"bits_per_byte:{source}"]) if one in self.section.metrics]
            for source in self.section.transfer.sources
        }


def load_attribution(path: FilePath, *, check_files: bool = True) -> AttributionFile:
    """Read an attribution file and the recipe that it names, and check that its runs can answer what it asks.

    Raises RecipeError with a problem a line. The trials' recipes are not read yet: `trials.expand` does.
    """
    where, section = read_section(path, AttributionSection, "an attribution")
    if (section.factors is None) == (section.transfer is None):
        raise RecipeError(f"{path}:1: give one of factors (effects) and transfer (sources on domains)")
    recipe_path, text, base = read_recipe(where, section, check_files)
    if section.transfer is not None:
        factors, cells, terms, comparisons = _mixtures(section, where)
        weights = section.transfer.sources
        levels = {name: {WITHOUT: {}, WITH: {SHARES: {name: weight}}} for name, weight in weights.items()}
    else:
        assert section.factors is not None
        levels = section.factors
        factors, cells, terms, comparisons = _factorial(section, where)
    for number, pair in enumerate(section.correlate):
        _known(pair, section.metrics, where.at("correlate", number), "correlate: no metric {name} is among")
    variants = _variants(cells, levels, section, base, where)
    named = {variant.name: cell for variant, cell in zip(variants, cells, strict=True)}
    return AttributionFile(
        where, section, recipe_path, text, base, check_files, tuple(variants), tuple(factors), named, tuple(terms),
        tuple(comparisons),
    )  # fmt: skip


Asked = tuple[list[Factor], list[dict[str, str]], list[Term], list[Comparison]]
"""Factors, the cells that are run, the terms and the comparisons that they are to answer."""


def _factorial(section: AttributionSection, where: Where) -> Asked:
    assert section.factors is not None
    factors = [
        _at(where.at("factors", name), lambda name=name, levels=levels: Factor(name, tuple(levels)))
        for name, levels in section.factors.items()
    ]
    names = list(section.factors)
    cells = _at(where.at("design"), lambda: full_design(factors) if section.design == "full" else half_design(factors))
    terms = two_way_terms(factors)
    if section.terms is not None:
        for number, term in enumerate(section.terms):
            _known(term, names, where.at("terms", number), "terms: there is no factor {name} among")
        terms = list(dict.fromkeys(tuple(sorted(term, key=names.index)) for term in section.terms))
    _at(
        where.at("terms" if section.terms is not None else "design"),
        lambda: require_identifiable(factors, cells, terms),
    )
    comparisons = []
    for number, one in enumerate(section.compare):
        start = {factor.name: factor.levels[0] for factor in factors} | _levels(one.start, section.factors)
        comparison = Comparison(start, start | _levels(one.end, section.factors), one.parts)
        _at(where.at("compare", number), lambda found=comparison: require_comparable(factors, cells, terms, found))
        comparisons.append(comparison)
    return factors, cells, terms, comparisons


def _levels(cell: Mapping[str, Level], factors: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """With numbers as the names that they are among the levels of their factor."""
    return {
        name: level if isinstance(level, str)
        else next((one for one in factors.get(name, ()) if plain_value(one) == level), str(level))
        for name, level in cell.items()
    }  # fmt: skip


def _mixtures(section: AttributionSection, where: Where) -> Asked:
    assert section.transfer is not None
    for key in ("terms", "compare", "correlate"):
        if getattr(section, key):
            raise RecipeError(f"{where.at(key)}: {key} asks about factors; a transfer has sources")
    if section.design != "full":
        raise RecipeError(f"{where.at('design')}: design chooses cells of factors; in a transfer, mode does")
    names = list(section.transfer.sources)
    for source, metrics in section.transfer.domains.items():
        at = where.at("transfer", "domains", source)
        _known([source], names, at, "transfer.domains: there is no source {name} among")
        _known(metrics, section.metrics, at, "transfer.domains: no metric {name} is among")
    sizes = {"add-one": (0, 1), "leave-one-out": (len(names), len(names) - 1)}
    mixtures = dict.fromkeys(
        mixture for mode in section.transfer.mode for size in sizes[mode] for mixture in combinations(names, size)
    )
    cells = [{name: WITH if name in mixture else WITHOUT for name in names} for mixture in mixtures]
    return [Factor(name, (WITHOUT, WITH)) for name in names], cells, [], []


def _at(place: str, make: Any) -> Any:
    """What `make` returns; a RecipeError of its own gets the place in the file."""
    try:
        return make()
    except RecipeError as error:
        raise RecipeError(f"{place}: {error}") from None


def _known(names: Sequence[str], known: Sequence[str], place: str, message: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1, 0.6)
            raise RecipeError(
                f"{place}: {message.format(name=name)} {', '.join(known)}"
                + (f"; did you mean {near[0]}?" if near else "")
            )


# --- what a cell changes --------------------------------------------------------------------------


def _variants(
    cells: Sequence[Cell],
    levels: Mapping[str, Mapping[str, Any]],
    section: AttributionSection,
    base: Recipe,
    where: Where,
) -> list[Variant]:
    """Each cell as changes of the recipe."""
    key = "factors" if section.factors is not None else "transfer"
    variants: list[Variant] = []
    problems: list[str] = []
    for cell in cells:
        setters: dict[str, str] = {}
        changes: dict[str, Any] = {}
        shares: dict[str, float] = {}
        for factor, level in cell.items():
            place = f"{where.at(key, factor, level)}: {factor}, {level}"
            own = dict(levels[factor][level])
            for source, weight in _shares(own.pop(SHARES, {}), place).items():
                shares[source] = shares.get(source, 0) + weight
            own = flat(own)
            problems += [f"{place}: {one}" for one in taken_keys(own)]
            for name in own:
                other = next((one for one in setters if _overlap(one, name)), None)
                if other is not None:
                    problems.append(f"{place}: {name} is set by {setters[other]}, too; mixtures are changed by shares")
            setters |= dict.fromkeys(own, factor)
            changes |= own
        try:
            moved = _moved(shares, section.rest, base, cell)
            for name in moved:
                other = next((one for one in setters if _overlap(one, name)), None)
                if other is not None:
                    raise RecipeError(f"{name} is changed by shares and set by {setters[other]}; leave it to shares")
            variants.append(Variant(_name(cell), changes | moved, where.line(key)))
        except RecipeError as error:
            problems.append(f"{where.at(key)}: {error}")
    names = [variant.name.lower() for variant in variants]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        problems.append(f"{where.at(key)}: two cells have the name {name}; give their levels other names")
    if problems:
        raise RecipeError("\n".join(dict.fromkeys(problems)))
    return variants


def _shares(value: Any, place: str) -> dict[str, float]:
    if not isinstance(value, dict) or any(
        isinstance(one, bool) or not isinstance(one, int | float) for one in value.values()
    ):
        raise RecipeError(f"{place}: {SHARES} gives sources weights, such as {{sums: 10}}")
    return value


def _moved(shares: Mapping[str, float], rest: str | None, base: Recipe, cell: Cell) -> dict[str, float]:
    """The weights of the sources that get shares, and of the one that gives them. Raises RecipeError."""
    sources = base.data.sources
    if not shares:
        return {}
    if rest is None:
        largest = max(sources, key=lambda name: sources[name].weight)
        raise RecipeError(f"{SHARES} are taken from one source: name it, such as rest: {largest}")
    for name in (*shares, rest):
        if name not in sources:
            raise RecipeError(
                f"the recipe has no source {name} (it has {', '.join(sources)}); give it one, with weight 0, so that "
                "all runs watch it"
            )
    if base.data.stages:
        raise RecipeError(f"the recipe has data.stages, which {SHARES} do not move; take them out")
    if rest in shares:
        raise RecipeError(f"{rest} is the rest, which {SHARES} are taken from: it gets none itself")
    # Decimal figures of a file are meant: .7 - .1 is .6
    moved = {name: round(sources[name].weight + weight, 12) for name, weight in shares.items()}
    moved[rest] = round(sources[rest].weight - sum(shares.values()), 12)
    for name, weight in moved.items():
        if weight < 0:
            raise RecipeError(
                f"in the cell {cell_in_words(cell)} {name} would have the weight {weight:g}: in the recipe it has "
                f"{sources[name].weight:g}"
            )
    return {f"data.sources.{name}.weight": weight for name, weight in moved.items()}


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _name(cell: Cell) -> str:
    """mathematics-with_learning-rate-3e-3"""
    name = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", f"{factor}-{level}") for factor, level in cell.items()).lstrip(".")
    if len(name) > NAME_LENGTH:
        raise RecipeError(f"the names of factors and levels make folders of {len(name)} letters; give shorter ones")
    return name
