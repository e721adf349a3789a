"""Parts of the work made apart and put together give the bytes that one process makes."""

import hashlib
import json
import shutil
from unittest.mock import Mock

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from tsugiki.corpus import inputs, pieces
from tsugiki.corpus.inputs import Deal
from tsugiki.corpus.prepare import prepare, prepare_shards
from tsugiki.corpus.prepare_shards import shard_folder
from tsugiki.corpus.prepared import source_directory
from tsugiki.errors import DataError

FILTERS = {"length": {"min_characters": 120}, "duplicates": {}}


def contents(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


@pytest.fixture
def corpus(tmp_path, make_texts, monkeypatch):
    """Files of three kinds, with bad records, short texts, duplicates and a text that is split."""
    monkeypatch.setattr(pieces, "PIECE", 1 << 12)
    monkeypatch.setattr("tsugiki.corpus.parquet.PARQUET_ROWS", 16)
    monkeypatch.setattr("tsugiki.corpus.buckets.TEXT_BYTES", 1 << 14)
    folder = tmp_path / "in"
    folder.mkdir()
    same = make_texts(9, start=77, size=300)
    for number, name in enumerate(("a.jsonl", "b.jsonl.zst", "c.parquet", "d.jsonl", "e.jsonl")):
        texts = make_texts(60, start=1000 * number, size=400)
        texts[::9], texts[1::13] = [""] * len(texts[::9]), ["short"] * len(texts[1::13])
        texts += [*same, "\n".join(make_texts(30, start=5000 + number, size=300))]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        if name.endswith("parquet"):
            pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / name)
        else:
            (folder / name).write_bytes(zstandard.compress(lines) if name.endswith("zst") else lines)
    return {"s": {"path": str(folder / "*"), "held_out": 0.3, "filters": FILTERS}}


@pytest.fixture
def recipe_of(corpus, make_recipe):
    def make(run, **options):
        keys = {"workers": 1, "max_bad_documents": 0.3, "split_documents": 2000, **options}
        return make_recipe(corpus, run=run, **keys)

    return make


@pytest.mark.parametrize(("of", "many_files"), [(1, 4), (3, 4), (7, 4), (2, 2), (5, 1)])
def test_parts_give_the_bytes_of_one_process(recipe_of, tokenizer, monkeypatch, of, many_files):
    whole = recipe_of("whole")
    manifest = prepare(whole, tokenizer)["s"]
    assert manifest.bad["empty"] > 20
    assert manifest.split_documents > 0
    assert set(manifest.filtered.by_filter()) == {"length", "duplicates"}
    monkeypatch.setattr(inputs, "MANY_FILES", many_files)
    recipe = recipe_of("parts")
    for number in reversed(range(of)):
        prepare_shards(recipe, tokenizer, Deal(number, of))
    progress = Mock()
    prepare(recipe, tokenizer, merge=True, progress=progress)
    assert [call[0] for call in progress.method_calls] == ["start", "advance", "finish"]
    assert contents(source_directory(recipe, "s")) == contents(source_directory(whole, "s"))
    assert [path.name for path in recipe.prepared_dir.iterdir()] == ["s"]


def test_a_part_that_is_there_is_left_alone(recipe_of, tokenizer, monkeypatch):
    recipe = recipe_of("parts")
    prepare_shards(recipe, tokenizer, Deal(0, 2))
    before = contents(shard_folder(recipe, "s", Deal(0, 2)))
    monkeypatch.setattr("tsugiki.corpus.prepare_shards.tokenise_documents", None)
    prepare_shards(recipe, tokenizer, Deal(0, 2))
    assert contents(shard_folder(recipe, "s", Deal(0, 2))) == before


def test_missing_foreign_and_mixed_parts_are_named(recipe_of, tokenizer, tmp_path):
    recipe = recipe_of("parts")
    with pytest.raises(DataError, match=r"s\.shards: no part; tsugiki prepare RECIPE --shard 0/N"):
        prepare(recipe, tokenizer, merge=True)
    for number in (0, 2):
        prepare_shards(recipe, tokenizer, Deal(number, 3))
    with pytest.raises(DataError, match=r"1 of 3 parts are missing: 1; make each by .* --shard 1/3"):
        prepare(recipe, tokenizer, merge=True)
    prepare_shards(recipe, tokenizer, Deal(1, 3))
    with pytest.raises(DataError, match=r"0-of-3: made with other settings, or of files that have changed"):
        prepare(recipe_of("parts", add_eos=False), tokenizer, merge=True)
    prepare_shards(recipe, tokenizer, Deal(0, 2))
    with pytest.raises(DataError, match=r"parts of several divisions \(2, 3\); remove those of one"):
        prepare(recipe, tokenizer, merge=True)
    shutil.rmtree(shard_folder(recipe, "s", Deal(0, 2)))
    with (tmp_path / "in/a.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "later"}\n')
    with pytest.raises(DataError, match=r"0-of-3: made with other settings, or of files that have changed"):
        prepare(recipe, tokenizer, merge=True)
    assert not source_directory(recipe, "s").exists()
    for number in range(3):
        prepare_shards(recipe, tokenizer, Deal(number, 3))
    assert prepare(recipe, tokenizer, merge=True)["s"].train.documents
