"""What a run keeps of its model's files: all as they were, but for what conversations have trained. Which rows are new."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from chat_models import chat_folder

from tsugiki import recipe_inputs
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.model.chat_files import GENERATION, TEMPLATE
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import Inputs, load_tokenizer, model_folder, new_rows, record_inputs, resolve_commits


def record(folder, base, *, chat):
    (folder / "talk.jsonl").write_text('{"messages": [{"role": "assistant", "content": "a"}], "text": "a"}')
    source = {"path": str(folder / "talk.jsonl"), "weight": 1, **({"format": "chat"} if chat else {})}
    recipe = parse_recipe(yaml.safe_dump({
        "run_dir": str(folder / "run"), "model": {"name_or_path": str(base)},
        "data": {
            "sequence_length": 64, "sources": {"talk": source}, **({"chat": {"template": "chatml"}} if chat else {}),
        },
        "training": {
            "max_steps": 1, "global_batch_size": 1, "micro_batch_size": 1, "save_steps": 1, "learning_rate": 1e-3,
        },
    }))  # fmt: skip
    commits = resolve_commits(recipe)
    record_inputs(recipe, Inputs(load_tokenizer(recipe, commits), model_folder(recipe, commits), commits))
    return {path.name: path.read_bytes() for path in (folder / "run/model").iterdir()}


@pytest.mark.parametrize("chat", [False, True])
def test_a_run_with_conversations_keeps_their_template_and_end_token(chat, tmp_path, tiny_model_folder):
    base = chat_folder(tmp_path / "base", "qwen", tiny_model_folder)
    kept = record(tmp_path, base, chat=chat)
    changed = {
        name for name, content in kept.items() if name != "source.json" and content != (base / name).read_bytes()
    }
    assert changed == ({TEMPLATE, GENERATION} if chat else set())
    stops = json.loads(kept[GENERATION])["eos_token_id"]
    assert (stops if chat else [stops])[0] == 2
    if chat:
        assert kept[TEMPLATE].decode() != (base / TEMPLATE).read_text()
        assert load_tokenizer(parse_recipe((tmp_path / "run/recipe.yaml").read_text())).piece(stops[1]) == "<|im_end|>"


def test_new_rows_are_those_of_pieces_that_the_base_has_not(tiny_tokenizer_folder: Path, tmp_path: Path, monkeypatch):
    base = TextTokenizer.from_folder(tiny_tokenizer_folder)
    folder = tmp_path / "extended"
    shutil.copytree(tiny_tokenizer_folder, folder)
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    size = base.vocabulary_size
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"] += [
        {"id": size + place, "content": text, "special": True, **flags} for place, text in enumerate(("<|a|>", "<|b|>"))
    ]
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    monkeypatch.setattr(recipe_inputs, "load_base_tokenizer", lambda *_: base)
    assert new_rows(None, TextTokenizer.from_folder(folder)) == [size, size + 1]  # type: ignore[arg-type]
    assert new_rows(None, base) == []  # type: ignore[arg-type]
