"""What the pages say exists: verbs, options, keys, links, probes; and the snippets are valid recipes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tsugiki.recipe_file import json_schema, parse_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readme_is_under_a_thousand_words():
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_and_option_that_is_named_exists(page, monkeypatch, capsys):
    from tsugiki import cli

    def help_of(verb: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tsugiki", verb, "--help"])
        with pytest.raises(SystemExit):
            cli.main()
        return capsys.readouterr().out

    for verb, rest in re.findall(r"`tsugiki ([a-z]+)([^`]*)`", page.read_text("utf-8")):
        text = help_of(verb)
        assert "Usage" in text, verb
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in text, (verb, option)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_whole_recipes_in_the_pages_are_valid(page):
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.S):
        if block.startswith("run_dir:"):
            parse_recipe(block, page.name, check_files=False)


def test_every_key_is_in_the_recipe_page_and_the_tables_are_current():
    text = (ROOT / "docs/recipe.md").read_text("utf-8")
    for section in json_schema()["$defs"].values():
        for key in section.get("properties", {}):
            assert f"| `{key}` |" in text, key
    check = subprocess.run([sys.executable, ROOT / "docs/make_recipe_tables.py", "--check"], env={"PYTHONPATH": ":".join(sys.path)})
    assert check.returncode == 0, "run python docs/make_recipe_tables.py"


def test_every_probe_is_in_the_preflight_page():
    from tsugiki.training.preflight import PROBES

    named = set(re.findall(r"^\| `([a-z0-9_]+)`", (ROOT / "docs/preflight.md").read_text("utf-8"), re.M))
    assert named == {probe.name for probe in PROBES}
