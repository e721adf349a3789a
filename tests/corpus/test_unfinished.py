"""Preparing that was interrupted goes on from where it was, and makes the same bytes, whatever was the moment."""

import hashlib
import json
import os
import random
import shutil
import time

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from interruption import Interrupted, Stopping, count_batches
from preparing_child import Children

from tsugiki.corpus import pieces, unfinished
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import source_directory
from tsugiki.corpus.workers import TextWork
from tsugiki.errors import DataError
from tsugiki.folders import UNFINISHED


def contents(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


@pytest.fixture
def corpus(tmp_path, make_texts):
    """Four files of three kinds; every eleventh record is bad."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(("a.jsonl", "b.jsonl.zst", "c.parquet", "d.jsonl")):
        texts = [
            text if place % 11 else "" for place, text in enumerate(make_texts(55, start=1000 * number, size=400), 1)
        ]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        if name.endswith("parquet"):
            pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / name)
        else:
            (folder / name).write_bytes(zstandard.compress(lines) if name.endswith("zst") else lines)
    return {"s": {"path": str(folder / "*"), "held_out": 0.3}}


@pytest.fixture
def small(monkeypatch):
    """Pieces of a few documents, saved after each batch."""
    monkeypatch.setattr(pieces, "PIECE", 1 << 12)
    monkeypatch.setattr("tsugiki.corpus.parquet.PARQUET_ROWS", 16)
    monkeypatch.setattr("tsugiki.corpus.buckets.TEXT_BYTES", 1 << 14)
    monkeypatch.setattr(unfinished, "SAVE_SECONDS", 0.0)


@pytest.fixture
def tokenised(monkeypatch):
    """How many batches have been tokenised."""
    return count_batches(monkeypatch, TextWork)


def test_it_goes_on_from_every_batch_with_the_same_bytes(corpus, small, tokenised, tmp_path, make_recipe, tokenizer):
    whole = make_recipe(corpus, run="whole", workers=1, max_bad_documents=0.2)
    manifest = prepare(whole, tokenizer)["s"]
    assert manifest.bad == {"empty": 20}
    expected, batches = contents(source_directory(whole, "s")), len(tokenised)
    assert batches >= 20
    for stop in range(batches):
        recipe = make_recipe(corpus, run=f"stopped-{stop}", workers=1, max_bad_documents=0.2)
        with pytest.raises(Interrupted):
            prepare(recipe, tokenizer, progress=Stopping(stop))
        assert not source_directory(recipe, "s").exists()
        tokenised.clear()
        prepare(recipe, tokenizer)
        assert contents(source_directory(recipe, "s")) == expected
        assert len(tokenised) == batches - stop
        assert [path.name for path in recipe.prepared_dir.iterdir()] == ["s"]


def test_interrupted_again_and_again(corpus, small, tokenised, make_recipe, tokenizer):
    whole = make_recipe(corpus, run="whole", workers=1, max_bad_documents=0.2)
    prepare(whole, tokenizer)
    batches = len(tokenised)
    tokenised.clear()
    recipe = make_recipe(corpus, run="often", workers=1, max_bad_documents=0.2)
    for _ in range(batches):
        with pytest.raises(Interrupted):  # what has been done before is told at once, and is no batch
            prepare(recipe, tokenizer, progress=Stopping(1 if tokenised else 0))
    prepare(recipe, tokenizer)
    assert contents(source_directory(recipe, "s")) == contents(source_directory(whole, "s"))
    assert len(tokenised) <= 2 * batches + 1


def interrupted(recipe, tokenizer, batches=12):
    with pytest.raises(Interrupted):
        prepare(recipe, tokenizer, progress=Stopping(batches))
    (left,) = recipe.prepared_dir.glob(f".*/{UNFINISHED}")
    return left


def test_other_settings_and_other_files_begin_anew(corpus, small, tokenised, tmp_path, make_recipe, tokenizer):
    def begins_anew(change, **options):
        keys = {"workers": 1, "max_bad_documents": 0.2, **options}
        recipe = make_recipe(corpus, run=change.__name__, workers=1, max_bad_documents=0.2)
        interrupted(recipe, tokenizer, batches=20)
        change()
        tokenised.clear()
        recipe = make_recipe(corpus, run=change.__name__, **keys)
        prepare(recipe, tokenizer)
        fresh = make_recipe(corpus, run=f"{change.__name__}-fresh", **keys)
        done = len(tokenised)
        prepare(fresh, tokenizer)
        assert contents(source_directory(recipe, "s")) == contents(source_directory(fresh, "s"))
        assert len(tokenised) == 2 * done

    def nothing():
        pass

    def touched():
        os.utime(tmp_path / "in/a.jsonl", (1, 1))

    def another():
        shutil.copy(tmp_path / "in/a.jsonl", tmp_path / "in/aa.jsonl")

    begins_anew(nothing, add_eos=False)
    begins_anew(touched)
    begins_anew(another)


def test_the_file_in_the_middle_is_compared(corpus, small, tmp_path, make_recipe, tokenizer):
    recipe = make_recipe(corpus, workers=1, max_bad_documents=0.2)
    interrupted(recipe, tokenizer, batches=3)
    path = tmp_path / "in/a.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"text"', b'{"Text"', 1))
    with pytest.raises(DataError, match=r"a\.jsonl: changed since preparing was interrupted; run again"):
        prepare(recipe, tokenizer)
    assert list(recipe.prepared_dir.iterdir()) == []
    assert prepare(recipe, tokenizer)["s"].bad == {"empty": 20, "missing key": 1}


def test_damaged_state_and_lost_buckets_begin_anew(corpus, small, make_recipe, tokenizer):
    whole = make_recipe(corpus, run="whole", workers=1, max_bad_documents=0.2)
    prepare(whole, tokenizer)
    for run, damage in {
        "state": lambda left: left.write_text("{"),
        "lost": lambda left: (left.parent / "bucket-000").unlink(),
        "cut": lambda left: os.truncate(left.parent / "bucket-001", 5),
    }.items():
        recipe = make_recipe(corpus, run=run, workers=1, max_bad_documents=0.2)
        damage(interrupted(recipe, tokenizer))
        prepare(recipe, tokenizer)
        assert contents(source_directory(recipe, "s")) == contents(source_directory(whole, "s"))


def test_what_is_left_of_an_abandoned_run_goes_when_the_source_is_as_it_should_be(
    corpus, small, make_recipe, tokenizer
):
    keys = {"workers": 1, "max_bad_documents": 0.2}
    prepare(make_recipe(corpus, **keys), tokenizer)
    interrupted(make_recipe(corpus, add_eos=False, **keys), tokenizer)
    recipe = make_recipe(corpus, **keys)
    assert len(list(recipe.prepared_dir.iterdir())) == 2
    prepare(recipe, tokenizer)
    assert [path.name for path in recipe.prepared_dir.iterdir()] == ["s"]


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random_moments_it_makes_the_same_bytes(corpus, fork_context, make_recipe, kills):
    begin = Children(fork_context, 1 << 12, 0.0)

    def make(run, workers):
        return make_recipe(corpus, run=run, workers=workers, max_bad_documents=0.2)

    whole = make("whole", 1)
    began = time.monotonic()
    child = begin(whole)
    child.join()
    assert child.exitcode == 0
    seconds = time.monotonic() - began
    expected = contents(source_directory(whole, "s"))
    rng, went_on = random.Random(kills), 0
    for kill in range(kills):
        recipe = make("killed", 1 + kill % 2)
        child = begin(recipe)
        while kill == 0 and child.is_alive() and not any(recipe.prepared_dir.glob(f".*/{UNFINISHED}")):
            time.sleep(0.001)  # the first is struck when there is something to go on with
        time.sleep(rng.uniform(0, seconds) if kill else 0)
        child.kill()
        child.join()
        went_on += any(recipe.prepared_dir.glob(f".*/{UNFINISHED}"))
        if source_directory(recipe, "s").exists():  # the kill came too late, or in the rename: whole or not there
            assert contents(source_directory(recipe, "s")) == expected
            shutil.rmtree(source_directory(recipe, "s"))
    child = begin(recipe)
    child.join()
    assert child.exitcode == 0
    assert contents(source_directory(recipe, "s")) == expected
    assert went_on
