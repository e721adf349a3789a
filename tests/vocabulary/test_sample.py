"""The sample is a matter of texts and of a budget: no order of files, no duplicates, nothing held out, nothing read in
vain."""

import gzip
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus import readers, records
from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.named_texts import Text, read_texts
from tsugiki.errors import DataError
from tsugiki.recipe_corpus import CorpusSection
from tsugiki.vocabulary import sample as module
from tsugiki.vocabulary.sample import even_share, first_characters, keep_back, read_sample


def write(path: Path, texts: list[Any]) -> Path:
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def sample_of(*paths: Path, characters: int = 1000, held_out: float = 0.0) -> Any:
    corpus = CorpusSection(path=[str(path) for path in paths])
    return read_sample("data.sources", "s", corpus, characters=characters, held_out=held_out, max_bytes=1 << 20)


def texts(found: list[Text]) -> list[str]:
    return [text.text for text in found]


DOCUMENTS = [f"{number} " * random.Random(number).randrange(1, 60) for number in range(80)]


@pytest.mark.parametrize("characters", [1, 50, 700, 3000])
def test_the_order_of_documents_and_files_changes_nothing(tmp_path, monkeypatch, characters):
    monkeypatch.setattr(module, "READ_AHEAD", 10**5)  # all of it
    chosen = []
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        order = random.Random(seed).sample(DOCUMENTS, len(DOCUMENTS))
        cut = random.Random(seed).randrange(1, 79)
        paths = [write(folder / "a.jsonl", order[:cut]), write(folder / "b.jsonl", order[cut:])]
        chosen.append(texts(sample_of(*paths, characters=characters).training))
    assert all(found == chosen[0] for found in chosen)
    assert sum(map(len, chosen[0])) == min(characters, sum(map(len, DOCUMENTS)))
    whole = set(DOCUMENTS)
    assert [text in whole for text in chosen[0][:-1]] == [True] * (len(chosen[0]) - 1)  # the last one may be cut


def test_a_larger_sample_holds_the_smaller_one(tmp_path):
    path = write(tmp_path / "a.jsonl", DOCUMENTS)
    small, large = (texts(sample_of(path, characters=size).training) for size in (500, 1500))
    assert large[: len(small) - 1] == small[:-1]
    assert large[len(small) - 1].startswith(small[-1])


def test_a_text_that_comes_many_times_is_taken_once(tmp_path):
    path = write(tmp_path / "a.jsonl", ["the same page"] * 500 + DOCUMENTS)
    assert sorted(texts(sample_of(path, characters=10**6).training)) == sorted(["the same page", *set(DOCUMENTS)])


def test_held_out_documents_are_measured_and_never_learned_from(tmp_path):
    path = write(tmp_path / "a.jsonl", DOCUMENTS)
    found = sample_of(path, characters=10**6, held_out=0.3)
    expected = {text for text in DOCUMENTS if is_held_out(text.encode(), 0.3)}
    assert 10 < len(expected) < 40
    assert set(texts(found.held_out)) == expected
    assert set(texts(found.training)) == set(DOCUMENTS) - expected


def test_held_out_text_is_a_twentieth_of_the_sample(tmp_path):
    found = sample_of(write(tmp_path / "a.jsonl", DOCUMENTS), characters=2000, held_out=0.5)
    assert sum(map(len, texts(found.held_out))) == 100


def test_a_document_larger_than_the_sample_is_cut(tmp_path):
    (tmp_path / "book.txt").write_text("川" * 5000 + "谷" * 5000, encoding="utf-8")
    (found,) = sample_of(tmp_path / "book.txt", characters=6000).training
    assert found == Text(f"{tmp_path}/book.txt:1", "川" * 5000 + "谷" * 1000)


def test_records_without_a_document_are_left_out_and_a_corpus_without_any_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", [1, "one", None, "two", ""])
    found = sample_of(path)
    assert sorted(texts(found.training)) == ["one", "two"]
    with pytest.raises(DataError, match=r"data\.sources\.s: no document to learn from \(2 records hold none\)"):
        sample_of(write(tmp_path / "b.jsonl", [1, 2]))
    with pytest.raises(DataError, match=r"no document to learn from \(all that were read are held out; give it more"):
        sample_of(write(tmp_path / "c.jsonl", ["one", "two"]), held_out=0.9999)


def read_by_file(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Characters read from each file."""
    read: dict[str, int] = {}

    def counting(path: Any, *how: Any) -> Any:
        for item in readers.read_documents(path, *how):
            read[path.name] = read.get(path.name, 0) + len(item.text)
            yield item

    monkeypatch.setattr(module, "read_documents", counting)
    return read


def test_a_huge_corpus_is_read_in_part_and_every_file_of_it(tmp_path, monkeypatch):
    read = read_by_file(monkeypatch)
    paths = [write(tmp_path / f"{name}.jsonl", ["x" * 90 + f"{number:5} {name}" for number in range(300)])
             for name in "abc"]  # fmt: skip
    paths.append(write(tmp_path / "tiny.jsonl", [f"{number}" for number in range(40)]))
    sample_of(*paths, characters=600)
    most = module.READ_AHEAD * 600
    assert read["tiny.jsonl"] == 70  # whole; what it leaves goes to the others
    assert all((most - 1000) / 3 <= read[f"{name}.jsonl"] <= most / 3 + 100 for name in "abc")


def test_a_file_that_packs_better_than_guessed_is_read_whole_where_the_budget_allows(tmp_path, monkeypatch):
    read = read_by_file(monkeypatch)
    documents = ["river " * 200 + str(number) for number in range(30)]
    path = write(tmp_path / "a.jsonl.gz", documents)
    assert path.stat().st_size * module.COMPRESSION_GUESS < sum(map(len, documents)) / 5
    sample_of(path, characters=20_000)
    assert read["a.jsonl.gz"] == sum(map(len, documents))


def test_a_hub_data_set_is_read_as_far_as_needed(monkeypatch):
    read = []

    def hub_files(key: str, corpus: CorpusSection) -> list[Any]:
        assert key == "vocabulary.corpora.s"

        def documents(_how: Any) -> Any:
            for number in range(10**6):
                read.append(number)
                yield records.Document(f"document {number:6} " * 6, number + 1)

        return [SimpleNamespace(read=documents)]

    from tsugiki.corpus import hub

    monkeypatch.setattr(hub, "hub_files", hub_files)
    corpus = CorpusSection(hub="owner/name")
    found = read_sample("vocabulary.corpora", "s", corpus, characters=500, held_out=0.0, max_bytes=1)
    assert sum(map(len, texts(found.training))) == 500
    assert len(read) * 96 <= module.READ_AHEAD * 500 + 96


@given(
    sizes=st.dictionaries(st.text(max_size=3), st.integers(0, 1000), min_size=1, max_size=8),
    total=st.integers(0, 5000),
)
def test_shares_use_the_total_and_differ_only_where_one_has_no_more(sizes, total):
    shares = even_share(sizes, total)
    assert shares.keys() == sizes.keys()
    assert sum(shares.values()) == min(total, sum(sizes.values()))
    assert all(0 <= share <= sizes[name] for name, share in shares.items())
    short = [share for name, share in shares.items() if share < sizes[name]]
    assert not short or max(shares.values()) - min(short) <= 1


@given(st.lists(st.text(max_size=9), max_size=9), st.integers(0, 60))
def test_the_first_characters_are_the_beginning_of_all_texts(contents, characters):
    taken = first_characters([Text(str(number), text) for number, text in enumerate(contents)], characters)
    assert "".join(texts(taken)) == "".join(contents)[:characters]
    assert [text.place for text in taken] == list(map(str, range(len(taken))))


@settings(max_examples=200)
@given(st.lists(st.text("あ字x", min_size=1, max_size=40), max_size=8), st.integers(0, 30))
def test_what_is_kept_back_is_not_learned_and_nothing_is_lost(contents, characters):
    learned, kept = keep_back([Text("", text) for text in contents], characters)
    total = sum(map(len, contents))
    assert sum(map(len, learned)) + sum(map(len, kept)) == total
    assert min(characters, total) <= sum(map(len, kept)) <= 2 * characters
    assert sorted("".join(learned + kept)) == sorted("".join(contents))


def test_a_corpus_of_one_document_keeps_its_end_back():
    assert keep_back([Text("", "abcdefghij")], 3) == (["abcdefg"], ["hij"])
    assert keep_back([Text("", "abc"), Text("", "defg")], 2) == (["defg"], ["abc"])


def test_texts_of_the_command_line_are_refused_by_file_and_line(tmp_path):
    good = write(tmp_path / "good.jsonl", ["one", "two"])
    assert list(read_texts([good])) == [Text(f"{good}:1", "one"), Text(f"{good}:2", "two")]
    surrogate = tmp_path / "surrogate.jsonl"
    surrogate.write_text('{"text": "fine"}\n{"text": "half \\ud83d"}\n')
    with pytest.raises(DataError, match=rf"{surrogate}:2: a lone surrogate"):
        list(read_texts([good, surrogate]))
    for name, content, said in [
        ("empty.jsonl", "", "empty.jsonl: the file is empty"),
        ("blank.jsonl", "\n\n", "blank.jsonl: no document in the whole file"),
        ("broken.jsonl", '{"text": "a"}\n{broken\n', "broken.jsonl:2: malformed"),
        ("key.jsonl", '{"body": "a"}\n', "key.jsonl:1: missing key: no key 'text'; it has 'body'"),
        ("table.csv", "a,b", "its ending names no format; call it .jsonl, .parquet or .txt"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=said):
            list(read_texts([tmp_path / name]))


def test_all_files_are_looked_at_before_the_first_is_read(tmp_path):
    good = write(tmp_path / "good.jsonl", ["one"])
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        read_texts([good, tmp_path / "nowhere.jsonl"])
    with pytest.raises(DataError, match="is no file"):
        read_texts([good, tmp_path])
