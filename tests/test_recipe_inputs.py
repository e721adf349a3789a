"""Which rows of a model are new: those of pieces that the base's own tokenizer has not."""

import json
import shutil
from pathlib import Path

from tsugiki import recipe_inputs
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.recipe_inputs import new_rows


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
