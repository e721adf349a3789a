"""The attribution file: factors with named levels and what each sets, or sources whose transfer is asked.

Every run is of a *cell*: a level for each factor. In a transfer the factors are the sources, with the levels `with` and
`without`. What a source gets of the mixture is taken from one other (`rest`), so that all further shares are constant,
and two factors may displace the same source: their shares add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from tsugiki.errors import RecipeError
from tsugiki.experiments.attribution import Comparison, require_comparable
from tsugiki.experiments.attribution_cells import SHARES, require_sources, variants_of
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
    Where,
    listed,
    nearest,
    read_recipe,
    read_section,
)
from tsugiki.recipe_values import FilePath as FolderPath
from tsugiki.recipe_values import Section, Text
from tsugiki.recipe_yaml import plain_value

WITH, WITHOUT = "with", "without"
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

    def misnamed_metrics(self) -> list[str]:
        """Of correlations and domains, which are of metrics that are measured."""
        problems, metrics = [], self.section.metrics
        for number, pair in enumerate(self.section.correlate):
            place = self.where.at("correlate", number)
            problems += [f"{place}: correlate: {_no('metric', name, metrics)}" for name in pair if name not in metrics]
        for source, named in self.section.transfer.domains.items() if self.section.transfer else ():
            place = self.where.at("transfer", "domains", source)
            problems += [
                f"{place}: transfer.domains.{source}: {_no('metric', name, metrics)}"
                for name in named if name not in metrics
            ]  # fmt: skip
        return problems

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
    where, section = read_section(path, AttributionSection, "attribution")
    if (section.factors is None) == (section.transfer is None):
        raise RecipeError(f"{path}:1: give one of factors (effects) and transfer (sources on domains)")
    recipe_path, text, base = read_recipe(where, section, check_files)
    if section.transfer is not None:
        weights = section.transfer.sources
        levels = {name: {WITHOUT: {}, WITH: {SHARES: {name: weight}}} for name, weight in weights.items()}
        places = {(name, WITH, name): ("transfer", "sources", name) for name in weights}
    else:
        assert section.factors is not None
        levels = section.factors
        places = {}
    require_sources(levels, places, section.rest, base, where)
    factors, cells, terms, comparisons = (_factorial if section.transfer is None else _mixtures)(section, where)
    key = "transfer" if section.factors is None else "factors"
    variants = variants_of(cells, levels, key, section.rest, base, where)
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
            _known(term, names, "factor", f"{where.at('terms', number)}: terms")
        terms = list(dict.fromkeys(tuple(sorted(term, key=names.index)) for term in section.terms))
    _at(
        where.at("terms" if section.terms is not None else "design"),
        lambda: require_identifiable(factors, cells, terms),
    )
    comparisons = []
    for number, one in enumerate(section.compare):
        _require_levels(one, number, section.factors, where)
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
    for source in section.transfer.domains:
        _known([source], names, "source", f"{where.at('transfer', 'domains', source)}: transfer.domains")
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


def _known(names: Sequence[str], known: Sequence[str], kind: str, place: str) -> None:
    for name in names:
        if name not in known:
            raise RecipeError(f"{place}: {_no(kind, name, known)}")


def _no(kind: str, name: str, known: Sequence[str]) -> str:
    """There is no factor raet among replay, rate; did you mean rate?"""
    return f"there is no {kind} {name} among {', '.join(known)}{nearest(name, known)}"


def _require_levels(one: CompareSection, number: int, factors: Mapping[str, Mapping[str, Any]], where: Where) -> None:
    """Raises RecipeError for factors and levels of a comparison that do not exist, with the line of each."""
    for key, cell in (("from", one.start), ("to", one.end)):
        for name, level in _levels(cell, factors).items():
            place = f"{where.at('compare', number, key, name)}: compare[{number}].{key}"
            _known([name], list(factors), "factor", place)
            _known([level], list(factors[name]), "level", f"{place}.{name}")
    for part, names in one.parts.items():
        _known(names, list(factors), "factor", f"{where.at('compare', number, 'parts', part)}: compare[{number}].parts")
