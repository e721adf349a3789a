"""A folder that is asked for as a run directory: its recipe, or what it is instead, with the runs that lie in it."""

from pathlib import Path

from tsugiki.checkpoint_files import parse_name
from tsugiki.errors import RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import load_recipe

RECIPE_FILE = "recipe.yaml"
"""In a run directory: the recipe of its last start, fully resolved."""
BEGUN = (".lock", "checkpoints", "data", "vocabulary", "template_tokens")
"""What the first stages of a run leave in its directory, long before its recipe."""
MOST_NAMED = 8


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a run directory, whose inputs need not be here any more. Raises RecipeError where it is none."""
    if not (folder / RECIPE_FILE).is_file():
        raise no_run(folder)
    return load_recipe(folder / RECIPE_FILE, check_files=False)


def has_begun(folder: Path) -> bool:
    """Whether a folder is that of a run, also of one that is still being prepared."""
    if (folder / RECIPE_FILE).is_file():
        return True
    return not runs_in(folder) and any((folder / name).exists() for name in BEGUN)  # runs may share what lies beside


def runs_in(folder: Path) -> list[Path]:
    """The run directories right below a folder."""
    return sorted(path.parent for path in folder.glob(f"*/{RECIPE_FILE}")) if folder.is_dir() else []


def no_run(folder: Path) -> RecipeError:
    """What is said of a folder that is no run directory."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        return RecipeError(f"{folder}: {what}; name a run directory")
    if parse_name(folder.resolve().name) and folder.resolve().parent.name == "checkpoints":
        return RecipeError(f"{folder} is a checkpoint; name its run directory, {folder.resolve().parents[1]}")
    runs = runs_in(folder)
    if not runs:
        return RecipeError(
            f"{folder}: no run directory, or one in which no training has begun (it has no {RECIPE_FILE})"
        )
    named = " ".join(map(str, runs[:MOST_NAMED])) + (f" and {len(runs) - MOST_NAMED} more" if runs[MOST_NAMED:] else "")
    return RecipeError(f"{folder} is no run directory (it has no {RECIPE_FILE}); the runs in it: {named}")
