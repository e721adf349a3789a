"""The stage `evaluate` of a recipe: which models, which texts, where the results go, what a second run does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from evaluation_data import write_official_data
from evaluation_models import join_folders
from rich.console import Console
from tiny_project import PreparedTiny, prepare_tiny

from tsugiki.chat.given import Given, given_in
from tsugiki.errors import RecipeError, StorageError
from tsugiki.evaluation import backends, quick
from tsugiki.evaluation.conversations import Budget
from tsugiki.evaluation.instructions import asking, tasks
from tsugiki.evaluation.known import known_tasks
from tsugiki.evaluation.models import checkpoint_at, find_model
from tsugiki.evaluation_files import read_results
from tsugiki.pipeline import export_final, held_out_texts, run_evaluation, run_prepare, run_training
from tsugiki.progress import EvaluationProgress
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe
from tsugiki.training.preflight import PROBES


def silent(_text: str) -> None:
    return


def recipe_of(tiny: PreparedTiny, run_dir: Path, **changes: Any) -> Recipe:
    values = {
        "run_dir": run_dir, "training.max_steps": 4, "training.save_steps": 2, "training.keep_every": 2,
        "training.preflight.skip": json.dumps([probe.name for probe in PROBES]), **changes,
    }  # fmt: skip
    return parse_recipe(tiny.text, overrides=[f"{key}={value}" for key, value in values.items()])


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path, tiny_language_model_folder: Path
) -> tuple[PreparedTiny, Path]:
    torch.set_num_threads(1)
    tiny = prepare_tiny(tmp_path_factory.mktemp("evaluation"), tiny_tokenizer_folder)
    run_dir = tmp_path_factory.mktemp("run") / "tiny"
    recipe = recipe_of(tiny, run_dir)
    assert run_training(recipe, silent)
    export_final(recipe, silent)
    return tiny, run_dir


@pytest.fixture(scope="module")
def official_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    write_official_data(folder)
    return folder


def evaluated(recipe: Recipe) -> tuple[str, str]:
    """What was said, and the table."""
    lines: list[str] = []
    console = Console(width=160, color_system=None)
    with console.capture() as shown, EvaluationProgress(console) as progress:
        run_evaluation(recipe, lines.append, progress, console)
    return "\n".join(lines), shown.get()


def folders(run_dir: Path, suite: str) -> dict[str, Path]:
    return {path.parent.name.rpartition("-")[0]: path for path in (run_dir / "evaluation").glob(f"*/{suite}")}


def test_the_base_can_be_asked_alone_before_anything_is_trained(
    tmp_path: Path, trained: tuple[PreparedTiny, Path], tiny_language_model_folder: Path
):
    tiny, _ = trained
    recipe = recipe_of(
        tiny, tmp_path / "new", **{
            "evaluation.suite": "quick", "evaluation.base": "only", "evaluation.limit": 2, "model.architecture": "null",
            "model.name_or_path": tiny_language_model_folder, "evaluation.steps": "[2]",
        },
    )  # fmt: skip
    evaluated(recipe)
    (folder,) = folders(tmp_path / "new", "quick-first-2").values()
    tasks = read_results(folder).scored()
    known = {one.task: one for one in known_tasks(recipe, "quick")}
    assert set(known) <= set(tasks)  # what is told before is what is scored, but for texts
    assert all(name.startswith("text_") for name in set(tasks) - set(known))
    for name, one in known.items():
        assert one.higher_is_better == tasks[name].higher_is_better
        assert tasks[name].language == one.language or not one.higher_is_better


def test_final_model_and_chosen_steps_stand_in_one_table(
    trained: tuple[PreparedTiny, Path], official_data: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny, run_dir = trained
    recipe = recipe_of(
        tiny, run_dir, **{
            "evaluation.suite": "default", "evaluation.tasks": "[hellaswag, openbookqa, mgsm_ja]", "evaluation.limit": 3,
            "evaluation.shots": 0, "evaluation.data_dir": official_data, "evaluation.steps": "[2]",
        },
    )  # fmt: skip
    said, shown = evaluated(recipe)
    found = folders(run_dir, "default-0-shots-first-3")
    assert set(found) == {"tiny@2", "tiny"}
    assert "tiny@2" in shown
    assert "HellaS" in shown
    results = {name: read_results(path) for name, path in found.items()}
    for result in results.values():
        assert len(result.scored()["tsugiki_hellaswag"].ids) == 3
        assert result.tasks["tsugiki_mgsm_ja"].reason.count("no prompt fits before them") == 1
    assert "no score   MGSM" in said
    assert (run_dir / "evaluation" / "table.md").read_text().count("| tiny") == 4
    assert not list((run_dir / "evaluation").glob("step_*")), "the exported checkpoint has gone again"

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read although every answer is known")

    monkeypatch.setattr(backends, "read_pretrained", refuse)
    records = {path: path.read_bytes() for path in (run_dir / "evaluation").rglob("records/*.jsonl")}
    evaluated(recipe)
    assert {path: path.read_bytes() for path in records} == records


def test_quick_scores_the_held_out_documents_of_every_source(
    trained: tuple[PreparedTiny, Path], monkeypatch: pytest.MonkeyPatch
):
    tiny, run_dir = trained
    recipe = recipe_of(tiny, run_dir, **{"evaluation.suite": "quick", "training.eval_documents": 3})
    texts = held_out_texts(recipe)
    assert {name: (language, len(documents)) for name, (language, documents) in texts.items()} == {
        "en": ("other", 3),
        "ja": ("other", 3),  # these sources say no language
    }
    monkeypatch.setattr(quick, "quick_suite", lambda languages, texts: [])
    evaluated(recipe)
    result = read_results(folders(run_dir, "quick")["tiny"])
    assert set(result.tasks) == {*(f"text_{name}" for name in texts), "text_our functions"}


def test_a_recipe_of_conversations_and_text_scores_its_text_and_asks_a_base_through_its_template(
    tmp_path: Path, trained: tuple[PreparedTiny, Path], tiny_language_model_folder: Path, tiny_tokenizer_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """The held-out conversations are scored by training's validation; here, what tuning may cost: the text's bits."""
    tiny, _ = trained
    turns = [{"role": "user", "content": "Is {} even?"}, {"role": "assistant", "content": "Yes, it is: {}."}]
    talk = [
        json.dumps({"messages": [{**turn, "content": turn["content"].format(2 * n)} for turn in turns]})
        for n in range(300)
    ]
    (tmp_path / "talk.jsonl").write_text("\n".join(talk) + "\n", encoding="utf-8")
    values = yaml.safe_load(tiny.text)
    base = join_folders(tmp_path / "base", tiny_language_model_folder, tiny_tokenizer_folder)
    values["model"] = {"name_or_path": str(base)}
    values["run_dir"], values["data"]["prepared_dir"] = str(tmp_path / "run"), str(tmp_path / "data")
    values["data"] |= {"sequence_length": 64, "chat": {"template": "llama-2", "template_kwargs": {"a": 1}}}
    values["data"]["sources"]["talk"] = {
        "path": str(tmp_path / "talk.jsonl"), "format": "chat", "weight": 1, "language": "cs", "held_out": 0.5,
    }  # fmt: skip
    values["data"]["sources"]["en"]["weight"] = 0  # only watched
    values["training"] |= {"max_steps": 2, "preflight": {"skip": [probe.name for probe in PROBES]}}
    values["evaluation"] = {"suite": "quick", "tasks": ["texts", "instructions_en"], "limit": 2}
    recipe = parse_recipe(yaml.safe_dump(values))
    run_prepare(recipe)
    assert set(held_out_texts(recipe)) == {"ja", "en"}
    budgets = {name: Budget(8) for name in tasks.BUDGETS}
    for module in (tasks, asking):
        monkeypatch.setattr(module, "BUDGETS", budgets)
    assert run_training(recipe, silent)
    export_final(recipe, silent)
    _, table = evaluated(recipe)
    found = {name: read_results(folder) for name, folder in folders(tmp_path / "run", "quick-first-2").items()}
    assert set(found) == {"base", "run"}
    texts = {"text_ja", "text_en", "text_our functions"}
    for result in found.values():
        assert set(result.scored()) == texts | set(tasks.scores_of("instructions_en"))
    before, after = (found[name].header["tasks"]["instructions_en"] for name in ("base", "run"))
    assert (before["chat_template"]["name"], after["chat_template"]["name"]) == ("llama-2", "the tokenizer's own")
    assert before["digest"] == after["digest"]  # the export has what the base was asked through
    assert before["chat_template"]["kwargs"] == {"a": 1}
    for place in ("run", "run/export"):  # named on the command line it is asked as its recipe says
        assert given_in(find_model(str(tmp_path / place)).files) == Given((), {"a": 1})
    assert given_in(find_model(str(base)).files) == Given()
    assert "English: instructions" in table
    assert "- base" in table.replace("−", "-")
    known = {one.task for one in known_tasks(recipe, "quick")}
    assert known == {"instructions_en"}
    whole = values | {"evaluation": {"suite": "quick"}}
    assert not [one.task for one in known_tasks(parse_recipe(yaml.safe_dump(whole)), "quick") if "talk" in one.task]


def test_what_cannot_be_evaluated_is_named(trained: tuple[PreparedTiny, Path]):
    tiny, run_dir = trained
    with pytest.raises(RecipeError, match="no section evaluation"):
        run_evaluation(recipe_of(tiny, run_dir), silent, None, None)
    with pytest.raises(StorageError, match=r"no checkpoint of step 3.*keep_every"):
        checkpoint_at(run_dir, 3)
