"""Markers of a chat template that a base does not have: tokens in its tokenizer, rows in its model, all else as it was."""

import json

import numpy as np
import pytest
import torch
import yaml
from chat_models import chat_folder, tokenizer_named
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsugiki.chat.templates import NAMED
from tsugiki.errors import ModelError, RecipeError
from tsugiki.pipeline import run_prepare, run_vocabulary
from tsugiki.preview import preview_samples
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import load_tokenizer, model_folder, resolve_commits

MARKERS = list(NAMED["chatml"].markers)
TEXT = "The river 接ぎ木 <|im_start|"


def recipe_for(folder, base, *, add=True, **sections):
    turns = [{"role": "user", "content": "Hi <|im_end|>"}, {"role": "assistant", "content": "Yes, 接ぎ木"}]
    (folder / "talk.jsonl").write_text("\n".join(json.dumps({"messages": turns}) for _ in range(8)), encoding="utf-8")
    return parse_recipe(yaml.safe_dump({
        "run_dir": str(folder / "run"), "model": {"name_or_path": str(base)},
        "data": {
            "sequence_length": 64, "held_out": 0, "workers": 1,
            "chat": {"template": "chatml", "add_template_tokens": add},
            "sources": {"talk": {"path": str(folder / "talk.jsonl"), "format": "chat", "weight": 1}},
        },
        "training": {"max_steps": 1, "global_batch_size": 1, "micro_batch_size": 1, "save_steps": 1, "learning_rate": 1e-3},
        **sections,
    }))  # fmt: skip


def say_nothing(_line):
    return


@pytest.mark.parametrize(("name", "spare"), [("llama3", 0), ("llama3", 1), ("llama3", 2), ("gemma", 5)])
def test_markers_take_spare_rows_first_and_nothing_else_moves(name, spare, tmp_path, tiny_model_folder):
    used = len(tokenizer_named(name))
    base = chat_folder(tmp_path / "base", name, tiny_model_folder, vocab_size=used + spare)
    recipe = recipe_for(tmp_path, base)
    with pytest.raises(
        RecipeError, match=r"no model with the markers of the chat template chatml yet: run tsugiki vocabulary"
    ):
        load_tokenizer(recipe)
    said = []
    run_vocabulary(recipe, said.append)
    folder = model_folder(recipe, resolve_commits(recipe))
    size = used + spare if spare >= 2 else -(-(used + 2) // 64) * 64
    assert f"{used + spare:,} -> {size:,} rows" in said[0] or spare >= 2

    before, after = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(folder)
    assert after.convert_tokens_to_ids(MARKERS) == [used, used + 1]
    assert after(f"a{MARKERS[0]}b", add_special_tokens=False).input_ids.count(used) == 1
    assert after.decode([used], skip_special_tokens=True) == ""
    assert after(TEXT).input_ids == before(TEXT).input_ids
    old, new = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    for tensor in old:
        if tensor in ("model.embed_tokens.weight", "lm_head.weight"):
            assert new[tensor].shape[0] == size
            assert torch.equal(new[tensor][:used], old[tensor][:used])
            assert torch.equal(new[tensor][used + 2 : used + spare], old[tensor][used + 2 :])
            deviation = old[tensor][:used].std(0)
            for row, marker in enumerate(MARKERS):
                spelled = before(marker, add_special_tokens=False).input_ids
                distance = (new[tensor][used + row] - old[tensor][spelled].mean(0)) / deviation
                assert 0 < distance.abs().max() < 0.01  # the noise is a thousandth
        else:
            assert torch.equal(new[tensor], old[tensor])
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == size

    run_vocabulary(recipe, said.append)
    assert said[-1].endswith("template_tokens is up to date")
    run_prepare(recipe)


def test_without_the_key_such_a_template_is_refused_and_with_it_samples_are_shown_before_anything_is_made(
    tmp_path, tiny_model_folder
):
    base = chat_folder(tmp_path / "base", "llama3", tiny_model_folder)
    with pytest.raises(ModelError, match=r"<\|im_start\|>, <\|im_end\|>.*data\.chat\.add_template_tokens: true"):
        run_prepare(recipe_for(tmp_path, base, add=False))
    shown = "\n".join(map(str, preview_samples(recipe_for(tmp_path, base), 1)))
    assert "<|im_start|>assistant" in shown
    assert not (tmp_path / "run/template_tokens").exists()


def test_a_tokenizer_that_has_the_markers_stays_the_bases(tmp_path, tiny_model_folder):
    base = chat_folder(tmp_path / "base", "qwen", tiny_model_folder)
    recipe = recipe_for(tmp_path, base)
    said = []
    run_vocabulary(recipe, said.append)
    assert said == ["template   the tokenizer has all markers of chatml"]
    assert model_folder(recipe, resolve_commits(recipe)) == base
    assert load_tokenizer(recipe).folder == base


def test_another_base_gets_rows_of_its_own_until_a_checkpoint_needs_those_that_are_there(tmp_path, tiny_model_folder):
    base = chat_folder(tmp_path / "base", "llama3", tiny_model_folder)
    recipe = recipe_for(tmp_path, base)
    run_vocabulary(recipe, say_nothing)
    first = (tmp_path / "run/template_tokens/model/model.safetensors").read_bytes()
    other = chat_folder(tmp_path / "other", "llama3", tiny_model_folder, initializer_range=0.1)
    (base / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    run_vocabulary(recipe, say_nothing)
    second = (tmp_path / "run/template_tokens/model/model.safetensors").read_bytes()
    assert first != second
    checkpoint = tmp_path / "run/checkpoints/step_00000001"
    checkpoint.mkdir(parents=True)
    np.save(base / "noise.npy", np.zeros(1))  # no part of the model
    run_vocabulary(recipe, say_nothing)
    assert (tmp_path / "run/template_tokens/model/model.safetensors").read_bytes() == second


def test_markers_come_behind_the_pieces_of_an_extended_vocabulary(tmp_path, tiny_model_folder):
    from small_bases import quickstart_texts

    base = chat_folder(tmp_path / "base", "llama3", tiny_model_folder)
    lines = (json.dumps({"text": text}, ensure_ascii=False) for text in quickstart_texts("ja")[:40])
    (tmp_path / "ja.jsonl").write_text("\n".join(lines), encoding="utf-8")
    vocabulary = {"language": "ja", "add": 64, "corpora": {"ja": {"path": str(tmp_path / "ja.jsonl")}}}
    recipe = recipe_for(tmp_path, base, vocabulary=vocabulary)
    run_vocabulary(recipe, say_nothing)
    extended = AutoTokenizer.from_pretrained(tmp_path / "run/vocabulary/model")
    tokenizer = AutoTokenizer.from_pretrained(model_folder(recipe, resolve_commits(recipe)))
    assert tokenizer.convert_tokens_to_ids(MARKERS) == [len(extended), len(extended) + 1]
    text = quickstart_texts("ja")[50]
    assert tokenizer(text).input_ids == extended(text).input_ids
    assert len(extended(text).input_ids) < len(AutoTokenizer.from_pretrained(base)(text).input_ids)
    run_prepare(recipe)


def test_rows_that_would_not_be_trained_are_refused(tmp_path, tiny_model_folder):
    base = chat_folder(tmp_path / "base", "llama3", tiny_model_folder)
    training = {"max_steps": 1, "global_batch_size": 1, "micro_batch_size": 1, "save_steps": 1, "learning_rate": 1e-3}
    with pytest.raises(
        RecipeError, match=r"training.lora.new_rows: must be true: the rows that data.chat.add_template"
    ):
        recipe_for(tmp_path, base, training={**training, "lora": {"rank": 4}})
    for lora in ({"new_rows": True}, {"modules_to_save": ["embed_tokens", "lm_head"]}):
        recipe_for(tmp_path, base, training={**training, "lora": {"rank": 4, **lora}})
    architecture = json.loads((base / "config.json").read_text())
    with pytest.raises(RecipeError, match="give a tokenizer that has the markers"):
        recipe_for(tmp_path, base, model={"architecture": architecture, "tokenizer": str(base)})
