"""Which tasks a suite has, and what its names mean."""

from dataclasses import dataclass

from tsugiki.errors import RecipeError
from tsugiki.evaluation.data import SETS
from tsugiki.recipe_evaluation import task_names


@dataclass(frozen=True)
class Suite:
    """The tasks of one folder of `evaluation/tasks`."""

    name: str
    """Also of the folder with its task files."""
    prefix: str
    """Of its tasks' names in lm-eval."""
    add_bos: bool | None
    """Whether prompts begin with BOS; None: as the tokenizer does by default."""


SUITES = {
    "default": Suite("default", "tsugiki_", None),
    # The published runs gave their models no BOS (reference: transformers 4.38's pipeline, the harness's default).
    "swallow": Suite("swallow", "swallow_", False),
}
"""The suites that run on lm-eval."""


QUICK = "quick"
"""The suite that needs neither data nor extras: the built-in probes, and texts in bits per byte."""


def full_names(suite: Suite, asked: list[str] | None, known: list[str]) -> list[str]:
    """The lm-eval names of the tasks that are asked for (all of the suite where that is None), in the order asked.

    `known`: every task that is there, the user's own included. Raises RecipeError for a name that is none of them, or
    two.
    """
    if asked is None:
        place = {name: number for number, name in enumerate(SETS)}  # the order of the tables
        names = sorted(task_names(suite.name, extra=False), key=lambda name: (place.get(name, len(place)), name))
        return [suite.prefix + name for name in names]
    found = []
    for name in asked:
        full = suite.prefix + name
        if full in known and name in known:
            raise RecipeError(f"--tasks {name}: the suite and your task folder both have it: give yours another name")
        if full in known:
            found.append(full)
        elif name in known:
            found.append(name)
        else:
            raise RecipeError(
                f"--tasks {name}: no such task in the suite {suite.name}; it has {', '.join(task_names(suite.name))}"
                + (f"; your own: {', '.join(own)}" if (own := own_names(suite, known)) else "")
            )
    return list(dict.fromkeys(found))


def own_names(suite: Suite, known: list[str]) -> list[str]:
    """The tasks that are not of the suite."""
    return [name for name in known if not name.startswith(suite.prefix)]
