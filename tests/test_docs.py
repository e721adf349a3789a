"""What the pages say exists: verbs, options, keys, targets, links, probes; and their recipes are valid."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from typer.testing import CliRunner

from tsugiki.cli import app
from tsugiki.experiments.attribution_file import AttributionSection, TransferSection
from tsugiki.experiments.experiment_file import ExecutorSection
from tsugiki.experiments.sweep_file import SweepSection
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
    return [shlex.split(match[1]) for match in found if match]


@cache
def whole_command() -> click.Command:
    return typer.main.get_command(app)


def command_named(words: list[str]) -> tuple[click.Command, list[str]]:
    """The verb, or the sub-verb, that a command line calls, and the words after it."""
    command = whole_command()
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        stage = next((verb for verb in ("extend", "models", "trials", "runs") if verb in command.commands), None)
        if stage and words[0] not in command.commands:  # a stage's own verb, which nobody types
            words = [stage, *words]
        assert words[0] in command.commands, f"there is no verb {words[0]}"
        command, words = command.commands[words[0]], words[1:]
        if not words:
            break
    return command, words


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
        command, rest = command_named(words)
        if rest and rest != ["--help"]:  # more than a name in a sentence: what the command line would make of it
            command.make_context(words[0], ["0" if word == "G" else word for word in rest])


RECIPES = [*sorted(ROOT.glob("recipes/*.yaml")), *sorted(ROOT.glob("src/tsugiki/templates/*/*.yaml"))]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_commands_in_a_recipes_comments_exist_and_change_what_they_say(path):
    comments = re.findall(r"^#  +(.*\n)", path.read_text("utf-8"), re.M)
    experiment = path.stem.endswith(("-sweep", "-attribution"))  # which take no overrides
    recipe = None if experiment else load_recipe(path, check_files=False)
    for words in commands("```\n" + "".join(comments) + "```\n"):
        command, rest = command_named(words)
        command.make_context(words[0], [*rest])
        for override in (word for word in rest if "=" in word):
            assert load_recipe(path, [override], check_files=False) != recipe, override


def test_the_readmes_table_has_every_verb_in_the_order_of_the_help():
    table = re.search(r"^\| command \|.*?\n\n", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert table
    rows = [row.split("|")[1] for row in table[0].strip().splitlines()]
    named = list(dict.fromkeys(words[0] for row in rows for words in commands(row)))
    group = whole_command()
    verbs = group.list_commands(click.Context(group))
    assert ["quickstart", *named] == verbs
    assert set(verbs) == set(group.commands)


def test_the_help_cuts_no_sentence_in_two_on_eighty_columns():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    assert "inspect" in shown
    assert "..." not in shown.split("Commands:")[1]


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
        elif text.startswith(("recipe:", "transfer:")):
            tree = {"recipe": "recipe.yaml", **read(text, page.name).tree}
            (SweepSection if "judge" in tree else AttributionSection).model_validate(tree)
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


def test_every_key_of_a_sweep_is_in_its_page():
    page = (ROOT / "docs/sweep.md").read_text("utf-8")
    for key in {*SweepSection.model_fields, *ExecutorSection.model_fields}:
        assert f"`{key}`" in page, key


def test_every_key_of_an_attribution_is_in_its_page():
    page = (ROOT / "docs/attribution.md").read_text("utf-8")
    for key in {*AttributionSection.model_fields, *TransferSection.model_fields, "from", "to", "parts", "shares"}:
        assert f"`{key}`" in page or f"  {key}: " in page, key


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


EVALUATION = ROOT / "docs/evaluation.md"
TASK_PAGE = ROOT / "docs/evaluation-tasks.md"


class TaskLoader(yaml.SafeLoader):
    """A task file without running what it names."""


TaskLoader.add_multi_constructor("!", lambda loader, tag, node: str(node.value))


def task_file(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text("utf-8"), TaskLoader)


def task_files() -> dict[str, list[dict[str, Any]]]:
    """By profile, in the order of the page's columns: its files' contents."""
    from tsugiki.evaluation.tasks import FOLDER

    return {
        profile: [task_file(path) for path in sorted((FOLDER / profile).rglob("*.yaml"))]
        for profile in ("swallow", "default")
    }


def rows_of(page: Path, heading: str) -> dict[str, list[str]]:
    """The table below a heading: by the name in backticks that its row begins with, the other cells."""
    section = re.split(r"^## ", page.read_text("utf-8").split(f"\n## {heading}\n")[1], flags=re.M)[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    return {line[0].strip("`"): line[1:] for line in lines if re.fullmatch(r"`\w+`", line[0])}


def test_every_option_of_evaluation_is_on_its_page():
    page = EVALUATION.read_text("utf-8")
    for words in (["evaluate"], ["evaluate", "diff"], ["evaluate", "judge"], ["data", "fetch"]):
        for parameter in command_named([*words, "X"] if words == ["evaluate"] else words)[0].params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert not option.startswith("--") or option == "--help" or f"`{option}" in page, (words, option)


def test_every_instruction_that_is_checked_is_on_the_page_of_tasks():
    from tsugiki.evaluation.instructions.verifiers import VERIFIERS

    section = TASK_PAGE.read_text("utf-8").split("\n## Instruction checks\n")[1]
    rows = "".join(line for line in section.splitlines() if line.startswith("|"))
    assert sorted(re.findall(r"`([\w:]+)`", rows)) == sorted(VERIFIERS)


def test_the_tables_of_tasks_are_those_of_the_task_files():
    from tsugiki.evaluation.data import SETS
    from tsugiki.evaluation.shots import DRAWS

    data, measures = rows_of(TASK_PAGE, "Data"), rows_of(TASK_PAGE, "Measures")
    assert list(data) == list(SETS)
    assert [name for name in measures if name in SETS] == list(SETS)
    for number, files in enumerate(task_files().values()):
        for task in files:
            stated = task["metadata"]
            name = task["task"].partition("_")[2]
            assert stated["version"] == 1
            if name not in SETS:  # beside the fourteen
                assert f"`{name}`" in TASK_PAGE.read_text("utf-8")
                continue
            assert data[name][0] == stated["title"]
            budget, _, score = measures[name][number].partition(", ")
            if task["output_type"] == "multiple_choice":
                assert budget.startswith("likelihood"), name
            elif "max_characters" in stated:
                assert budget == f"{stated['max_characters']} characters", name
            else:
                tokens = task["generation_kwargs"]["max_gen_toks"]
                assert budget == f"{tokens} token" + "s" * (tokens > 1), name
            assert score.split()[0] == f"`{stated['headline']}`", name
            assert stated.get("tokenize", "") in score
            assert task.get("num_fewshot", 4) == (1 if name == "xlsum_ja" else 4)
            assert measures[name][3] == str(stated.get("chance", "")), name
            beside = {one["metric"] for one in task["metric_list"]} - {stated["headline"]}
            assert all(f"`{metric}`" in measures[name][2] for metric in beside), name
    for name, entry in SETS.items():
        assert data[name][1] == f"{entry.items:,}"
        assert data[name][2] == ("test" if name in DRAWS and DRAWS[name].own else "train")
        assert entry.licence.startswith(data[name][3].split(",")[0]), name
        for file in entry.files[:1]:
            assert f"`{file.path}`" in data[name][4] or file.path.endswith(".sgm"), name


def test_every_metric_of_a_task_is_explained():
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", TASK_PAGE.read_text("utf-8"), re.M))))
    used = {one["metric"] for files in task_files().values() for task in files for one in task["metric_list"]}
    used |= {task["metadata"]["headline"] for files in task_files().values() for task in files}
    assert used <= explained, used - explained


def test_every_key_of_a_task_files_metadata_is_on_the_page():
    page = EVALUATION.read_text("utf-8")
    for key in {key for files in task_files().values() for task in files for key in task["metadata"]}:
        assert f"`{key}`" in page, key


def test_every_probe_of_the_quick_suite_is_on_the_page():
    from tsugiki.evaluation.probes.suite import quick_suite

    named = rows_of(ROOT / "docs/running.md", "Questions while it trains")
    for probe in quick_suite(["ja"]):
        assert probe.name.removesuffix("_ja").removesuffix("_en") in named


def test_the_task_on_the_page_runs(tiny_language_model_folder, tmp_path, monkeypatch):
    """A reader who copies its two files and its command gets a score of three items."""
    pytest.importorskip("lm_eval")
    from tsugiki.evaluation_files import read_records, read_results

    section = EVALUATION.read_text("utf-8").split("\n## Your own tasks\n")[1]
    files = re.findall(r"`(my-tasks/\S+)`.*?\n\n```\w+\n(.*?)```", section, re.S)
    assert [name for name, _ in files] == ["my-tasks/capitals.yaml", "my-tasks/capitals.jsonl"]
    assert len(files[0][1].splitlines()) <= 20
    monkeypatch.chdir(tmp_path)
    Path("my-tasks").mkdir()
    for name, content in files:
        Path(name).write_text(content, "utf-8")
    (command,) = [words for words in commands(section) if "--task-dir" in words]
    command = ["capitals" if word == "capitals,jsquad" else word for word in command]  # jsquad needs data
    command = [str(tiny_language_model_folder) if word == "runs/mine" else word for word in command]
    refused = CliRunner().invoke(app, [word for word in command if word != "--allow-task-code"])
    assert "--allow-task-code" in str(refused.exception)
    assert not Path("evaluation").exists()
    done = CliRunner().invoke(app, command)
    assert done.exception is None, done.output
    (folder,) = Path("evaluation").glob("*/default")
    task = read_results(folder).tasks["capitals"]
    assert (task.title, task.language, task.metric, task.shots) == ("Capitals", "ja", "exact_match", 2)
    assert sorted(task.ids) == ["egypt", "italy", "peru"]
    prompts = {record["item"]: record["prompt"] for record in read_records(folder, "capitals")}
    shots = "質問: 日本の首都は?\n答え:東京\n\n質問: フランスの首都は?\n答え:パリ\n\n"
    assert prompts["peru"] == shots + "質問: ペルーの首都は?\n答え:"
    for record in read_records(folder, "capitals"):
        assert record["score"] == float(record["output"] == record["gold"])
        assert len(record["output"]) <= 20  # max_characters
