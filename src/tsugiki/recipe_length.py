"""How long a run is that is measured in epochs: known once its data are prepared, and in steps from then on.

A recipe in epochs becomes one in steps before anything else sees it, so that schedule, resume and reports know one
unit, and what is recorded of a run says what it did.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tsugiki.corpus.mixture import Mixture
from tsugiki.errors import RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import check
from tsugiki.shapes import dotted

if TYPE_CHECKING:
    from tsugiki.corpus.store import TokenStore

MOST_STEPS = 10**12


def in_steps(recipe: Recipe, stores: Mapping[str, TokenStore]) -> Recipe:
    """The recipe with `max_steps` in the place of `num_epochs`; as it is, where it has none.

    An epoch is over when as many windows have been drawn from the chat sources together (without any: from all that are
    drawn) as they have. Steps are whole: the last one may go beyond. Raises RecipeError where the weights never get
    there, or where the steps contradict other keys.
    """
    epochs = recipe.training.num_epochs
    if epochs is None:
        return recipe
    mixture = Mixture.from_recipe(recipe, stores)
    counted = counted_sources(recipe)
    wanted = epochs * sum(mixture.windows[name] for name in counted)

    def enough(steps: int) -> bool:
        plans = mixture.plan(steps * recipe.training.global_batch_size)
        return sum(plan.samples for plan in plans if plan.name in counted) >= wanted

    steps = _first(enough)
    if steps is None:
        raise RecipeError(
            f"training.num_epochs: {epochs:g} epochs of {', '.join(counted)} are never reached, since data.stages stop "
            "drawing from them; give training.max_steps"
        )
    training = recipe.training.model_copy(update={"max_steps": steps, "num_epochs": None})
    found = recipe.model_copy(update={"training": training})
    problems = check(found, check_files=False)
    if problems:
        length = f"{epochs:g} epochs are {steps:,} steps"
        raise RecipeError("\n".join(f"{dotted(one.path)}: {one.message} ({length})" for one in problems))
    return found


def counted_sources(recipe: Recipe) -> list[str]:
    """The sources whose epochs are counted: chat sources that are drawn, else all that are."""
    drawn = [
        name for name, source in recipe.data.sources.items()
        if source.weight > 0 or any(stage.weights.get(name, 0) > 0 for stage in recipe.data.stages)
    ]  # fmt: skip
    return [name for name in drawn if recipe.data.sources[name].is_chat] or drawn


def describe_length(recipe: Recipe, found: Recipe) -> str:
    """What `in_steps` made of epochs, in words."""
    counted = ", ".join(counted_sources(recipe))
    return f"{recipe.training.num_epochs:g} epochs of {counted}: {found.training.max_steps:,} steps"


def _first(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of steps that is enough; None where none is."""
    beyond = 1
    while not enough(beyond):
        if beyond > MOST_STEPS:
            return None
        beyond *= 2
    return beyond // 2 + 1 + bisect_left(range(beyond // 2 + 1, beyond), True, key=enough)
