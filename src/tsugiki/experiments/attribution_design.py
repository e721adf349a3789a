"""Which cells a factorial experiment runs, and whether they can answer what is asked.

A *cell* gives each factor a level; a *term* is a set of factors: one for a main effect, two for an interaction. In the
half of the cells of three or four factors of two levels, two-way interactions cannot be told from each other (or from
main effects); of five they can.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np

from tsugiki.errors import RecipeError
from tsugiki.least_squares import Array, dependent_columns, effect_columns

Cell = Mapping[str, str]
"""Level by factor."""
Term = tuple[str, ...]
"""Names of factors; () is the mean."""


@dataclass(frozen=True)
class Factor:
    """What is varied. Differences are from the first level."""

    name: str
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or len(set(self.levels)) < len(self.levels):
            raise RecipeError(f"factor {self.name} needs two different levels at least, not {list(self.levels)}.")


def full_design(factors: Sequence[Factor]) -> list[dict[str, str]]:
    """Every combination of levels."""
    names = [factor.name for factor in factors]
    return [dict(zip(names, levels, strict=True)) for levels in product(*(factor.levels for factor in factors))]


def half_design(factors: Sequence[Factor]) -> list[dict[str, str]]:
    """Half of them: those with an even number of second levels, so that only the interaction of all factors is given up
    (and aliased with the mean). Raises RecipeError for a factor of more than two levels."""
    for factor in factors:
        if len(factor.levels) != 2:
            raise RecipeError(f"half of a design needs factors of two levels; {factor.name} has {len(factor.levels)}.")
    second = {factor.name: factor.levels[1] for factor in factors}
    return [
        cell for cell in full_design(factors) if sum(level == second[name] for name, level in cell.items()) % 2 == 0
    ]  # fmt: skip


def two_way_terms(factors: Sequence[Factor]) -> list[Term]:
    """Main effects and all interactions of two factors: what is asked unless something else is."""
    names = [factor.name for factor in factors]
    return [(name,) for name in names] + list(combinations(names, 2))


def all_terms(names: Sequence[str]) -> Iterator[Term]:
    """Every interaction of some factors, of any order."""
    return chain.from_iterable(combinations(names, order) for order in range(1, len(names) + 1))


def name_of(term: Term) -> str:
    """`data × learning rate`."""
    return " × ".join(term) or "the mean"


def columns(factors: Sequence[Factor], terms: Sequence[Term], cells: Sequence[Cell]) -> tuple[Array, list[Term]]:
    """The effect-coded design [cells, columns] of the mean and the terms, and the term of each column.

    Raises RecipeError for a cell with a level that its factor does not have.
    """
    coded = {factor.name: _coded(factor, cells) for factor in factors}
    blocks = [np.ones((len(cells), 1))]
    owners: list[Term] = [()]
    for term in terms:
        block = np.ones((len(cells), 1))
        for name in term:
            block = (block[:, :, None] * coded[name][:, None, :]).reshape(len(cells), -1)
        blocks.append(block)
        owners += [term] * block.shape[1]
    return np.hstack(blocks), owners


def _coded(factor: Factor, cells: Sequence[Cell]) -> Array:
    levels = [cell.get(factor.name, "") for cell in cells]
    for level in levels:
        if level not in factor.levels:
            raise RecipeError(
                f"factor {factor.name} has the levels {', '.join(factor.levels)}, not {level!r}; a cell names one of "
                "them for every factor."
            )
    return effect_columns([factor.levels.index(level) for level in levels], len(factor.levels))


def require_identifiable(factors: Sequence[Factor], cells: Sequence[Cell], terms: Sequence[Term]) -> None:
    """Raises RecipeError, naming the terms that the cells cannot tell apart, if there are any."""
    design, owners = columns(factors, terms, cells)
    refuse_aliased(design, [name_of(term) for term in owners])


def refuse_aliased(design: Array, names: Sequence[str]) -> None:
    """Raises RecipeError, with the names of the columns that cannot be told apart."""
    groups = []
    for group in dependent_columns(design):
        aliased = list(dict.fromkeys(names[column] for column in group))
        groups.append(" with ".join(aliased) if len(aliased) > 1 else f"{aliased[0]} (a combination was never run)")
    if groups:
        raise RecipeError(
            f"These runs cannot tell apart: {'; '.join(dict.fromkeys(groups))}. Run all combinations of levels, or ask "
            "for fewer effects."
        )
