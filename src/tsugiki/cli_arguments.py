"""Arguments and options that several verbs take."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tsugiki.errors import RecipeError

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY.PATH=VALUE]...",
        help="Change keys for this call, e.g. training.max_steps=100",
        show_default=False,
    ),
]
"""What most verbs take."""


def json_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object given on the command line. Raises RecipeError for anything else."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RecipeError(f"{option} {text}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise RecipeError(f'{option} {text}: give a JSON object, e.g. {{"enable_thinking": false}}')
    return found
