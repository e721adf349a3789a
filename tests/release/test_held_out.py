"""Which held-out documents a released model reads, and which validation they are compared with."""

import json
import shutil
from pathlib import Path

import pytest

from tsugiki.corpus.prepared import open_prepared
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.metrics_file import Scored, read_metrics
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe
from tsugiki.release.held_out import HeldOutTexts, held_out_texts


@pytest.fixture
def recipe(trained_once: Path) -> Recipe:
    return parse_recipe((trained_once / "run/recipe.yaml").read_text("utf-8"), check_files=False)


def read(place: Path, recipe: Recipe, budget: int, scored: dict[str, Scored] | None = None) -> HeldOutTexts:
    tokenizer = TextTokenizer.from_folder(place / "run/model")
    line = {"step": 6, "sources": scored} if scored is not None else None
    return held_out_texts(place / "run", recipe, tokenizer, line, budget)


def lengths(recipe: Recipe) -> dict[str, list[int]]:
    """Tokens of the first documents in the store, BOS and EOS included."""
    return {name: [len(one.held_out.document(i)) for i in range(3)] for name, one in open_prepared(recipe).items()}


def test_all_that_validation_reads_where_it_can_be_afforded(trained_once, recipe):
    validation = read_metrics(trained_once / "run/metrics.jsonl").validations[-1]
    found = read(trained_once, recipe, 10**9, validation["sources"])
    assert found.context == 32
    for name, source in open_prepared(recipe).items():
        texts = found.sources[name]
        assert texts.whole
        assert texts.ids == [source.held_out_tokens(i) for i in range(3)]
        assert texts.sizes == [len(text.encode()) for text in texts.texts]
        assert texts.first == source.manifest.bos_id
        assert texts.validated == pytest.approx(validation["sources"][name]["nats"], abs=0.01)


def test_first_documents_come_first_and_of_these_the_shortest(trained_once, recipe):
    known = lengths(recipe)
    short, long = sorted(known, key=lambda name: known[name][0])
    found = read(trained_once, recipe, known[short][0] + known[long][0] - 1)
    assert found.sources[short].whole
    assert (found.sources[long].whole, len(found.sources[long].texts)) == (False, 1)
    both = read(trained_once, recipe, known[short][0] + known[long][0])
    assert all(one.whole and len(one.texts) == 1 for one in both.sources.values())


def test_a_beginning_is_compared_with_no_validation_and_is_the_text_that_is_scored(trained_once, recipe):
    validation = read_metrics(trained_once / "run/metrics.jsonl").validations[-1]
    found = read(trained_once, recipe, 1, validation["sources"])
    tokenizer = TextTokenizer.from_folder(trained_once / "run/model")
    for name, source in open_prepared(recipe).items():
        one = found.sources[name]
        assert (one.whole, one.validated) == (False, None)
        assert tokenizer.decode(source.held_out_tokens(0)).startswith(one.texts[0])
        assert len(one.texts[0]) <= 400
        assert one.ids == [tokenizer.encode(one.texts[0])]
        assert one.sizes == [len(one.texts[0].encode())]


def test_a_validation_of_other_documents_is_none(trained_once, recipe):
    scored = read_metrics(trained_once / "run/metrics.jsonl").validations[-1]["sources"]
    first = lengths(recipe)
    budget = sum(each[0] for each in first.values())
    one = read(trained_once, recipe, budget, scored).sources["ja"]
    assert one.validated == pytest.approx(scored["ja"]["nats_by_document"][0])
    other = {"ja": {**scored["ja"], "bytes_by_document": [size + 1 for size in scored["ja"]["bytes_by_document"]]}}
    assert read(trained_once, recipe, budget, other).sources["ja"].validated is None
    old = {"ja": {key: value for key, value in scored["ja"].items() if not key.endswith("by_document")}}  # of old runs
    assert read(trained_once, recipe, budget, old).sources["ja"].validated is None
    assert read(trained_once, recipe, 10**9, old).sources["ja"].validated == scored["ja"]["nats"]


def test_of_conversations_answers_count_and_a_beginning_reaches_into_the_first(talked_once):
    recipe = parse_recipe((talked_once / "recipe.yaml").read_text("utf-8"), check_files=False)
    tokenizer = TextTokenizer.from_folder(talked_once / "model")
    store = open_prepared(recipe)["talk"].held_out
    whole = held_out_texts(talked_once, recipe, tokenizer, None, 10**9).sources["talk"]
    assert (whole.whole, whole.first, len(whole.ids)) == (True, None, 3)
    for index, ids in enumerate(whole.ids):
        assert ids == store.document(index).tolist()
        answered = [token for token, counted in zip(ids, whole.trained.is_text(index, ids), strict=True) if counted]
        assert len(tokenizer.decode(answered).encode()) == pytest.approx(whole.sizes[index], abs=2)  # white space
    one = held_out_texts(talked_once, recipe, tokenizer, None, 1).sources["talk"]
    assert (one.whole, one.validated, len(one.ids)) == (False, None, 1)
    assert whole.ids[0][: len(one.ids[0])] == one.ids[0]
    assert any(one.trained.is_text(0, one.ids[0]))
    assert one.sizes[0] > 0


def test_data_prepared_with_another_tokenizer_are_not_read(trained_once, recipe, tmp_path, tiny_tokenizer_folder):
    folder = shutil.copytree(tiny_tokenizer_folder, tmp_path / "other")
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<s>"}))
    other = TextTokenizer.from_folder(folder)
    found = held_out_texts(trained_once / "run", recipe, other, None, 10**9)
    assert (found.sources, found.missing) == ({}, "the prepared data were prepared with another tokenizer")
