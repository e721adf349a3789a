"""A model that was trained with tools and arguments of its template is asked with them: the ids of `tsugiki chat` and of
the instruction checks against those in the store, and against plain transformers."""

import io
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from chat_models import chat_folder
from evaluation_models import Quiet
from transformers import AutoTokenizer

from tsugiki import cli
from tsugiki.chat.given import GIVEN_FILE, Given, given_in
from tsugiki.corpus.prepared import open_prepared
from tsugiki.errors import ModelError
from tsugiki.evaluation import run
from tsugiki.evaluation.conversations import Budget
from tsugiki.evaluation.instructions import asking, tasks
from tsugiki.evaluation.journal import digest_of
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings
from tsugiki.evaluation_files import read_records
from tsugiki.model import talk
from tsugiki.pipeline import run_prepare
from tsugiki.recipe_evaluation import EvaluationSection
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import Inputs, load_tokenizer, record_inputs, resolve_commits

TOOLS = [{"type": "function", "function": {"name": "find_river", "description": "Find 川 <|im_end|>"}}]
KWARGS = {"manner": "in verse", "today": "2026-01-31"}
OTHER = [{"type": "function", "function": {"name": "find_hill"}}]
MANNER = "{%- if manner %}{{- '<|im_start|>system\n' + strftime_now('%d %b') + manner + '<|im_end|>\n' }}{%- endif %}"
NO_TOOLS = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
QUESTION = tasks.prompts_of("instructions_en", None)[0].text


def recipe_of(place, base, **chat):
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Yes"}]
    (place / "talk.jsonl").write_text(json.dumps({"messages": turns}) + "\n", encoding="utf-8")
    return parse_recipe(yaml.safe_dump({
        "run_dir": str(place / "run"), "model": {"name_or_path": str(base)},
        "data": {
            "sequence_length": 512, "held_out": 0, "workers": 1, "chat": chat,
            "sources": {"talk": {"path": str(place / "talk.jsonl"), "format": "chat", "weight": 1}},
        },
        "training": {"max_steps": 1, "global_batch_size": 1, "micro_batch_size": 1, "save_steps": 1, "learning_rate": 1e-3},
    }, sort_keys=False))  # fmt: skip


def trained(place, base, **chat):
    """(The export of a run on one conversation, as far as asking it goes, and the ids before its answer.)"""
    recipe = recipe_of(place, base, **chat)
    run_prepare(recipe)
    tokenizer = load_tokenizer(recipe)
    record_inputs(recipe, Inputs(tokenizer, base, resolve_commits(recipe)))
    store = open_prepared(recipe, tokenizer)["talk"].train
    ids = store.document(0)[: int(np.argmax(store.weights(0) > 0))].tolist()
    export = shutil.copytree(base, place / "export")
    for path in (place / "run/model").iterdir():
        if path.name != "source.json":
            shutil.copyfile(path, export / path.name)
    return export, ids


@pytest.fixture
def base(tmp_path, tiny_model_folder):
    folder = chat_folder(tmp_path / "base", "qwen", tiny_model_folder, max_position_embeddings=2048)
    source = (folder / "chat_template.jinja").read_text("utf-8")
    (folder / "chat_template.jinja").write_text(MANNER + source, encoding="utf-8")
    return folder


@pytest.fixture
def told(monkeypatch):
    """The prompts of `tsugiki chat`, piped a question: `told(folder, *options)`."""

    def ask(folder, *options):
        prompts = []
        monkeypatch.setattr(talk, "new_tokens", lambda _model, prompt, **_: prompts.append(list(prompt)) or iter(()))
        monkeypatch.setattr(sys, "argv", ["tsugiki", "chat", str(folder), *options])
        given = io.BytesIO(QUESTION.encode() + b"\n")
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=given))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        return prompts[0]

    return ask


@pytest.fixture
def checked(monkeypatch, tmp_path):
    """The digest of the ids that the instruction checks ask first: `checked(folder, **settings)`."""
    budgets = {name: Budget(1) for name in tasks.BUDGETS}
    for module in (tasks, asking):
        monkeypatch.setattr(module, "BUDGETS", budgets)

    def ask(folder, settings):
        ((results, _),) = run.evaluate(
            [find_model(str(folder))], settings, tmp_path / "results", lambda _line: None, Quiet(), {}
        )
        return next(iter(read_records(results, "instructions_en")))["prompt_hash"]

    return ask


CHECKS = Settings(suite="quick", tasks=["instructions_en"], limit=1)


def test_what_training_was_given_is_given_to_the_model_by_whoever_asks_it(tmp_path, base, told, checked):
    export, ids = trained(tmp_path, base, tools=TOOLS, template_kwargs=KWARGS)
    assert given_in(export) == Given(tuple(TOOLS), KWARGS)
    text = AutoTokenizer.from_pretrained(base).decode(ids)
    assert "find_river" in text
    assert "31 Janin verse" in text
    assert told(export) == ids
    assert checked(export, CHECKS) == digest_of(ids)
    # Beside the base in a recipe's evaluation, both are asked as the recipe says.
    recipe = recipe_of(tmp_path, base, tools=TOOLS, template_kwargs=KWARGS)
    section = EvaluationSection(suite="quick", tasks=["instructions_en"], limit=1)
    assert checked(base, Settings.of(section, recipe.data)) == digest_of(ids)
    without = EvaluationSection(suite="quick", tasks=["instructions_en"], limit=1, tools=[])
    assert checked(export, Settings.of(without, recipe.data)) != digest_of(ids)


def test_a_base_whose_template_writes_no_tools_is_asked_without_and_that_is_said_once(tmp_path, base, checked):
    silent = tmp_path / "silent"
    shutil.copytree(base, silent)
    (silent / "chat_template.jinja").write_text(NO_TOOLS, encoding="utf-8")
    settings = Settings(suite="quick", tasks=["instructions_en", "instructions_ja"], limit=1, tools=TOOLS)
    told = {}
    for folder in (silent, base):
        said = told[folder] = []
        list(run.evaluate([find_model(str(folder))], settings, tmp_path / "results", said.append, Quiet(), {}))
    assert [line for line in told[silent] if line.startswith("tools")] == [
        "tools      the chat template of silent does not write them: it is asked without"
    ]
    assert not [line for line in told[base] if line.startswith("tools")]


def test_the_command_line_gives_other_tools_and_arguments_or_none(tmp_path, base, told, checked):
    export, ids = trained(tmp_path, base, tools=TOOLS, template_kwargs={"manner": "in prose", "today": "2026-01-31"})
    theirs = AutoTokenizer.from_pretrained(base)

    def by_transformers(**given):
        turns = [{"role": "user", "content": QUESTION}]
        return theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, **given)["input_ids"]

    assert told(export, "--tools", "[]", "--template-kwargs", "{}") == by_transformers()
    assert told(export, "--tools", json.dumps(OTHER), "--template-kwargs", "{}") == by_transformers(tools=OTHER)
    assert told(base) == by_transformers()
    assert told(base, "--tools", json.dumps(TOOLS), "--template-kwargs",
                '{"manner": "in prose", "today": "2026-01-31"}') == ids  # fmt: skip
    assert checked(export, Settings(**{**vars(CHECKS), "tools": (), "template_kwargs": {}})) == digest_of(
        by_transformers()
    )


def test_a_run_with_nothing_to_give_says_so_where_its_base_was_given_something(tmp_path, base):
    (tmp_path / "second").mkdir()
    (tmp_path / "third").mkdir()
    first, _ = trained(tmp_path, base, tools=TOOLS)
    again, _ = trained(tmp_path / "second", first)
    assert given_in(again) == Given()
    assert (again / GIVEN_FILE).is_file()
    assert not (trained(tmp_path / "third", base)[0] / GIVEN_FILE).exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not valid JSON"), ('{"tools": [3], "template_kwargs": {}}', r"tools\[0\] must be a mapping"),
     ('{"tools": [{"function": "f"}], "template_kwargs": {}}', "tools must be schemas of functions")],
)  # fmt: skip
def test_a_damaged_file_is_named(content, said, tmp_path):
    (tmp_path / GIVEN_FILE).write_text(content)
    with pytest.raises(ModelError, match=f"{GIVEN_FILE}.*{said}"):
        given_in(tmp_path)
