"""The folder of an extended tokenizer: a class that every transformers reads alike, nothing of the base that would lie."""

import json
from pathlib import Path
from typing import Any

import pytest
from extension_project import make_base, texts_of

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.folder import write_tokenizer
from tsugiki.vocabulary.pieces import Piece


@pytest.fixture(params=["llama", "qwen3"])
def base(request, tmp_path, tiny_model_folder) -> Path:
    return make_base(tmp_path / "base", request.param, tiny_model_folder)


def extended(base: Path, folder: Path) -> dict[str, Any]:
    """Write the base with one character more; its configuration."""
    tokenizer = TextTokenizer.from_folder(base)
    opened = open_base(tokenizer, TargetCharacters.of_language("ja"))
    folder.mkdir()
    pieces = opened.character_pieces("川")
    write_tokenizer(folder, opened, tokenizer, pieces or [Piece("川", ())])
    return json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))


def edit(base: Path, **keys: Any) -> None:
    path = base / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys), encoding="utf-8")


def test_the_class_is_the_one_that_honours_the_file_and_keys_of_others_are_gone(base, tmp_path):
    edit(base, auto_map={"AutoTokenizer": ["theirs.Tokenizer", None]}, sp_model_kwargs={}, legacy=True, padding_side="left",
         model_max_length=77, added_tokens_decoder={}, clean_up_tokenization_spaces=True)  # fmt: skip
    config = extended(base, tmp_path / "out")
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["clean_up_tokenization_spaces"] is False
    assert config.keys().isdisjoint({"auto_map", "sp_model_kwargs", "legacy", "add_bos_token", "added_tokens_decoder"})
    assert (config["padding_side"], config["model_max_length"]) == ("left", 77)
    before, after = TextTokenizer.from_folder(base), TextTokenizer.from_folder(tmp_path / "out")
    assert (after.bos_id, after.eos_id) == (before.bos_id, before.eos_id)
    assert (after.default_add_bos, after.default_add_eos) == (before.default_add_bos, before.default_add_eos)


def test_templates_and_special_tokens_are_copied_and_files_of_the_old_vocabulary_are_not(base, tmp_path):
    (base / "chat_template.jinja").write_text("{{ messages }}\r\n", newline="")
    (base / "tsugiki_chat.json").write_text('{"tools": [],"template_kwargs": {"a": 1}}')
    (base / "special_tokens_map.json").write_text('{"eos_token":  "' + ("</s>" if "model" in str(list(base.glob("*.model"))) else "<|endoftext|>") + '"}')  # fmt: skip
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (base / name).write_text("{}")
    extended(base, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    for name in ("chat_template.jinja", "special_tokens_map.json", "tsugiki_chat.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert names.isdisjoint({"vocab.json", "merges.txt", "added_tokens.json"})


def test_a_base_without_a_configuration_gets_one_that_names_its_control_tokens(base, tmp_path):
    if (base / "tokenizer.json").exists():
        pytest.skip("a tokenizer.json alone names no EOS")
    (base / "tokenizer_config.json").unlink()
    config = extended(base, tmp_path / "out")
    assert (config["bos_token"], config["eos_token"]) == ("<s>", "</s>")


def test_plain_transformers_reads_the_folder(base, tmp_path):
    from transformers import AutoTokenizer

    extended(base, tmp_path / "out")
    loaded, ours = AutoTokenizer.from_pretrained(tmp_path / "out"), TextTokenizer.from_folder(tmp_path / "out")
    before = [ours.bos_id] * ours.default_add_bos
    for text in [*texts_of("ja")[:5], *texts_of("en")[:5], "  two  spaces ", "川の\n\n川"]:
        assert loaded(text).input_ids == [*before, *ours.encode(text)]
