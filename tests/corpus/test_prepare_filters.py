"""Preparing with filters: what goes, in which order it is counted, and that neither workers nor a kill change a byte."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from interruption import Interrupted, Stopping

from tsugiki.corpus import pieces, unfinished
from tsugiki.corpus.filters.asked import EvaluationTexts, judge_of
from tsugiki.corpus.filters.signatures import Signature
from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.inputs import Deal
from tsugiki.corpus.prepare import prepare, prepare_shards
from tsugiki.corpus.prepared import open_prepared, source_directory
from tsugiki.errors import DataError, RecipeError
from tsugiki.inspection import inspect_path
from tsugiki.plan import expected_tokens
from tsugiki.progress import describe_manifest

QUESTION = "A robe takes two bolts of blue fiber and half that much white fiber; how many bolts does it take"
FILTERS = {
    "length": {"min_characters": 60}, "quality": {"max_ellipses": 0.5}, "language": {"scripts": ["latin"]},
    "duplicates": {"hashes": 8, "buckets": 30}, "decontamination": {},
}  # fmt: skip


def document(number: int) -> str:
    """Words that no other document has."""
    words = hashlib.sha256(str(number).encode()).hexdigest()
    return " ".join(f"{words[i : i + 7]}{number}" for i in range(0, 49, 7)) + f" of story {number} ends here."


@pytest.fixture
def corpus(tmp_path: Path, jsonl) -> Path:
    """Every kind of document that goes, among 150 that stay; a question that is a duplicate too, and bad records."""
    lines: list = [document(number) for number in range(150)]
    lines += ["too short"] * 3
    lines += ["This trails off … and so does this, and more of it, and yet more words …\nAnd this again…"] * 2
    lines += ["これは日本語の文書で、ラテン文字の文書ではありません。" * 4 + str(number) for number in range(4)]
    lines += [document(number) for number in range(10)]  # once more
    lines += [document(number).replace("ends here", "ended here") for number in range(20, 32)]
    lines += [f"Quoted by story {number}: {QUESTION}? {document(200 + number)}" for number in range(3)]
    lines += [f"Quoted by story 0: {QUESTION}? {document(200)}"]
    lines += ['{"text": ""}', '{"text": 3}']
    for part in range(3):
        jsonl(tmp_path / f"in/{part}.jsonl", lines[part::3])
    return tmp_path / "in"


def texts() -> EvaluationTexts:
    return EvaluationTexts(
        Path("data"), {"sums": [[QUESTION, "3"]], "other": [["no stretch"]]}, {"sums": {"sums/test": "1"}, "other": {}}
    )


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def make(make_recipe, corpus: Path, filters=FILTERS, run="run", **data):
    source = {"path": str(corpus / "*.jsonl"), "held_out": 0.4, "filters": filters}
    return make_recipe({"s": source}, run=run, max_bad_documents=0.1, **data)


@pytest.fixture
def figures_of_few(monkeypatch) -> None:
    """A held-out part of some kilobytes is enough here."""
    monkeypatch.setattr("tsugiki.corpus.store_parts.check_held_out", lambda *_: None)


@pytest.mark.usefixtures("figures_of_few")
def test_counts_add_up_and_each_document_counts_for_the_first_filter(corpus, make_recipe, tokenizer):
    manifest = prepare(make(make_recipe, corpus), tokenizer, evaluation=texts)["s"]
    removed = manifest.filtered.removed
    assert removed == {
        "length.min_characters": 3, "quality.max_ellipses": 2, "language.min_share": 4, "duplicates.exact": 11,
        "duplicates.near": 12, "decontamination.sums": 3,
    }  # fmt: skip
    seen = sum(len(path.read_text().splitlines()) for path in corpus.iterdir())
    assert (
        seen
        == sum(manifest.bad.values()) + sum(removed.values()) + manifest.train.documents + manifest.held_out.documents
    )
    assert sum(manifest.bad.values()) == 2
    assert manifest.filtered.evaluation["looked_for"] == {"sums": 1, "other": 0}


@pytest.mark.usefixtures("figures_of_few")
def test_what_stays_is_what_a_loop_over_documents_in_the_keyed_order_keeps(corpus, make_recipe, tokenizer):
    recipe = make(make_recipe, corpus)
    prepare(
        make(make_recipe, corpus, filters={"decontamination": {"enabled": False}}, run="all"),
        tokenizer,
        evaluation=texts,
    )
    everything = open_prepared(make(make_recipe, corpus, filters={"decontamination": {"enabled": False}}, run="all"))[
        "s"
    ]
    # The keyed order of all: both parts are in it, so that merging them by the order of the hash gives the whole.
    keyed = keyed_texts(everything, corpus)
    prepare(recipe, tokenizer, evaluation=texts)
    judge, keys, seen, kept = judge_of(recipe.data.sources["s"]), [set() for _ in range(30)], set(), []
    for text in keyed:
        if judge.removed_by(text, len(text.encode())):
            continue
        own = Signature(hashes=8, buckets=30).keys(text).tolist()
        first = text not in seen and not any(key in bucket for key, bucket in zip(own, keys, strict=True))
        seen.add(text)
        for key, bucket in zip(own, keys, strict=True):
            bucket.add(key)
        if first and QUESTION not in text:
            kept.append(text)
    source = open_prepared(recipe)["s"]
    assert stored(source.train, corpus) == [text for text in kept if not is_held_out(text.encode(), 0.4)]
    assert stored(source.held_out, corpus) == [text for text in kept if is_held_out(text.encode(), 0.4)]


def stored(store, corpus: Path) -> list[str]:
    """The texts of a store by the places that it says."""
    files = sorted(corpus.iterdir())
    return [
        json.loads(files[row["file"]].read_text().splitlines()[row["line"] - 1])["text"] for row in store.documents()
    ]


def keyed_texts(source, corpus: Path) -> list[str]:
    import xxhash

    places = [
        (int(row["file"]), int(row["line"])) for part in (source.train, source.held_out) for row in part.documents()
    ]
    files = sorted(corpus.iterdir())
    places.sort(key=lambda place: xxhash.xxh3_128_intdigest(f"s\0{files[place[0]].name}\0{place[1]}".encode()) % 2**128)
    return [json.loads(files[file].read_text().splitlines()[line - 1])["text"] for file, line in places]


@pytest.mark.usefixtures("figures_of_few")
def test_every_removed_document_is_listed_and_a_few_are_shown(corpus, make_recipe, tokenizer):
    recipe = make(make_recipe, corpus)
    manifest = prepare(recipe, tokenizer, evaluation=texts)["s"]
    listed = [json.loads(line) for line in (source_directory(recipe, "s") / "left_out.jsonl").read_text().splitlines()]
    counts = Counter(
        entry["kind"].removeprefix("filtered: ") for entry in listed if entry["kind"].startswith("filtered")
    )
    assert counts == manifest.filtered.removed
    for entry in listed:
        text = json.loads(Path(entry["file"]).read_text().splitlines()[entry["line"] - 1])["text"]
        if entry["kind"] == "filtered: decontamination.sums":
            assert QUESTION in text
            assert entry["detail"].startswith("A robe takes two bolts of blue")
        elif entry["kind"].startswith("filtered: duplicates") and entry["detail"]:
            assert text.startswith(entry["detail"][:20])
    assert {rule: len(shown) for rule, shown in manifest.filtered.samples.items()} == {
        rule: min(3, count) for rule, count in manifest.filtered.removed.items()
    }
    lines, sound = inspect_path(source_directory(recipe, "s"))
    assert sound
    said = "\n".join(lines)
    assert "filters removed 35 of 185 documents (18.9%)" in said
    assert "decontamination 3 (sums 3)" in said
    assert "filters removed 35 of 185" in describe_manifest("s", manifest)


@pytest.mark.usefixtures("figures_of_few")
def test_neither_workers_nor_buckets_nor_a_kill_change_a_byte(corpus, make_recipe, tokenizer, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 1 << 10)
    monkeypatch.setattr(unfinished, "SAVE_SECONDS", 0.0)
    whole = make(make_recipe, corpus, run="whole")
    prepare(whole, tokenizer, evaluation=texts)
    expected = digests(source_directory(whole, "s"))
    monkeypatch.setattr("tsugiki.corpus.buckets.TEXT_BYTES", 1 << 12)
    two = make(make_recipe, corpus, run="two", workers=2)
    prepare(two, tokenizer, evaluation=texts)
    assert digests(source_directory(two, "s")) == expected
    for stop in range(0, 8, 2):
        recipe = make(make_recipe, corpus, run=f"stopped-{stop}")
        with pytest.raises(Interrupted):
            prepare(recipe, tokenizer, progress=Stopping(stop), evaluation=texts)
        prepare(recipe, tokenizer, evaluation=texts)
        assert digests(source_directory(recipe, "s")) == expected


@pytest.mark.usefixtures("figures_of_few")
def test_parts_put_together_have_the_bytes_of_one_process_with_evaluation_text_too(corpus, make_recipe, tokenizer):
    whole, parts = (make(make_recipe, corpus, run=run) for run in ("whole", "parts"))
    prepare(whole, tokenizer, evaluation=texts)
    for number in range(2):
        prepare_shards(parts, tokenizer, Deal(number, 2), evaluation=texts)
    prepare(parts, tokenizer, evaluation=texts, merge=True)
    assert digests(source_directory(parts, "s")) == digests(source_directory(whole, "s"))


def test_evaluation_text_is_looked_for_unasked_where_there_is_some_and_stores_stay_as_they_are(
    corpus, make_recipe, tokenizer, monkeypatch
):
    monkeypatch.setattr("tsugiki.corpus.store_parts.check_held_out", lambda *_: None)
    recipe = make(make_recipe, corpus, filters={})
    without = prepare(recipe, tokenizer)["s"]
    assert without.filtered is None
    assert prepare(recipe, tokenizer, evaluation=texts)["s"].filtered is None  # prepared already
    other = make(make_recipe, corpus, filters={}, run="other")
    assert prepare(other, tokenizer, evaluation=texts)["s"].filtered.removed == {"decontamination.sums": 4}
    off = make(make_recipe, corpus, filters={"decontamination": {"enabled": False}}, run="off")
    assert prepare(off, tokenizer, evaluation=texts)["s"].filtered.removed == {}
    assert without.fingerprint == prepare(other, tokenizer)["s"].fingerprint


def test_other_filters_make_another_source(corpus, make_recipe, tokenizer, monkeypatch):
    monkeypatch.setattr("tsugiki.corpus.store_parts.check_held_out", lambda *_: None)
    prints = [
        prepare(make(make_recipe, corpus, filters=filters, run=f"run-{number}"), tokenizer)["s"].fingerprint
        for number, filters in enumerate([
            {}, {"length": {"min_characters": 2}}, {"length": {"min_characters": 3}}, {"duplicates": {}},
            {"duplicates": {"near": False}}, {"quality": {"preset": "swallow-v1", "min_characters": 1, "min_japanese_characters": 0,
             "min_japanese": 0.0, "min_hiragana": 0.0, "max_duplicate_5grams": 1.0, "min_mean_sentence": 0}},
        ])
    ]  # fmt: skip
    assert len(set(prints)) == len(prints)


def test_evaluation_text_that_is_asked_for_and_not_there_is_an_error(corpus, make_recipe, tokenizer):
    recipe = make(make_recipe, corpus, filters={"decontamination": {}})
    with pytest.raises(DataError, match=r"data\.sources\.s\.filters\.decontamination: no evaluation set is there"):
        prepare(recipe, tokenizer)
    recipe = make(make_recipe, corpus, filters={"decontamination": {"sets": ["sum"]}})
    with pytest.raises(DataError, match=r"sets: sum is not in data; did you mean sums\?"):
        prepare(recipe, tokenizer, evaluation=texts)
    assert not source_directory(recipe, "s").exists()


def test_filters_that_leave_nothing_are_named(corpus, make_recipe, tokenizer):
    recipe = make(make_recipe, corpus, filters={"length": {"min_characters": 10_000}})
    with pytest.raises(DataError, match=r"its filters removed all 185 documents \(length\.min_characters 185\)"):
        prepare(recipe, tokenizer)
    with pytest.raises(DataError, match="its filters remove every document of the first 4 MB"):
        expected_tokens(recipe, "s", tokenizer)


def test_a_plan_counts_with_filters_over_single_documents(corpus, make_recipe, tokenizer):
    whole = expected_tokens(make(make_recipe, corpus, filters={}), "s", tokenizer)
    latin = expected_tokens(make(make_recipe, corpus, filters={"language": {"scripts": ["latin"]}}), "s", tokenizer)
    assert 0 < latin < whole


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"qualty": {}}, "filters.qualty: unknown key; did you mean quality?"),
        ({"quality": {"preset": "swallow"}}, "filters.quality.preset: must be `swallow-v1`|swallow-v1"),
        ({"quality": {"max_sentences": 3}}, "unknown key; did you mean max_sentence?"),
        ({"near_duplicates": {}}, "near_duplicates is called duplicates here"),
        ({"quality": {}}, "filters.quality: removes nothing"),
        ({"length": {}}, "filters.length: removes nothing"),
        ({"length": {"min_characters": 9, "max_characters": 8}}, "filters.length.max_characters: 8 is less than min_characters, 9"),
        ({"language": {}}, "filters.language: whose? give the source its `language`"),
        ({"language": {"scripts": ["hiragna"]}}, "'hiragna' is not a script of Unicode"),
        ({"duplicates": {"buckets": 0}}, "filters.duplicates.buckets: "),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_named_with_its_remedy(corpus, make_recipe, filters, said):
    with pytest.raises(RecipeError) as error:
        make(make_recipe, corpus, filters=filters)
    assert any(one in str(error.value) for one in said.split("|"))


def test_odd_documents_are_counted_among_those_that_stay(tmp_path, jsonl, make_recipe, tokenizer, monkeypatch):
    monkeypatch.setattr("tsugiki.corpus.store_parts.check_held_out", lambda *_: None)
    lines = [document(number) for number in range(20)] + ["odd \x01 one " + document(50)] * 3
    folder = jsonl(tmp_path / "odd/a.jsonl", lines).parent
    manifest = prepare(make(make_recipe, folder, filters={"duplicates": {"near": False}}), tokenizer)["s"]
    assert manifest.odd == {"control characters": 1}
    assert manifest.filtered.removed == {"duplicates.exact": 2}
    assert np.sum([manifest.train.documents, manifest.held_out.documents]) == 21


def test_the_command_looks_for_the_sets_that_the_recipe_evaluates_on(tmp_path, jsonl, tiny_tokenizer_folder, capsys):
    from tsugiki.pipeline import run_prepare
    from tsugiki.recipe_file import parse_recipe

    folder = tmp_path / "evaluation/mine"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text(json.dumps({"id": "1", "question": QUESTION}) + "\n")
    lines = [document(number) for number in range(200)] + [f"It is asked: {QUESTION}?"]
    said: list[str] = []
    recipes = []
    for number, evaluation in enumerate(
        [{"data_dir": str(folder.parent)}, {"suite": "quick", "data_dir": str(folder.parent)}, None]
    ):
        tree = {
            "run_dir": str(tmp_path / f"run-{number}"),
            "model": {"architecture": {"model_type": "mistral", "vocab_size": 384}, "tokenizer": str(tiny_tokenizer_folder)},
            "data": {"sequence_length": 32, "held_out": 0, "workers": 1, "sources": {"s": {"path": str(jsonl(tmp_path / "a.jsonl", lines)), "weight": 1}}},
            "training": {"max_steps": 4, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "save_steps": 2},
        }  # fmt: skip
        recipe = parse_recipe(json.dumps(tree | ({"evaluation": evaluation} if evaluation else {})), check_files=False)
        run_prepare(recipe, say=said.append)
        recipes.append(recipe)
    assert "decontamination 1 (mine 1)" in said[0]
    assert "filters" not in said[1] + said[2]
    assert len(said) == 3
    # A set that comes later is told of, and nothing is prepared again for it.
    (folder.parent / "late").mkdir()
    (folder.parent / "late/test.jsonl").write_text(json.dumps({"id": "1", "question": QUESTION}) + "\n")
    for recipe in recipes:
        run_prepare(recipe, say=said.append)
    assert [said[3], *said[5:]] == said[:3]
    assert "prepared before these evaluation sets were there, so it may hold their text: late; remove" in said[4]
