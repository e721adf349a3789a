"""The verb `tsugiki plan`."""

from typing import Annotated

import typer

from tsugiki.cli_arguments import Overrides, RecipeFile
from tsugiki.terminal import say


def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    processes: Annotated[int, typer.Option(help="GPUs, or processes of CPUs.", min=1)] = 1,
    rate: Annotated[
        float | None,
        typer.Option(help="Tokens a second, all processes together. Default: as the run was measured.", min=1e-3),
    ] = None,
    price: Annotated[float | None, typer.Option(help="Of an hour, all processes together.", min=0)] = None,
) -> None:
    """Say what a recipe asks for: tokens, epochs, disk, memory, time."""
    from tsugiki.plan import Terms, plan_lines
    from tsugiki.recipe_file import load_recipe

    for line in plan_lines(load_recipe(recipe, overrides or []), Terms(processes, rate, price)):
        say(line)
