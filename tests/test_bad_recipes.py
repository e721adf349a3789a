"""Recipes made wrong from those that people start from: each is read, or refused in one message by file and line.

`TSUGIKI_SOAK_INPUTS` is the number of cases (`make soak` sets it); seeds are fixed, and a failure names its own.
"""

import os
import re
from pathlib import Path
from random import Random

import pytest
import yaml
from bad_inputs import damaged, damaged_tree, misspelt

from tsugiki.errors import RecipeError
from tsugiki.recipe_checks import launch_errors, total_steps
from tsugiki.recipe_file import load_recipe, parse_recipe, show
from tsugiki.recipe_resume import compare_for_resume
from tsugiki.recipe_yaml import read

CASES = int(os.environ.get("TSUGIKI_SOAK_INPUTS", "300"))
ROOT = Path(__file__).parents[1]
PUBLISHED = [path for path in (ROOT / "recipes").glob("*.yaml") if not path.stem.endswith(("-sweep", "-attribution"))]
RECIPES = sorted([*PUBLISHED, *(ROOT / "src/tsugiki/templates").rglob("*.yaml")])
VALUES = [
    "nan", ".nan", ".inf", "-1", "1e400", "1000000000000", "~", "yes", "no", "0x1F", "1_000", "[]", "{}", "[a, b]", "{a: b}",
    "'5'", "2e-5", "-0", "012", "12:30", "1" + "0" * 30, "/dev/zero", "../..", '"\\u001b[2J"', "!!python/object:os.system",
]  # fmt: skip
ENDS = [" &a *a", " *x", " {", " [", " '", ' "', " |", " >", " - x", " # x", "\0", " : y", "\t", "\u202e"]
LINES = [
    "---",
    "...",
    "%YAML 1.1",
    "? a",
    "<<: *x",
    "- a",
    "&x",
    "\t",
    "a: &b [*b]",
    "x: " + "[" * 60,
    "x: " + "{a: " * 60,
]


def wrong_line(rng: Random, text: str) -> str:
    """YAML with one line doubled, lost, moved, misspelt or given another value."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    line = lines[at]
    lines[at : at + 1] = rng.choice(
        [
            [line, rng.choice(lines)], [line.replace("  ", "\t", 1)], [" " * rng.randrange(1, 5) + line], [line.lstrip()],
            [line.replace(":", rng.choice(["", " :", "::", "："]), 1)], [line + rng.choice(ENDS)], [misspelt(rng, line)],
            [re.sub(r"(:\s*)(\S.*)", lambda match: match[1] + rng.choice(VALUES), line)], [], [rng.choice(LINES), line],
        ]
    )  # fmt: skip
    return "\n".join(lines)


def wrong_recipe(rng: Random) -> bytes:
    text = rng.choice(RECIPES).read_text(encoding="utf-8")
    kind = rng.randrange(4)
    if kind == 0:
        return damaged(rng, text.encode())
    if kind == 1:
        tree = damaged_tree(rng, read(text, "recipe").tree)
        return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", errors="surrogatepass")
    for _ in range(rng.choice([1, 1, 2, 4])):
        text = wrong_line(rng, text)
    return text.encode("utf-8", errors="surrogatepass")


@pytest.mark.timeout(3600)
def test_a_wrong_recipe_is_refused_by_file_and_line_or_means_what_it_says(tmp_path):
    path, accepted = tmp_path / "wrong.yaml", 0
    for seed in range(CASES):
        rng = Random(seed)
        path.write_bytes(wrong_recipe(rng))
        try:
            recipe = load_recipe(path, check_files=rng.random() < 0.3)
        except RecipeError as error:
            for line in str(error).splitlines():
                assert re.match(rf"{re.escape(str(path))}(:\d+)?: ", line), f"seed {seed}: {line!r}"
                assert len(line) < 2000, f"seed {seed}"
            continue
        accepted += 1
        shown = show(recipe)
        assert show(parse_recipe(shown, check_files=False)) == shown, f"seed {seed}"
        if recipe.training.num_epochs is None:  # steps follow from the data
            assert 0 < total_steps(recipe) * recipe.training.global_batch_size < 2**62, f"seed {seed}"
        launch_errors(recipe, rng.choice([1, 2, 8, 1000]))
        assert not compare_for_resume(recipe.model_dump(mode="json"), recipe, 5), f"seed {seed}"
    assert 0.05 * CASES < accepted < 0.5 * CASES  # neither are all spoilt, nor hardly any
