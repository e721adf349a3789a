"""Which of the three files that people write a YAML file is: a recipe, a sweep or an attribution. One that is given to
another's verb is told so in one line, rather than by every key that is unknown there."""

from collections.abc import Mapping
from typing import Any, Literal

from tsugiki.errors import RecipeError

Kind = Literal["recipe", "sweep", "attribution"]
MARKS: dict[Kind, tuple[set[str], set[str]]] = {
    "sweep": ({"recipe"}, {"trials", "vary", "judge"}),
    "attribution": ({"recipe"}, {"factors", "transfer"}),
    "recipe": ({"model", "data"}, {"run_dir", "training"}),
}
"""Keys that the kind has all of, and keys that it has one of."""
VERBS: dict[Kind, str] = {"recipe": "tsugiki run", "sweep": "tsugiki sweep", "attribution": "tsugiki attribute"}


def require_kind(tree: Mapping[str, Any], expected: Kind, path: str) -> None:
    """Raises RecipeError for a file of another kind, with the verb that takes it. A file that could be none passes: its
    keys say more."""
    found = next(
        (kind for kind, (every, some) in MARKS.items() if every <= tree.keys() and some & tree.keys()), expected
    )
    if found != expected:
        an = {kind: f"{'an' if kind == 'attribution' else 'a'} {kind}" for kind in MARKS}
        raise RecipeError(f"{path}: this is {an[found]}, not {an[expected]}: {VERBS[found]} {path}")
