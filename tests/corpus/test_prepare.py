"""Preparing gives the same bytes whatever happens, loses nothing silently, and does nothing when nothing changed."""

import gzip
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zstandard
from preparing_child import Children

from tsugiki.corpus import pieces, prepare_text, unfinished, up_to_date
from tsugiki.corpus import prepare as stage
from tsugiki.corpus import workers as pool
from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.inputs import input_files
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import open_prepared, source_directory, verify
from tsugiki.corpus.store import shard_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import current_manifest
from tsugiki.errors import DataError, StorageError, TsugikiError

SOURCE = Path(__file__).parents[2] / "src"


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def decoded(source, tokenizer, part="train"):
    """Texts of a prepared part, without the control tokens that were added."""
    store = getattr(source, part)
    return [tokenizer.decode(store.document(index)[1:-1].tolist()) for index in range(store.document_count)]


class Recorder:
    """A Progress that remembers what it was told."""

    def __init__(self):
        self.calls = []

    def start(self, source, total_bytes):
        self.calls.append(("start", source, total_bytes))

    def advance(self, read_bytes, documents):
        self.calls.append(("advance", read_bytes, documents))

    def finish(self, source, skipped):
        self.calls.append(("finish", source, skipped))

    def sums(self):
        moves = [call for call in self.calls if call[0] == "advance"]
        return sum(call[1] for call in moves), sum(call[2] for call in moves)


def test_every_document_arrives_once_with_its_place_and_its_size(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    documents = [*make_texts(120), "a literal </s> and <s> and <unk> in a text", "文字\x00と\ufffd"]
    jsonl(tmp_path / "in/a.jsonl", documents[:50])
    (tmp_path / "in/b.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in documents[50:]).encode())
    )
    recipe = make_recipe({"s": {"path": str(tmp_path / "in/*")}})
    manifest = prepare(recipe, tokenizer)["s"]
    source = open_prepared(recipe)["s"]
    assert sorted(decoded(source, tokenizer) + decoded(source, tokenizer, "held_out")) == sorted(documents)
    assert manifest.odd == {"U+FFFD": 1, "control characters": 1}
    by_place = {(0, line): text for line, text in enumerate(documents[:50], 1)}
    by_place |= {(1, line): text for line, text in enumerate(documents[50:], 1)}
    for part in ("train", "held_out"):
        store, counts = getattr(source, part), getattr(manifest, part)
        rows = store.documents()
        for row, text in zip(rows, decoded(source, tokenizer, part), strict=True):
            assert by_place[(int(row["file"]), int(row["line"]))] == text
            assert (int(row["bytes"]), int(row["characters"])) == (len(text.encode()), len(text))
        assert counts.documents == store.document_count
        assert counts.tokens == store.token_count
        assert (counts.bytes, counts.characters) == (rows["bytes"].sum(), rows["characters"].sum())
    assert [Path(entry["path"]).name for entry in manifest.files] == ["a.jsonl", "b.jsonl.gz"]
    assert verify(source_directory(recipe, "s")) == []


def test_documents_carry_bos_and_eos_and_no_other_control_token(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    path = jsonl(tmp_path / "a.jsonl", [*make_texts(60), *["x</s>y<s>z"] * 5])
    for run, data, front, back in (
        ("default", {}, [1], [2]),
        ("none", {"add_bos": False, "add_eos": False}, [], []),
        ("bos", {"add_eos": False}, [1], []),
    ):
        recipe = make_recipe({"s": {"path": str(path), "held_out": 0.6}}, run=run, **data)
        prepare(recipe, tokenizer)
        store = open_prepared(recipe)["s"].train
        for index in range(store.document_count):
            tokens = store.document(index).tolist()
            inside = tokens[len(front) : len(tokens) - len(back)]
            assert tokens == [*front, *inside, *back]
            assert not {0, 1, 2} & set(inside)


def test_a_token_that_the_tokenizer_lacks_cannot_be_asked_for(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    tokenizer = type(tokenizer).from_folder(tokenizer.folder)
    tokenizer.bos_id = None
    recipe = make_recipe({"s": {"path": str(jsonl(tmp_path / "a.jsonl", make_texts(60)))}}, add_bos=True)
    with pytest.raises(DataError, match=r"data\.add_bos is true, but the tokenizer in .* has no such token"):
        prepare(recipe, tokenizer)


def test_workers_and_repeats_and_buckets_give_the_same_bytes(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, monkeypatch
):
    for name in ("a", "b"):
        jsonl(tmp_path / f"in/{name}.jsonl", [*make_texts(700, start=ord(name) * 1000, size=300), '{"text": ""}'])
    source = {"s": {"path": str(tmp_path / "in/*.jsonl")}}
    results = []
    for run, workers in (("one", 1), ("again", 1), ("third", 1), ("two", 2)):
        recipe = make_recipe(source, run=run, workers=workers, max_bad_documents=0.1)
        prepare(recipe, tokenizer)
        results.append(digests(source_directory(recipe, "s")))
    # A corpus that fills many buckets, some of them too full: same order, same bytes.
    monkeypatch.setattr("tsugiki.corpus.buckets.TEXT_BYTES", 1 << 15)
    monkeypatch.setattr("tsugiki.corpus.buckets.LARGEST", 1 << 14)
    recipe = make_recipe(source, run="buckets", max_bad_documents=0.1)
    prepare(recipe, tokenizer)
    results.append(digests(source_directory(recipe, "s")))
    assert len(results[0]) == 8
    assert all(result == results[0] for result in results)


def test_documents_are_shuffled_by_source_name(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    path = str(jsonl(tmp_path / "a.jsonl", make_texts(400, size=300)))
    recipe = make_recipe({"s": {"path": path, "held_out": 0.0}, "t": {"path": path, "held_out": 0.0}})
    prepare(recipe, tokenizer)
    sources = open_prepared(recipe)
    s, t = (sources[name].train.documents()["line"].astype(int) for name in "st")
    assert sorted(s) == sorted(t) == list(range(1, 401))
    for one, other in ((s, np.arange(400)), (t, np.arange(400)), (s, t)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2  # four standard errors


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    for folder in ("x", "y"):
        jsonl(tmp_path / folder / "000.jsonl", [f"{folder} {text}" for text in make_texts(60)])
    recipe = make_recipe({"s": {"path": [str(tmp_path / "x/*.jsonl"), str(tmp_path / "y/*.jsonl")], "held_out": 0.3}})
    manifest = prepare(recipe, tokenizer)["s"]
    assert [entry["name"] for entry in manifest.files] == ["x/000.jsonl", "y/000.jsonl"]
    files, lines = (open_prepared(recipe)["s"].train.documents()[key].astype(int) for key in ("file", "line"))
    twins = sum(lines[index] == lines[index + 1] for index in range(len(lines) - 1))
    assert twins < 10  # had the two the same name, every document would stand beside its twin
    assert set(files) == {0, 1}
    recorder = Recorder()
    prepare(recipe, tokenizer, progress=recorder)
    assert recorder.calls == [("finish", "s", True)]


# --- doing nothing, doing it again -----------------------------------------------------------------------------


@pytest.fixture
def prepared(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    """A prepared source of one file: (recipe, file)."""
    path = jsonl(tmp_path / "in/a.jsonl", make_texts(150, size=300))
    recipe = make_recipe({"s": {"path": str(tmp_path / "in/*.jsonl"), "held_out": 0.6}})
    prepare(recipe, tokenizer)
    return recipe, path


def again(recipe, tokenizer) -> bool:
    """Prepare once more; whether it was skipped."""
    recorder = Recorder()
    prepare(recipe, tokenizer, progress=recorder)
    return recorder.calls[-1] == ("finish", "s", True)


def test_nothing_is_done_when_nothing_changed(prepared, tokenizer, monkeypatch):
    recipe, _ = prepared
    monkeypatch.setattr(stage, "_prepare_source", None)
    before = {path: path.stat().st_mtime_ns for path in source_directory(recipe, "s").iterdir()}
    assert again(recipe, tokenizer)
    assert {path: path.stat().st_mtime_ns for path in source_directory(recipe, "s").iterdir()} == before


def test_a_touched_file_is_compared_by_digest_once(prepared, tokenizer, monkeypatch):
    recipe, path = prepared
    os.utime(path, ns=(1, 1))
    read = []
    monkeypatch.setattr(up_to_date, "xxh3_file", lambda path: read.append(path) or stage_digest(path))
    stage_digest = __import__("tsugiki.files", fromlist=["xxh3_file"]).xxh3_file
    assert again(recipe, tokenizer)
    assert again(recipe, tokenizer)
    assert read == [path]


@pytest.mark.usefixtures("prepared")
def test_a_corpus_that_was_moved_is_still_current(make_recipe, tokenizer, tmp_path):
    shutil.move(tmp_path / "in", tmp_path / "elsewhere")
    moved = make_recipe({"s": {"path": str(tmp_path / "elsewhere/*.jsonl"), "held_out": 0.6}})
    assert again(moved, tokenizer)


def change_text(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"river", b"RIVER", 1))  # same size


def add_file(path):
    shutil.copy(path, path.with_name("b.jsonl"))


def damage_manifest(path):
    (path.parents[1] / "run/data/s/manifest.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize("change", [change_text, add_file, damage_manifest])
def test_a_change_is_noticed_and_the_source_made_again(prepared, tokenizer, change):
    recipe, path = prepared
    change(path)
    assert not again(recipe, tokenizer)
    assert again(recipe, tokenizer)
    assert verify(source_directory(recipe, "s")) == []


@pytest.mark.parametrize(
    ("source", "data"),
    [({"held_out": 0.5}, {}), ({"text_key": "other"}, {}), ({"format": "jsonl"}, {}), ({"encoding": "cp932"}, {}),
     ({}, {"add_bos": False}), ({}, {"add_eos": False}), ({}, {"max_document_bytes": 5000})],
)  # fmt: skip
def test_every_option_that_decides_the_bytes_is_part_of_the_fingerprint(prepared, make_recipe, tokenizer, source, data):
    recipe, path = prepared
    changed = make_recipe({"s": {"path": str(path.parent / "*.jsonl"), "held_out": 0.6, **source}}, **data)
    assert current_manifest(recipe, "s", tokenizer) is not None
    assert current_manifest(changed, "s", tokenizer) is None
    path.unlink()  # opening reads no input
    assert open_prepared(recipe, tokenizer)["s"].train.document_count > 0
    with pytest.raises(DataError, match=r"data/s: source s was prepared with other settings.*tsugiki prepare RECIPE"):
        open_prepared(changed, tokenizer)


def test_stores_of_another_tokenizer_or_of_other_rules_are_not_opened(prepared, tmp_path, tokenizer, monkeypatch):
    recipe, _ = prepared
    shutil.copytree(tokenizer.folder, tmp_path / "other")
    description = json.loads((tmp_path / "other/tokenizer.json").read_text(encoding="utf-8"))
    description["model"]["merges"].pop()
    (tmp_path / "other/tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DataError, match=r"source s was prepared with another tokenizer than .*other; run"):
        open_prepared(recipe, TextTokenizer.from_folder(tmp_path / "other"))
    for module in ("fingerprint", "prepared"):
        monkeypatch.setattr(f"tsugiki.corpus.{module}.RULE_VERSION", 2)
    with pytest.raises(DataError, match="source s was prepared with version 1 of the rules"):
        open_prepared(recipe, tokenizer)


def test_a_folder_that_is_no_prepared_source_is_never_replaced(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    path = jsonl(tmp_path / "a.jsonl", make_texts(100))
    precious = tmp_path / "home/thesis/chapter.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("ten years", encoding="utf-8")
    recipe = make_recipe({"thesis": {"path": str(path)}}, prepared_dir=str(tmp_path / "home"))
    with pytest.raises(StorageError, match=r"holds other files \(chapter\.txt\)"):
        prepare(recipe, tokenizer)
    assert precious.read_text(encoding="utf-8") == "ten years"


def test_a_changed_byte_and_a_missing_file_are_named_by_verify(prepared):
    recipe, _ = prepared
    directory = source_directory(recipe, "s")
    for path in [path for part in ("train", "held_out") for path in shard_files(directory / f"{part}-00000")]:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert [problem.split(":")[0] for problem in verify(directory)] == [str(path)]
        path.unlink()
        assert "No such file" in verify(directory)[0]
        path.write_bytes(content)
    assert verify(directory) == []


# --- held out --------------------------------------------------------------------------------------------------


def test_held_out_documents_stay_so_when_files_are_added_and_duplicates_fall_on_one_side(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer
):
    documents = make_texts(150, size=400)
    jsonl(tmp_path / "in/b.jsonl", documents)
    source = {"s": {"path": str(tmp_path / "in/*.jsonl"), "held_out": 0.5}}
    first = make_recipe(source, run="first")
    prepare(first, tokenizer)
    jsonl(tmp_path / "in/a.jsonl", [*make_texts(80, start=5000, size=400), *documents[::3]])
    second = make_recipe(source, run="second")
    prepare(second, tokenizer)
    before, after = open_prepared(first)["s"], open_prepared(second)["s"]
    held_before = set(decoded(before, tokenizer, "held_out"))
    held_after = set(decoded(after, tokenizer, "held_out"))
    assert held_before == held_after & set(documents)
    assert held_before == {text for text in documents if is_held_out(text.encode(), 0.5)}
    assert not held_after & set(decoded(after, tokenizer))
    assert 50 < len(held_before) < 100


@pytest.mark.parametrize(("count", "size", "share"), [(400, 300, 0.001), (3000, 150, 0.01), (100, 6000, 0.05)])
def test_a_held_out_part_that_is_too_small_is_refused_with_a_share_that_works(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, count, size, share
):
    path = str(jsonl(tmp_path / "a.jsonl", make_texts(count, size=size)))
    with pytest.raises(DataError, match=r"need at least 20 and 20,000: set data\.sources\.s\.held_out to") as caught:
        prepare(make_recipe({"s": {"path": path, "held_out": share}}), tokenizer)
    named = float(re.search(r"held_out to ([0-9.e-]+),", str(caught.value))[1])
    manifest = prepare(make_recipe({"s": {"path": path, "held_out": named}}), tokenizer)["s"]
    assert manifest.held_out.documents >= 20
    assert manifest.held_out.bytes >= 20_000
    # and not much more than that: the smallest share that works, rounded up to two digits
    assert min(manifest.held_out.documents / 20, manifest.held_out.bytes / 20_000) < 1.3


def test_a_source_too_small_for_a_held_out_part_says_so_and_goes_without(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer
):
    path = str(jsonl(tmp_path / "a.jsonl", make_texts(25)))
    with pytest.raises(DataError, match="too small for one: give it more text, or set held_out to 0"):
        prepare(make_recipe({"s": {"path": path}}), tokenizer)
    recipe = make_recipe({"s": {"path": path, "held_out": 0.0}})
    prepare(recipe, tokenizer)
    source = open_prepared(recipe)["s"]
    assert (source.train.document_count, source.held_out.document_count) == (25, 0)


# --- what cannot be used ---------------------------------------------------------------------------------------


def test_bad_records_within_the_tolerance_are_counted_and_every_one_is_listed(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer
):
    bad = [
        "{broken",
        '{"text": ""}',
        '{"txt": "a"}',
        '{"text": 5}',
        '{"text": "a", "text": "b"}',
        '{"text": "\\ud800!"}',
    ]
    documents = make_texts(200, size=400)
    path = jsonl(tmp_path / "a.jsonl", [*documents[:100], *bad, *documents[100:]])
    recipe = make_recipe({"s": {"path": str(path), "held_out": 0.5}}, max_bad_documents=0.05)
    manifest = prepare(recipe, tokenizer)["s"]
    assert manifest.bad == {"malformed": 1, "empty": 1, "missing key": 1, "wrong type": 1, "duplicate key": 1}
    assert manifest.replaced_surrogates == 1
    assert manifest.train.documents + manifest.held_out.documents == 201
    assert manifest.bad_examples[0].startswith(f"{path}:101: malformed: ")
    listing = (source_directory(recipe, "s") / "left_out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(entry["line"], entry["kind"]) for entry in map(json.loads, listing)] == [
        (101, "malformed"), (102, "empty"), (103, "missing key"), (104, "wrong type"), (105, "duplicate key"),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"5 of 206 documents cannot be used \(1 duplicate key, 1 empty, 1 malformed"):
        prepare(make_recipe({"s": {"path": str(path)}}, run="strict", max_bad_documents=0.02), tokenizer)


def test_a_hopeless_source_stops_early_and_a_bad_patch_does_not_stop_a_good_one(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer
):
    good = make_texts(3000, size=400)
    path = jsonl(tmp_path / "a.jsonl", good, key="content")
    recorder = Recorder()
    with pytest.raises(DataError, match="no key 'text'; it has 'content'"):
        prepare(make_recipe({"s": {"path": str(path)}}), tokenizer, progress=recorder)
    assert recorder.sums()[0] < path.stat().st_size
    # 60 bad lines at the front are 2 % of all: with a tolerance of 3 % the rest must be read.
    path = jsonl(tmp_path / "b.jsonl", [*['{"text": 1}'] * 60, *good])
    manifest = prepare(make_recipe({"s": {"path": str(path), "held_out": 0.03}}, max_bad_documents=0.03), tokenizer)[
        "s"
    ]
    assert manifest.bad == {"wrong type": 60}


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.jsonl.zst"])
def test_a_truncated_file_means_no_source_at_all(tmp_path, make_recipe, make_texts, jsonl, tokenizer, name):
    jsonl(tmp_path / "in/a.jsonl", make_texts(100))
    rows = "".join(json.dumps({"text": text}) + "\n" for text in make_texts(300, start=900)).encode()
    whole = gzip.compress(rows) if name.endswith("gz") else zstandard.compress(rows)
    (tmp_path / "in" / name).write_bytes(whole[: len(whole) * 2 // 3])
    recipe = make_recipe({"s": {"path": str(tmp_path / "in/*")}})
    with pytest.raises(DataError, match=rf"{name}: .* truncated"):
        prepare(recipe, tokenizer)
    assert [path.name for path in recipe.prepared_dir.iterdir()] == []


def empty(path):
    path.write_bytes(b"")


def blank(path):
    path.write_bytes(b"\n\n \n")


def dangling(path):
    path.symlink_to(path.with_name("gone"))


def fifo(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "said"),
    [(empty, "the file is empty"), (blank, "no document in the whole file"), (dangling, "a link to a file"),
     (fifo, "a pipe, socket or device"), (folder, "is a directory, not a file")],
)  # fmt: skip
def test_one_unusable_file_among_good_ones_is_named(tmp_path, make_recipe, make_texts, jsonl, tokenizer, make, said):
    jsonl(tmp_path / "in/a.jsonl", make_texts(100))
    make(tmp_path / "in/b.jsonl")
    with pytest.raises(DataError) as caught:
        prepare(make_recipe({"s": {"path": str(tmp_path / "in/*.jsonl")}}), tokenizer)
    assert said in str(caught.value)
    assert "b.jsonl" in str(caught.value)


def test_patterns_match_as_a_shell_would_and_odd_names_are_taken_literally(tmp_path, make_recipe, make_texts, jsonl):
    for name in ("deep/er/a.jsonl", "deep/b.jsonl", "data [1].jsonl"):
        jsonl(tmp_path / name, make_texts(2))

    def names(*patterns):
        source = make_recipe({"s": {"path": [str(tmp_path / pattern) for pattern in patterns]}}).data.sources["s"]
        return [file.name for file in input_files("data.sources.s", source)]

    assert names("deep/**") == ["b.jsonl", "er/a.jsonl"]
    assert names("deep/**", "deep/b.jsonl") == ["b.jsonl", "er/a.jsonl"]
    assert names("data [1].jsonl") == ["data [1].jsonl"]
    with pytest.raises(DataError, match="matches no file"):
        names("nothing*.jsonl")


def test_a_file_is_read_once_by_whatever_paths_and_links_it_is_named(tmp_path, make_recipe, make_texts, jsonl):
    target = jsonl(tmp_path / "in/b.jsonl", make_texts(2))
    jsonl(tmp_path / "in/c.jsonl", make_texts(2))
    (tmp_path / "in/a.jsonl").symlink_to(target)
    (tmp_path / "linked").symlink_to(tmp_path / "in")

    def names(*patterns):
        source = make_recipe({"s": {"path": [str(tmp_path / pattern) for pattern in patterns]}}).data.sources["s"]
        return [file.name for file in input_files("data.sources.s", source)]

    assert names("in/*") == ["b.jsonl", "c.jsonl"]
    assert names("in/b.jsonl", "in/../in/b.jsonl") == ["b.jsonl"]
    assert names("in/b.jsonl", "linked/b.jsonl") == ["in/b.jsonl"]
    assert names("in/a.jsonl", "in/c.jsonl") == ["a.jsonl", "c.jsonl"]  # a link alone keeps its name
    assert names("linked/*") == ["b.jsonl", "c.jsonl"]


@pytest.mark.parametrize("what", ["changed", "removed"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, what, monkeypatch
):
    monkeypatch.setattr("tsugiki.corpus.pieces.PIECE", 1 << 14)
    path = jsonl(tmp_path / "a.jsonl", make_texts(300))

    class Writer(Recorder):
        def advance(self, read_bytes, documents):
            if not self.calls[1:]:
                super().advance(read_bytes, documents)
                if what == "removed":
                    path.unlink()
                    return
                with path.open("a", encoding="utf-8") as file:
                    file.write('{"text": "late"}\n')

    with pytest.raises(DataError, match=rf"a\.jsonl: {what} while it was being read"):
        prepare(make_recipe({"s": {"path": str(path)}}), tokenizer, progress=Writer())


def test_an_unprepared_source_names_the_command(tmp_path, make_recipe):
    with pytest.raises(DataError, match="source s is not prepared; run tsugiki prepare"):
        open_prepared(make_recipe({"s": {"path": "nowhere.jsonl"}}))


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.zst", "parquet"])
def test_progress_adds_up_to_the_bytes_and_documents_of_the_source(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, ending
):
    import pyarrow.parquet

    documents = make_texts(400, size=2000)
    path = jsonl(tmp_path / "a.jsonl", documents)
    if ending == "jsonl.zst":
        (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(path.read_bytes()))
    elif ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": documents}), tmp_path / "a.parquet")
    path = tmp_path / f"a.{ending}"
    recorder = Recorder()
    prepare(make_recipe({"s": {"path": str(path), "held_out": 0.1}}), tokenizer, progress=recorder)
    assert recorder.calls[0] == ("start", "s", path.stat().st_size)
    assert recorder.calls[-1] == ("finish", "s", False)
    assert recorder.sums() == (path.stat().st_size, 400)
    assert all(read >= 0 and documents >= 0 for kind, read, documents in recorder.calls if kind == "advance")


# --- killed, full disk -----------------------------------------------------------------------------------------

CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tsugiki.corpus import pieces
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.recipe_file import parse_recipe
if __name__ == "__main__":
    pieces.PIECE = 1 << 16
    recipe = parse_recipe(Path(sys.argv[2]).read_text(), "recipe", [], False)
    tokenizer = TextTokenizer.from_folder(Path(recipe.model.tokenizer))
    print("ready", flush=True)
    prepare(recipe, tokenizer)
    print("done", flush=True)
"""


@pytest.fixture
def small_pieces(monkeypatch):
    """As in `CHILD`: a little text makes batches enough for processes to be started."""
    monkeypatch.setattr("tsugiki.corpus.pieces.PIECE", 1 << 16)


@pytest.fixture
def start_child(tmp_path):
    """`start_child(recipe, *wrapper)`: a process from nothing that prepares the recipe and has begun to."""
    file_of_script = tmp_path / "child.py"
    started = []

    def start(recipe, *wrapper, script=CHILD):
        file_of_script.write_text(script, encoding="utf-8")
        file = tmp_path / "recipe.json"
        file.write_text(recipe.model_dump_json(exclude_none=True), encoding="utf-8")
        command = [*wrapper, sys.executable, str(file_of_script), str(SOURCE), str(file)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def descendants(pid: int) -> set[int]:
    """Process ids of all children of a process, and theirs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, last = {pid}, set()
    while found != last:
        last = set(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_leaves_nothing_that_looks_finished_and_the_next_makes_the_same_bytes(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, fork_context, small_pieces, workers
):
    for name in ("a", "b"):
        jsonl(tmp_path / f"in/{name}.jsonl", make_texts(150, start=ord(name) * 5000, size=1500))
    source = {"s": {"path": str(tmp_path / "in/*.jsonl")}}
    whole = make_recipe(source, run="whole", workers=workers)
    fork_child = Children(fork_context, pieces.PIECE, unfinished.SAVE_SECONDS)
    child = fork_child(whole)
    began = time.monotonic()
    child.join()
    assert child.exitcode == 0
    seconds = time.monotonic() - began
    expected = digests(source_directory(whole, "s"))
    random.seed(workers)
    recipe = make_recipe(source, run="killed", workers=workers)
    left = set()
    for attempt in range(4):
        child = fork_child(recipe)
        time.sleep(random.uniform(0, 0.8 * seconds) if attempt else 0.02)
        left |= descendants(child.pid)
        child.kill()
        child.join()
        if source_directory(recipe, "s").exists():  # the kill came too late, or in the rename: whole or not there
            assert digests(source_directory(recipe, "s")) == expected
            shutil.rmtree(source_directory(recipe, "s"))
    prepare(recipe, tokenizer)
    assert digests(source_directory(recipe, "s")) == expected
    assert sorted(path.name for path in recipe.prepared_dir.iterdir()) == ["s"]
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()], "workers outlived the run that was killed"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_worker_that_is_killed_is_an_error_and_not_a_wait_without_end(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, small_pieces, monkeypatch
):
    path = jsonl(tmp_path / "a.jsonl", make_texts(600, size=1500))
    killed = []

    class Killer(Recorder):
        def advance(self, read_bytes, documents):
            # The fork server and the workers that it forks bear one name; the workers are below another that does.
            named = {pid for pid in descendants(os.getpid()) if b"forkserver" in cmdline(pid)}
            workers = [pid for pid in named if any(pid in descendants(other) for other in named)]
            if workers and not killed:
                killed.append(workers[-1])
                os.kill(workers[-1], signal.SIGKILL)

    recipe = make_recipe({"s": {"path": str(path), "held_out": 0.1}}, workers=2)
    monkeypatch.setattr(pool, "WAITING_BATCHES", 1)
    with pytest.raises(TsugikiError, match="a tokenising process was killed"):
        prepare(recipe, tokenizer, progress=Killer())
    assert killed
    assert [path.name for path in recipe.prepared_dir.iterdir()] == []


def test_what_the_caller_forks_afterwards_hears_ctrl_c(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, small_pieces
):
    path = jsonl(tmp_path / "a.jsonl", make_texts(300, size=1500))
    prepare(make_recipe({"s": {"path": str(path), "held_out": 0.1}}, workers=2), tokenizer)
    with multiprocessing.get_context("forkserver").Pool(1) as processes:
        blocked = processes.apply(signal.pthread_sigmask, (signal.SIG_BLOCK, []))
    assert signal.SIGINT not in blocked


def test_no_worker_waits_on_after_an_error_that_somebody_holds(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, small_pieces, monkeypatch
):
    """The traceback keeps the frames alive, and with them what is half iterated."""
    path = jsonl(tmp_path / "a.jsonl", make_texts(600, size=1500))
    ended = []

    class Pool(pool.ProcessPoolExecutor):
        def shutdown(self, *given, **options):
            ended.append(options["wait"])
            super().shutdown(*given, **options)

    def refuse(self, records, tokens):
        raise StorageError("the disk is gone")

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(prepare_text.Buckets, "add", refuse)
    with pytest.raises(StorageError, match="the disk is gone") as held:
        prepare(make_recipe({"s": {"path": str(path), "held_out": 0.1}}, workers=2), tokenizer)
    assert ended == [True]
    assert held.tb is not None


def test_a_script_without_the_guard_is_told_so_and_does_not_wait_for_itself(
    tmp_path, make_recipe, make_texts, jsonl, start_child
):
    path = jsonl(tmp_path / "a.jsonl", make_texts(300, size=1500))
    recipe = make_recipe({"s": {"path": str(path)}}, workers=2)
    child = start_child(recipe, script=CHILD.replace('if __name__ == "__main__":', "if True:"))
    output, errors = child.communicate(timeout=60)
    assert "done" not in output
    assert child.returncode == 1
    assert "TsugikiError: prepare was called while a tokenising process imported the script" in errors
    last = errors.strip().splitlines()[-1]  # of the process that was started
    assert "TsugikiError: source s: no tokenising process could start" in last
    assert 'below `if __name__ == "__main__":`' in last
    assert [path.name for path in recipe.prepared_dir.iterdir()] == []


def test_two_processes_that_share_a_folder_prepare_once(
    tmp_path, make_recipe, make_texts, jsonl, fork_context, small_pieces
):
    path = jsonl(tmp_path / "a.jsonl", make_texts(600, size=1500))
    recipe = make_recipe({"s": {"path": str(path)}})
    fork_child = Children(fork_context, pieces.PIECE, unfinished.SAVE_SECONDS)
    both = [fork_child(recipe), fork_child(recipe)]
    for child in both:
        child.join()
    assert [child.exitcode for child in both] == [0, 0]
    assert verify(source_directory(recipe, "s")) == []


def test_a_disk_that_refuses_is_named_and_what_was_prepared_before_stays(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer, start_child
):
    path = jsonl(tmp_path / "a.jsonl", make_texts(100))
    recipe = make_recipe({"s": {"path": str(path), "held_out": 0.4}})
    prepare(recipe, tokenizer)
    before = digests(source_directory(recipe, "s"))
    jsonl(path, make_texts(600))
    limited = "import resource, sys, os; resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, 80_000)); "
    limited += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    child = start_child(recipe, sys.executable, "-c", limited)
    _, errors = child.communicate()
    assert "StorageError: Cannot write" in errors
    assert "file-size limit" in errors
    assert digests(source_directory(recipe, "s")) == before
    assert sorted(path.name for path in recipe.prepared_dir.iterdir()) == ["s"]


def test_a_bad_record_that_quotes_a_lone_surrogate_is_listed(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    path = jsonl(tmp_path / "c.jsonl", ['{"\\ud800": 1}', *make_texts(120)])
    recipe = make_recipe({"s": {"path": str(path)}}, max_bad_documents=0.05)
    assert prepare(recipe, tokenizer)["s"].bad == {"missing key": 1}
    listed = (source_directory(recipe, "s") / "left_out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["line"] for line in listed] == [1]


def test_a_file_name_that_is_not_utf_8_is_named(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    path = jsonl(tmp_path / "c" / "a.jsonl", make_texts(10))
    try:
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff.jsonl"))
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match="its name is not UTF-8; rename it"):
        prepare(make_recipe({"s": {"path": str(tmp_path / "c" / "*")}}), tokenizer)


def test_a_text_too_long_for_the_tokenizer_becomes_documents_on_one_side(
    tmp_path, make_recipe, make_texts, jsonl, tokenizer
):
    long = ["\n".join(make_texts(40, start=1000 * number, size=100)) for number in range(12)]
    unbroken = "x" * 3500
    path = jsonl(tmp_path / "a.jsonl", [*make_texts(100, size=300), *long, unbroken])
    recipe = make_recipe({"s": {"path": str(path), "held_out": 0.4}}, split_documents=1000, workers=1)
    manifest = prepare(recipe, tokenizer)["s"]
    source, found = open_prepared(recipe)["s"], {}
    for part in ("train", "held_out"):
        for row, text in zip(getattr(source, part).documents(), decoded(source, tokenizer, part), strict=True):
            assert len(text) <= 1000
            found.setdefault((int(row["line"]), part), []).append(text)
    longer = [text for text in [*long, unbroken] if len(text) > 1000]
    assert len(longer) == 13
    lines = {line for line, _ in found if line > 100}
    assert all(not ((line, "train") in found and (line, "held_out") in found) for line in lines)
    for line in lines:
        pieces = found.get((line, "train")) or found[line, "held_out"]
        whole = [*long, unbroken][line - 101]
        assert sorted("".join(pieces)) == sorted(whole)
        assert sum(piece.endswith("\n") for piece in pieces) == (len(pieces) - 1 if "\n" in whole else 0)
    assert manifest.split_documents == 13
    assert manifest.split_into == sum(len(texts) for (line, _), texts in found.items() if line > 100)
    assert manifest.train.documents + manifest.held_out.documents == 100 + manifest.split_into
