"""What each cell of an attribution changes of the recipe: the keys that its levels set, and the weights of sources that
get shares of the one that gives them."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tsugiki.errors import RecipeError
from tsugiki.experiment_results import cell_in_words
from tsugiki.experiments.attribution_design import Cell
from tsugiki.experiments.experiment_file import Variant, Where, flat, nearest, taken_keys
from tsugiki.recipe import Recipe

SHARES = "shares"
"""In a level, beside recipe keys: by source, the weight that it gets from `rest`."""
NAME_LENGTH = 150
"""Of a trial, which is the name of a folder: file systems take 255, and there are endings."""
Levels = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By factor and level, what it sets."""


def variants_of(
    cells: Sequence[Cell], levels: Levels, key: str, rest: str | None, base: Recipe, where: Where
) -> list[Variant]:
    """Each cell as changes of the recipe. `key`: of the file, which the levels stand under.

    Raises RecipeError with every problem.
    """
    variants: list[Variant] = []
    problems: list[str] = []
    for cell in cells:
        setters: dict[str, str] = {}
        places: dict[str, str] = {}
        changes: dict[str, Any] = {}
        shares: dict[str, float] = {}
        for factor, level in cell.items():
            own = dict(levels[factor][level])
            for source, weight in own.pop(SHARES, {}).items():
                shares[source] = shares.get(source, 0) + weight
            own = flat(own)
            for name in own:
                places[name] = f"{where.inside((key, factor, level), name)}: {factor}, {level}"
                problems += [f"{places[name]}: {one}" for one in taken_keys({name: own[name]})]
                other = next((one for one in setters if _overlap(one, name)), None)
                if other is not None:
                    problems.append(
                        f"{places[name]}: {name} is set by {setters[other]}, too; mixtures are changed by shares"
                    )
            setters |= dict.fromkeys(own, factor)
            changes |= own
        try:
            moved = _moved(shares, rest, base, cell)
            for name in moved:
                other = next((one for one in setters if _overlap(one, name)), None)
                if other is not None:
                    raise RecipeError(f"{name} is changed by shares and set by {setters[other]}; leave it to shares")
            name = _name(cell)
            variants.append(Variant(name, changes | moved, f"{where.at(key)}: trial {name}", places))
        except RecipeError as error:
            problems.append(f"{where.at(key)}: {error}")
    names = [variant.name.lower() for variant in variants]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        problems.append(f"{where.at(key)}: two cells have the name {name}; give their levels other names")
    if problems:
        raise RecipeError("\n".join(dict.fromkeys(problems)))
    return variants


def require_sources(
    levels: Levels,
    places: Mapping[tuple[str, str, str], tuple[str, ...]],
    rest: str | None,
    base: Recipe,
    where: Where,
) -> None:
    """Raises RecipeError for shares that are none, and for sources that the recipe has not, each with its line.
    `places`: keys of shares (factor, level, source) that stand elsewhere than in their level."""
    sources, problems = base.data.sources, []

    def has_no(name: str) -> str:
        return f"the recipe has no source {name} (it has {', '.join(sources)})"

    if rest is not None and rest not in sources:
        problems.append(f"{where.at('rest')}: rest: {has_no(rest)}{nearest(rest, list(sources))}")
    for factor, of_it in levels.items():
        for level, keys in of_it.items():
            at, title = ("factors", factor, level), f"{factor}, {level}"
            shares = keys.get(SHARES, {})
            if not isinstance(shares, dict) or any(
                isinstance(one, bool) or not isinstance(one, int | float) for one in shares.values()
            ):
                problems.append(
                    f"{where.at(*at, SHARES)}: {title}: {SHARES} gives sources weights, such as {{sums: 10}}"
                )
                continue
            for name in keys:
                if name not in Recipe.model_fields and name != SHARES and get_close_matches(name, [SHARES], 1, 0.8):
                    problems.append(f"{where.at(*at, name)}: {title}: {name}: unknown key; did you mean {SHARES}?")
            for source in shares:
                place = where.at(*places.get((factor, level, source), (*at, SHARES, source)))
                if rest is None:
                    largest = max(sources, key=lambda name: sources[name].weight)
                    problems.append(f"{place}: {SHARES} are taken from one source: name it, such as rest: {largest}")
                elif source not in sources:
                    near = nearest(source, list(sources))
                    problems.append(
                        f"{place}: {has_no(source)}{f'{near} If not,' if near else ';'} give it one, with weight 0, so "
                        "that all runs watch it"
                    )
    if problems:
        raise RecipeError("\n".join(problems))


def _moved(shares: Mapping[str, float], rest: str | None, base: Recipe, cell: Cell) -> dict[str, float]:
    """The weights of the sources that get shares, and of the one that gives them. Raises RecipeError."""
    sources = base.data.sources
    if not shares:
        return {}
    assert rest is not None  # `require_sources` has asked for it
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
