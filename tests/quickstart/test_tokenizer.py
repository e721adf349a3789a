"""The quickstart's own tokenizer: writes every text, learns the same from the same text, opens in transformers."""

import json
import subprocess
import sys

import pytest

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.quickstart.base import train_tokenizer, write_tokenizer
from tsugiki.quickstart.corpora import embedded_corpora

TEXTS = [
    "The bread rises, and the bread is warm. 12 + 30 = 42\n" * 3,
    "朝の台所で、母はパンを焼く。\n朝のパン。\n" * 3,
] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(path, TEXTS, 400)
    return path


@pytest.mark.parametrize(
    "text", [TEXTS[0], TEXTS[1], "龘 is rare;  two spaces\n\n\ttab 🍞", "<0x41> </s> <s>", " ", "\n", "é́ NFD"]
)
def test_every_text_comes_back(folder, text):
    tokenizer = TextTokenizer.from_folder(folder)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.bos_id, tokenizer.eos_id, 0} & set(ids)


def test_numbers_are_single_digits_and_documents_get_bos_and_eos(folder):
    tokenizer = TextTokenizer.from_folder(folder)
    assert [tokenizer.piece(i) for i in tokenizer.encode("1203")] == ["1", "2", "0", "3"]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    assert tokenizer.default_add_bos
    assert tokenizer.default_add_eos
    assert tokenizer.vocabulary_size <= 400


def test_the_same_text_gives_the_same_tokenizer_in_another_process(folder, tmp_path):
    code = (
        "import sys, json; from pathlib import Path; from tsugiki.quickstart.base import train_tokenizer; "
        "train_tokenizer(Path(sys.argv[1]), json.loads(sys.argv[2]), 400)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), json.dumps(TEXTS)], check=True, timeout=120)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_transformers_reads_it_alike(folder):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    ours = TextTokenizer.from_folder(folder)
    text = "The bread is 42 円、朝。"
    assert theirs(text)["input_ids"] == [ours.bos_id, *ours.encode(text)]
    assert theirs.decode(ours.encode(text)) == text
    assert theirs.eos_token_id == ours.eos_id


def test_held_out_text_teaches_it_nothing(tmp_path, monkeypatch):
    corpora = embedded_corpora(tmp_path / "corpora")
    seen = []
    monkeypatch.setattr("tsugiki.quickstart.base.train_tokenizer", lambda folder, texts, size: seen.extend(texts))
    write_tokenizer(tmp_path / "t", corpora, 400, lambda _: None, limits={"target": 10**9, "replay": 50_000})
    japanese, english, _ = corpora
    from tsugiki.quickstart.base import read_texts

    assert not set(seen) & {text for corpus in corpora for text in read_texts(corpus, held_out=True)}
    assert set(read_texts(japanese, held_out=False)) <= set(seen)
    assert 50_000 <= sum(len(t.encode()) for t in seen if t in set(read_texts(english, held_out=False))) < 53_000
