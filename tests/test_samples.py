"""Texts before and after: by which models, of which documents, made once, and left out where memory is short."""

import json
import shutil

import pytest
import torch.distributed as dist
from tiny_project import prepare_tiny

from tsugiki import sample_answers, samples
from tsugiki.model.generate import generate_text
from tsugiki.model.talk import Talk
from tsugiki.pipeline import export_final, run_training, write_samples
from tsugiki.recipe_file import parse_recipe
from tsugiki.training import distributed
from tsugiki.training.preflight import PROBES


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_tokenizer_folder):
    """A tiny run, and one that continues its export: (recipe, folder of the base)."""
    return train(tmp_path_factory.mktemp("samples"), tiny_tokenizer_folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory, tiny_tokenizer_folder):
    """The same on text and conversations."""
    return train(tmp_path_factory.mktemp("taught"), tiny_tokenizer_folder, chat=True)


def train(folder, tokenizer, chat=False):
    tiny = prepare_tiny(folder, tokenizer, chat)
    skip = "training.preflight.skip=" + json.dumps([probe.name for probe in PROBES])
    with pytest.MonkeyPatch.context() as patch:
        if dist.is_initialized():
            patch.setattr(distributed, "stop_processes", lambda: None)
        for run, base in (("base", None), ("run", folder / "base/export")):
            more = [f"model={{name_or_path: {base}}}"] if base else []
            recipe = parse_recipe(tiny.text, overrides=[f"run_dir={folder / run}", "training.max_steps=2", skip, *more])
            run_training(recipe, lambda _text: None)
            export_final(recipe, lambda _text: None)
    return recipe, folder / "base/export"


def test_both_models_go_on_with_the_same_held_out_beginnings(trained):
    recipe, base = trained
    said = []
    write_samples(recipe, said.append)
    found = json.loads((recipe.run_dir / samples.FILE).read_text())
    assert said == [f"samples    {recipe.run_dir / samples.FILE}"]
    assert [one["source"] for one in found["samples"]] == ["en", "en", "ja", "ja"]
    assert list(found) == ["checkpoint", "digest", "settings", "samples"]
    lines = (recipe.prepared_dir.parent / "en.jsonl").read_text("utf-8").splitlines()
    one = found["samples"][0]
    assert any(" ".join(json.loads(line)["text"].split()).startswith(one["prompt"]) for line in lines)
    for model, key in ((base, "before"), (recipe.run_dir / "export", "after")):
        whole = generate_text(model, one["prompt"], **samples.SETTINGS)
        assert whole.removeprefix(one["prompt"]).rstrip("\ufffd") == one[key]


def test_of_conversations_both_models_answers_are_added(taught, monkeypatch):
    recipe, base = taught
    monkeypatch.setattr(sample_answers, "BUDGET", 12)
    write_samples(recipe, lambda _text: None)
    path = recipe.run_dir / samples.FILE
    found = json.loads(path.read_text("utf-8"))
    assert [one["source"] for one in found["samples"]] == ["en", "en"]
    assert [one["source"] for one in found["answers"]] == ["talk", "talk"]
    assert found["most_tokens"] == samples.BUDGET
    lines = (recipe.prepared_dir.parent / "talk.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line)["messages"] for line in lines]
    for one in found["answers"]:
        whole = [*one["messages"], {"role": "assistant", "content": one["reference"]}]
        assert any(
            [{key: turn[key] for key in ("role", "content")} for turn in record[:2]] == whole for record in records
        )
        for model, key in ((base, "before"), (recipe.run_dir / "export", "after")):
            talk = Talk(model, template="mistral-v1", temperature=0, max_new_tokens=12)
            assert one[key]["text"] == "".join(talk.ask(one["messages"][0]["content"])).rstrip("\ufffd").strip()
            assert one[key]["stopped"] == (talk.cut is None)

    # A file from before there were answers is made again, and one with them is not.
    path.write_text(json.dumps({key: found[key] for key in found if key != "answers"}), "utf-8")
    write_samples(recipe, lambda _text: None)
    assert json.loads(path.read_text("utf-8")) == found
    monkeypatch.setattr(samples, "answers", lambda *_: pytest.fail("made again"))
    write_samples(recipe, lambda _text: None)


def test_they_are_made_once_for_a_checkpoint(trained, monkeypatch):
    recipe, _ = trained
    write_samples(recipe, lambda _text: None)
    path = recipe.run_dir / samples.FILE
    whole = path.read_text("utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(samples, "_continued", lambda *_: pytest.fail("made again"))
        write_samples(recipe, lambda _text: None)
    path.write_text(whole.replace(json.loads(whole)["digest"], "0" * 32), "utf-8")  # another run's, by the same name
    monkeypatch.setattr(samples, "_continued", lambda _, prompts: ["again"] * len(prompts))
    write_samples(recipe, lambda _text: None)
    assert {one["after"] for one in json.loads(path.read_text("utf-8"))["samples"]} == {"again"}
    path.unlink()


def test_a_model_that_memory_may_not_hold_is_left_alone(trained, monkeypatch):
    recipe, _ = trained
    (recipe.run_dir / samples.FILE).unlink(missing_ok=True)
    monkeypatch.setattr(samples, "_free_memory", lambda: 1000)
    said = []
    write_samples(recipe, said.append)
    assert said[0].startswith("samples    left out: ")
    assert "GB of memory are free" in said[0]
    assert not (recipe.run_dir / samples.FILE).exists()


def test_a_base_that_went_away_ends_nothing(trained):
    recipe, base = trained
    (recipe.run_dir / samples.FILE).unlink(missing_ok=True)
    shutil.move(base / "config.json", base / "gone")
    said = []
    write_samples(recipe, said.append)
    shutil.move(base / "gone", base / "config.json")
    assert said[0].startswith("samples    left out: ")


@pytest.mark.parametrize(
    ("text", "start"),
    [("A short text.", "A short text."),
     ("One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen", "One two three four five six seven eight nine ten eleven twelve thirteen"),
     ("ある日の夕方、" * 9, ("ある日の夕方、" * 4)[:24]), ("two\n\n lines", "two lines"), ("x" * 100, "x" * 72)],
)  # fmt: skip
def test_a_beginning_ends_with_a_word_or_a_letter(text, start):
    assert samples.beginning(text) == start
