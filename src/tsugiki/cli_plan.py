"""The verb `tsugiki plan`."""

from pathlib import Path
from typing import Annotated

import typer

from tsugiki.terminal import say


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Change keys for this call.", show_default=False),
    ] = None,
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
