"""What the pages say exists: verbs, options, keys, targets, links, probes; and their recipes are valid."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from tsugiki.cli import app
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import json_schema, parse_recipe
from tsugiki.recipe_names import field_at, section_at

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = ROOT / "docs/results"
"""Tables and pictures of runs: there once the runs have been made."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_in(text: str) -> list[str]:
    """Commands in a page, whole: those in backticks, and the lines of code blocks (continued ones joined)."""
    blocks = re.findall(r"```\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))]


def commands(text: str) -> list[list[str]]:
    """The words after `tsugiki` of every command in a page, without comments."""
    found = [re.search(r"(?:^|-m |\s)tsugiki ([a-z].*)", code.split(" #")[0]) for code in code_in(text)]
    return [match[1].split() for match in found if match]


def command_named(words: list[str]) -> click.Command:
    """The verb, or the sub-verb, that a command line calls."""
    command = typer.main.get_command(app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
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
    sections = "|".join(Recipe.model_fields)
    for key in re.findall(
        rf"\b((?:{sections})(?:\.[A-Za-z_-]+)+)(?==|`|:)", "\n".join(code_in(page.read_text("utf-8")))
    ):
        path = tuple(key.split("."))
        if path[-1] not in ("py", "yaml", "json", "jsonl", "layers", "md", "sbatch", "h"):
            assert field_at(path) is not None or section_at(path) is not None, key


@every_page
def test_recipes_in_the_pages_are_valid(page):
    """Whole ones, and parts of one put into a whole one."""
    rest = {
        "run_dir": "run_dir: runs/x",
        "model": "model: {name_or_path: owner/model}",
        "data": "data: {sequence_length: 8, sources: {ja: {path: a.jsonl, weight: 1}}}",
        "training": "training: {max_steps: 30000, global_batch_size: 1, micro_batch_size: 1, learning_rate: 1e-5, save_steps: 1}",
    }
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.S):
        given = set(re.findall(r"^([a-z_]+):", block, re.M))
        text = block + "\n" + "\n".join(line for key, line in rest.items() if key not in given)
        if given != set(rest) and "run_dir" not in given:
            text = text.replace("data:\n", "data:\n  sequence_length: 8\n", 1)
            text = text.replace(
                "training:\n", f"training:\n  {rest['training'][11:-1].replace(', ', chr(10) + '  ')}\n", 1
            )
        parse_recipe(text, page.name, check_files=False)


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
