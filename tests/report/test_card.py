"""The model card: metadata that Hugging Face reads, and text that is text."""

import re
from dataclasses import replace

import pytest
import yaml
from report_runs import add_bits, make_run

from tsugiki.recipe_training import LoraSection
from tsugiki.report.card import make_card
from tsugiki.report.run_directory import read_run
from tsugiki.report.words import hub_base, lora_words


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_metadata_is_what_the_run_measured(tmp_path):
    found = metadata(make_card(read_run(make_run(tmp_path / "run"))))
    assert found["language"] == ["ja", "en"]  # code is none, and is not trained on
    assert found["base_model"] == "owner/base-7b"
    assert found["datasets"] == ["owner/english"]
    assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "text-generation")
    assert "license" not in found
    (index,) = found["model-index"]
    assert index["name"] == "run"
    assert {
        "task": {"type": "text-generation"}, "dataset": {"name": "cloze ja", "type": "cloze_ja"},
        "metrics": [{"type": "accuracy", "value": 0.5, "name": "accuracy"}],
    } in index["results"]  # fmt: skip
    assert not any("average" in result["dataset"]["name"] for result in index["results"])


def test_the_hubs_own_reader_takes_the_metadata(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(make_card(read_run(make_run(tmp_path / "run")))).data
    assert data.base_model == "owner/base-7b"
    assert data.model_name == "run"
    assert {result.dataset_type for result in data.eval_results} >= {"cloze_ja", "cloze_en", "text_novels"}


def test_the_licence_is_that_of_the_base_where_it_is_known(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text(
        "---\nlicense: other\nlicense_name: our-own\nlicense_link: LICENSE\ntags: [x]\n---\n# base\n"
    )
    card = make_card(read_run(make_run(tmp_path / "run", model__name_or_path=str(base))))
    found = metadata(card)
    assert (found["license"], found["license_name"], found["license_link"]) == ("other", "our-own", "LICENSE")
    assert "base_model" not in found  # a folder of this machine is no name on the hub
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    "readme", ["", "no metadata", "---\n[broken\n---\n", "---\n- a list\n---\n", "---\nlicense: [a]\n---\n"]
)
def test_a_base_without_a_readable_licence_is_named_so(tmp_path, readme):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text(readme)
    card = make_card(read_run(make_run(tmp_path / "run", model__name_or_path=str(base))))
    assert "license" not in metadata(card)
    assert "The licence of the base was not found" in card


def test_a_model_without_a_base_has_no_licence_to_look_for(tmp_path):
    architecture = {"model_type": "mistral", "vocab_size": 64}
    run = make_run(tmp_path / "run", model__name_or_path=None, model__architecture=architecture, model__tokenizer="x/y")
    assert "licence of the base" not in make_card(read_run(run))


def test_hostile_text_neither_ends_the_metadata_nor_becomes_markup(tmp_path):
    text = "\n---\nlicense: mit\n<script>alert(1)</script> [x](javascript:alert(1)) | `"
    run = read_run(make_run(tmp_path / "run", text))
    card = make_card(run)
    assert "license" not in metadata(card)
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body.replace("\\<", "")
    assert not re.search(r"(?<!\\)\]\(javascript", body)
    assert len([line for line in body.splitlines() if line.startswith("| cloze")]) == 2


def test_a_base_with_a_chat_template_is_not_called_a_base_model(tmp_path):
    folder = make_run(tmp_path / "run")
    assert "chat template" not in make_card(read_run(folder))
    (folder / "model/chat_template.jinja").write_text("{{ messages }}")
    card = make_card(read_run(folder))
    assert "The base has a chat template; what it had been taught by it may have been weakened" in card
    assert "A base model" not in card


def test_a_run_of_conversations_says_that_it_was_taught_to_answer_and_how_to_ask(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    sources = {name: source.model_copy(update={"format": "chat"}) for name, source in run.recipe.data.sources.items()}
    data = run.recipe.data.model_copy(update={"sources": sources})
    run.recipe = run.recipe.model_copy(update={"data": data})
    card = make_card(run)
    assert "taught to answer by the conversations above" in card
    assert "plain text" not in card
    assert metadata(card)["tags"] == ["tsugiki", "instruction-tuning"]
    compile(re.search(r"```python\n(.*?)```", card, re.S)[1], "card", "exec")
    assert "apply_chat_template(\n    turns, add_generation_prompt" in card
    chat = {"tools": [{"function": {"name": "find"}}], "template_kwargs": {"short": True, "today": "2026-01-31"}}
    given = data.model_copy(update={"chat": data.chat.model_copy(update=chat)})
    run.recipe = run.recipe.model_copy(update={"data": given})
    code = re.search(r"```python\n(.*?)```", make_card(run), re.S)[1]
    compile(code, "card", "exec")
    assert "given = {'tools': [{'function': {'name': 'find'}}], 'short': True}  # as in training\n" in code
    assert "apply_chat_template(\n    turns, **given, add" in code


def test_each_row_has_its_metric_and_the_base_is_named(tmp_path):
    folder = make_run(tmp_path / "run", vocabulary={"add": 1536, "language": "ja"})
    add_bits(folder)
    card = make_card(read_run(folder))
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines() if line.startswith("| cloze ja")
    ]
    assert [row[1:3] for row in rows] == [["ja", "accuracy"], ["ja", "bits per byte"]]
    assert "Of novels, replay, code the base is the model before step 1, with its new pieces" in card


def test_a_hub_id_is_what_the_run_has_recorded_as_one(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    assert hub_base(run) == "owner/base-7b"
    for name, commit, expected in (
        ("owner/base-7b", None, None),  # a folder of that name, which is gone
        ("another/name", "0" * 40, "owner/base-7b"),  # nothing recorded of this base
    ):
        origin = {"model": {"name": name, "revision": None, "commit": commit}}
        assert hub_base(replace(run, origin=origin)) == expected
    gone = replace(run, origin={"model": {"name": "owner/base-7b", "revision": None, "commit": None}})
    assert "base_model" not in metadata(make_card(gone))


def test_adapters_are_named_as_what_was_trained(tmp_path):
    lora = {"rank": 8, "modules_to_save": ["norm", "<b>lm_head"]}
    card = make_card(read_run(make_run(tmp_path / "run", training__lora=lora)))
    words = r"adapters of rank 8 (LoRA), norm and \<b\>lm\_head"
    assert f"| trained | {words} |" in card
    assert f"Its weights were frozen; {words} were trained." in card
    assert lora_words(LoraSection(new_rows=True)) == "adapters of rank 16 (LoRA) and the rows of new pieces"
    assert "frozen" not in make_card(read_run(make_run(tmp_path / "whole")))
