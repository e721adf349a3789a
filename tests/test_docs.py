"""What the pages say exists: verbs, options, keys, targets, links, probes; and their recipes are valid."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from tsugiki.cli import app
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import check
from tsugiki.recipe_file import json_schema, load_recipe, parse_recipe
from tsugiki.recipe_names import field_at, section_at
from tsugiki.recipe_yaml import read

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = ROOT / "docs/results"
"""Tables and pictures of runs: there once the runs have been made."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_in(text: str) -> list[str]:
    """Commands in a page, whole: those in backticks, and the lines of code blocks (continued ones joined)."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
    blocks = [body.replace("\\\n", " ") for kind, body in fence.findall(text) if kind in ("", "bash")]
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", fence.sub("", text))


def commands(text: str) -> list[list[str]]:
    """The words after `tsugiki` of every command in a page, without comments."""
    found = [re.search(r"(?:^|-m |\s)tsugiki ([a-z].*)", code.split(" #")[0]) for code in code_in(text)]
    return [match[1].split() for match in found if match]


def command_named(words: list[str]) -> click.Command:
    """The verb, or the sub-verb, that a command line calls."""
    command = typer.main.get_command(app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        if "extend" in command.commands and words[0].isupper():  # the stage of a recipe
            words = ["extend", *words]
        assert words[0] in command.commands, f"there is no verb {words[0]}"
        command, words = command.commands[words[0]], words[1:]
        if not words:
            break
    return command


def test_the_readme_is_under_a_thousand_words():
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 1000


@every_page
def test_relative_links_resolve(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        path = (page.parent / target).resolve()
        if "://" not in target and not (RESULTS in path.parents and not path.exists()):
            assert path.exists(), target


@every_page
def test_links_to_headings_resolve(page):
    for target, heading in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text("utf-8")):
        text = (page.parent / target if target else page).read_text("utf-8")
        slugs = {
            re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)", text, re.M)
        }  # fmt: skip
        assert heading in slugs, (target, heading)


@every_page
def test_every_verb_and_option_that_is_named_exists(page):
    for words in commands(page.read_text("utf-8")):
        command = command_named(words)
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for option in (word for word in words if word.startswith("--")):
            assert option.split("=")[0] in options | {"--help"}, words


def test_commands_are_found_in_backticks_and_in_blocks():
    text = "`tsugiki run R` and\n```\ntorchrun --x \\\n    -m tsugiki train r.yaml  # --not-an-option\n```\n"
    assert commands(text) == [["train", "r.yaml"], ["run", "R"]]
    with pytest.raises(AssertionError, match="no verb"):
        command_named(["trian"])


@every_page
def test_every_make_target_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for code in code_in(page.read_text("utf-8")):
        named = re.match(r"make ([a-z]+)", code)
        assert not named or named[1] in targets, code


@every_page
def test_every_dotted_key_that_is_named_exists(page):
    code = "\n".join(code_in(page.read_text("utf-8")))
    for key in re.findall(rf"\b((?:{'|'.join(Recipe.model_fields)})(?:\.[A-Za-z_-]+)+)(?![\w./*])", code):
        path = tuple(key.split("."))
        if path[-1] not in ("py", "yaml", "json", "jsonl", "md"):
            assert field_at(path) is not None or section_at(path) is not None, key


SMALLEST: dict[str, Any] = {
    "run_dir": "runs/x",
    "model": {"name_or_path": "owner/model"},
    "data": {"sequence_length": 8, "sources": {"ja": {"path": "a.jsonl", "weight": 1, "language": "ja"}}},
    "training": {
        "max_steps": 30000, "global_batch_size": 1, "micro_batch_size": 1, "learning_rate": 1e-5, "save_steps": 1,
    },
}  # fmt: skip


def snippets(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.S)


@every_page
def test_recipes_in_the_pages_are_valid(page):
    for text in snippets(page):
        if text.startswith("run_dir:"):
            parse_recipe(text, page.name, check_files=False)
        else:  # a part: valid once it stands in a whole one
            part = read(text, page.name).tree
            assert part.keys() <= Recipe.model_fields.keys()
            whole = SMALLEST | {key: SMALLEST.get(key, {}) | keys for key, keys in part.items()}
            assert check(Recipe.model_validate(whole), check_files=False) == []


def test_the_pages_hold_what_is_looked_for():
    assert len(commands((ROOT / "README.md").read_text("utf-8"))) > 10
    assert sum(len(snippets(page)) for page in PAGES) >= 3


def test_the_example_of_the_readme_is_the_published_recipe():
    (text,) = snippets(ROOT / "README.md")
    shown = parse_recipe(text, "README.md", check_files=False)
    published = load_recipe(ROOT / "recipes/smollm2-135m-ja.yaml", check_files=False)
    assert shown.run_dir == published.run_dir
    assert shown.model == published.model
    for name, source in shown.data.sources.items():
        assert source == published.data.sources[name]
    for section in ("data", "training"):
        for key in getattr(shown, section).model_fields_set - {"sources"}:
            assert getattr(getattr(shown, section), key) == getattr(getattr(published, section), key), key


def test_every_key_is_in_the_recipe_page():
    page = (ROOT / "docs/recipe.md").read_text("utf-8")
    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key in section.get("properties", {}):
            assert f"| `{key}` |" in page, key


def test_the_tables_of_the_recipe_page_are_those_of_the_schema():
    command = [sys.executable, ROOT / "docs/make_recipe_tables.py", "--check"]
    code = subprocess.run(command, env={"PYTHONPATH": ":".join(sys.path)}).returncode
    assert code == 0, "run python docs/make_recipe_tables.py"


def test_every_probe_is_in_the_preflight_page():
    from tsugiki.training.preflight import PROBES

    named = re.findall(r"^\| `([a-z0-9_]+)`", (ROOT / "docs/preflight.md").read_text("utf-8"), re.M)
    assert sorted(named) == sorted(probe.name for probe in PROBES)


def test_every_exit_code_is_in_the_checkpoints_page():
    from tsugiki import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {errors.FINISHED, errors.INTERNAL, errors.RESUMABLE} | {kind.exit_code for kind in classes}
    page = (ROOT / "docs/checkpoints.md").read_text("utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)} == codes


def test_the_version_floors_of_the_security_page_are_those_of_the_package():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    page = (ROOT / "docs/security.md").read_text("utf-8")
    floors = re.findall(r"^\| (\w+)(?: \(.*?\))? \| ([\d.]+) \|", page, re.M)
    assert len(floors) >= 6
    for package, floor in floors:
        assert f'"{package}>={floor}"' in project, package


def test_the_memory_table_holds_every_precision():
    from tsugiki.model.precision import PRESETS

    page = (ROOT / "docs/running.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([\w-]+)`.*\| [\d +]+= \d+ \|$", page, re.M)) == set(PRESETS)
