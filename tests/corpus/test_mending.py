"""A damaged shard is made again alone, to the byte, and nothing else is; where that cannot be, the source is made anew."""

import hashlib
import json
import shutil

import pytest

from tsugiki.corpus import mending, store_writer
from tsugiki.corpus.inputs import SourceDocuments
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import source_directory, verify
from tsugiki.corpus.workers import TextWork

FILTERS = {"duplicates": {"near": False}, "length": {"min_characters": 40}}


def contents(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda at: flip(at / "train-00001.bin"),
    "the first and a whole shard": lambda at: [flip(at / "train-00000.idx"), *map(shutil.os.unlink, at.glob("train-00001.*"))],
    "rows of the last": lambda at: flip(sorted(at.glob("train-*.npy"))[-1]),
    "held-out text": lambda at: flip(at / "held_out-00000.bin"),
    "both parts": lambda at: [flip(at / "held_out-00000.idx"), (at / "train-00002.bin").unlink()],
}  # fmt: skip


@pytest.fixture
def source(tmp_path, make_recipe, make_texts, jsonl, tokenizer, monkeypatch):
    """`source(**data)`: a recipe whose source, of two files with duplicates and bad records, is prepared in several
    shards; its folder."""
    monkeypatch.setattr(store_writer, "SHARD_TOKENS", 9000)
    monkeypatch.setattr("tsugiki.corpus.pieces.PIECE", 1 << 13)
    jsonl(tmp_path / "in/a.jsonl", [*make_texts(150, size=800), *make_texts(20, size=800), '{"text": 5}', "short"])
    jsonl(tmp_path / "in/b.jsonl", make_texts(60, start=500, size=800))

    def make(filters=FILTERS, **data):
        given = {"path": str(tmp_path / "in/*"), "filters": filters, "held_out": 0.3}
        recipe = make_recipe({"s": given}, **{"max_bad_documents": 0.1, **data})
        prepare(recipe, tokenizer)
        return recipe, source_directory(recipe, "s")

    return make


@pytest.fixture
def tokenised(monkeypatch):
    """Documents that were tokenised, by number."""
    count, original = [], TextWork.__call__

    def counting(self, batch):
        found = original(self, batch)
        count.append(len(found.records))
        return found

    monkeypatch.setattr(TextWork, "__call__", counting)
    return count


@pytest.mark.parametrize("filters", [{}, FILTERS], ids=["plain", "filtered"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_shards_are_made_again_alone(source, tokenizer, tokenised, kind, filters):
    recipe, at = source(filters)
    before, times = contents(at), {path.name: path.stat().st_mtime_ns for path in at.iterdir()}
    assert len(list(at.glob("train-*.bin"))) > 3
    whole = sum(tokenised)
    DAMAGE[kind](at)
    del tokenised[:]
    manifest = prepare(recipe, tokenizer, verify=True)["s"]
    assert contents(at) == before
    assert verify(at) == []
    assert 0 < sum(tokenised) < 0.6 * whole
    assert manifest.as_json() == json.loads((at / "manifest.json").read_text("utf-8"))
    untouched = {path.name for path in at.iterdir() if path.stat().st_mtime_ns == times[path.name]}
    assert {"manifest.json", "left_out.jsonl", "train-00003.bin"} - {
        sorted(at.glob("train-*.npy"))[-1].stem
    } <= untouched
    assert not list(at.parent.glob(".*"))
    del tokenised[:]
    prepare(recipe, tokenizer, verify=True)
    assert tokenised == []


def test_a_missing_shard_is_seen_without_digests_and_a_flipped_bit_with_them(source, tokenizer, tokenised):
    recipe, at = source()
    before = contents(at)
    (at / "train-00001.bin").unlink()
    prepare(recipe, tokenizer)
    assert contents(at) == before
    flip(at / "train-00001.bin")
    del tokenised[:]
    prepare(recipe, tokenizer)
    assert tokenised == []
    assert verify(at) == [
        f"{at / 'train-00001.bin'}: its digest is not the recorded one; run tsugiki prepare RECIPE --verify"
    ]


@pytest.mark.parametrize("names", [("packs", ".bin"), ("packs",), (".bin",)])
def test_tables_of_packs_are_made_again_beside_shards(source, tokenizer, tokenised, names):
    recipe, at = source(packing="best_fit", sequence_length=256)
    before, whole = contents(at), sum(tokenised)
    for path in [next(path for path in sorted(at.iterdir()) if name in path.name) for name in names]:
        flip(path)
    assert contents(at) != before
    del tokenised[:]
    prepare(recipe, tokenizer, verify=True)
    assert contents(at) == before
    assert verify(at) == []
    assert sum(tokenised) < 0.6 * whole


@pytest.mark.parametrize("why", ["more than shards is", "texts of it were split", "not what train held"])
def test_what_cannot_be_mended_is_made_anew_and_said(source, tokenizer, caplog, monkeypatch, why):
    recipe, at = source(**({"split_documents": 1000} if "split" in why else {}))
    if "split" in why:
        (long := at.parents[2] / "in/c.jsonl").write_text(json.dumps({"text": "a line of text\n" * 100}) + "\n")
        prepare(recipe, tokenizer)
        assert long.exists()
    before = contents(at)
    flip(at / "train-00001.bin")
    if "more" in why:
        flip(at / "left_out.jsonl")
    if "held" in why:  # as with another version of a library
        monkeypatch.setattr(mending, "is_held_out", lambda *_: False)
    prepare(recipe, tokenizer, verify=True)
    assert contents(at) == before
    assert why in caplog.text


def test_a_kill_while_shards_are_put_in_place_leaves_a_source_that_is_mended(source, tokenizer, monkeypatch):
    recipe, at = source()
    before = contents(at)
    flip(at / "train-00001.bin")
    with monkeypatch.context() as patch:
        patch.setattr(SourceDocuments, "batches", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe, tokenizer, verify=True)
    assert not list(at.parent.glob(".*.new"))
    prepare(recipe, tokenizer, verify=True)
    assert contents(at) == before
