"""A sample's audit names the documents that the text really came from, and shows what training really gets."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tsugiki.corpus.audit import describe_sample, display_width, render_sample
from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.corpus.readable import readable
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.windows import WindowReader
from tsugiki.printable import printable

TEXTS = [
    "接ぎ木は枝を台木につなぐ。\n春に行う。",
    "Grafting joins a twig to a stock.",
    "木",
    "It is done in spring.\tYes.",
]


@pytest.fixture
def tokenizer(tmp_path) -> TextTokenizer:
    """A byte-level tokenizer, as those that spell Japanese in stand-in letters."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=275, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
    )
    trained.train_from_iterator(TEXTS * 3, trainer)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    trained.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return TextTokenizer.from_folder(folder)


@pytest.fixture
def make_reader(tmp_path, tokenizer):
    """A reader over one source: document n of TEXTS is line n + 1 of a file of its own parity."""

    def make(length: int, isolate: bool = False) -> WindowReader:
        writer = StoreWriter(tmp_path / "train", tokenizer.vocabulary_size)
        for number, text in enumerate(TEXTS):
            ids = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
            writer.add_document(ids, file=number % 2, line=number + 1, size=len(text.encode()), characters=len(text))
        writer.close()
        store = TokenStore(tmp_path / "train")
        files = [{"name": "even.jsonl", "path": "corpus/even.jsonl"}, {"name": "odd.jsonl", "path": "corpus/odd.jsonl"}]
        source = SimpleNamespace(train=store, manifest=SimpleNamespace(files=files))
        mixture = Mixture(1, {"ja": store.window_count(length)}, [MixtureStage(0, {"ja": 1})])
        return WindowReader({"ja": source}, mixture, length, isolate)

    return make


def test_an_epoch_of_audits_accounts_for_every_token_of_every_document(make_reader, tokenizer):
    reader = make_reader(10)
    store, count = reader.sources["ja"].train, reader.mixture.windows["ja"]
    seen = {number: set() for number in range(len(TEXTS))}
    for sample in range(count):
        audit = describe_sample(reader, tokenizer, sample)
        assert sum(part.tokens for part in audit.documents) == 11
        for part in audit.documents:
            assert part.path == ("corpus/even.jsonl", "corpus/odd.jsonl")[part.document % 2]
            assert part.line == part.document + 1
            assert part.whole == len(tokenizer.encode(TEXTS[part.document])) + 2
            seen[part.document] |= set(range(part.skipped, part.skipped + part.tokens))
            # What the place promises is what the window holds there.
            ids = [tokenizer.bos_id, *tokenizer.encode(TEXTS[part.document]), tokenizer.eos_id]
            window = store.window(audit.window, 10)[part.first : part.first + part.tokens]
            assert window.tolist() == ids[part.skipped : part.skipped + part.tokens]
    tail = store.token_count - (count * 10 + 1)
    assert sum(len(tokens) for tokens in seen.values()) == store.token_count - tail


def test_the_rows_are_what_training_reads(make_reader, tokenizer):
    reader = make_reader(10, isolate=True)
    for sample in range(reader.mixture.windows["ja"]):
        batch, audit = reader.read(sample), describe_sample(reader, tokenizer, sample)
        assert audit.text == tokenizer.decode(reader.sources["ja"].train.window(audit.window, 10).tolist())
        for row in audit.rows:
            wanted = int(batch.targets[0, row.index])
            assert row.input == readable(tokenizer, int(batch.inputs[0, row.index]))
            assert row.ignored == (wanted == -100)
            assert row.target == ("" if row.ignored else readable(tokenizer, wanted))
            assert row.position == batch.positions[0, row.index]


def test_the_display_shows_the_shift_the_border_and_where_the_text_is_from(make_reader, tokenizer):
    reader = make_reader(16, isolate=True)
    for sample in range(reader.mixture.windows["ja"]):
        audit = describe_sample(reader, tokenizer, sample)
        lines = render_sample(audit, rows=4)
        assert lines[0].startswith(f"sample {sample}: source ja, window {audit.window} of {audit.windows}, epoch 0")
        table = [
            re.split(r" {2,}", line.strip())
            for line in lines[lines.index(next(x for x in lines if "input" in x)) + 1 :]
        ]
        shown = {int(cells[0]): cells for cells in table if cells[0] != "…"}
        assert {0, 1, 2, 3} <= set(shown)
        for index in (0, 1, 2):
            if shown[index][3] != "(not a target)":
                assert shown[index][3] == shown[index + 1][2]  # the target of one row is the input of the next
        if len(audit.documents) > 1:
            border = audit.documents[1].first
            assert shown[border - 1][2:] == ["</s>", "(not a target)"]
            assert shown[border][1:3] == ["0", "<s>"]
        for part in audit.documents:
            assert any(f"{part.path}:{part.line}  {part.tokens}" in line for line in lines)


def test_without_isolation_the_next_document_is_a_target(make_reader, tokenizer):
    audit = describe_sample(make_reader(16), tokenizer, 0)
    assert not any(row.ignored for row in audit.rows)
    assert all(row.position is None for row in audit.rows)
    assert not any("position" in line for line in render_sample(audit))


def test_a_store_without_its_side_file_is_still_described(make_reader, tokenizer, tmp_path):
    reader = make_reader(10)
    (tmp_path / "train-00000.documents.npy").unlink()
    audit = describe_sample(reader, tokenizer, 0)
    assert all(part.path is None and "of the store" in part.place for part in audit.documents)
    assert render_sample(audit)


def test_bytes_of_a_character_are_shown_as_bytes(tokenizer):
    """What the model reads can be checked by eye in a byte-level vocabulary that has no piece for a character, too."""
    half = tokenizer.encode("龍")[0]  # a byte of a character that the texts never had
    assert readable(tokenizer, half) == f"<{'龍'.encode()[:1].hex().upper()}>"


def test_text_cannot_steer_the_terminal():
    assert printable("a\x1b[31mb\r\u202ec\u3042", {}) == "a\\x1b[31mb\\r\\u202ec\u3042"
    assert printable("\u3000吾輩は", {}) == "\u3000吾輩は"  # a paragraph begins


def test_width_counts_columns():
    assert [display_width(text) for text in ("abc", "接木", "ｱ", "が", "か\u3099", "")] == [3, 4, 1, 2, 2, 0]


def test_long_texts_are_cut_and_the_cut_is_told(make_reader, tokenizer):
    audit = describe_sample(make_reader(16), tokenizer, 0)
    lines = render_sample(audit, characters=5)
    assert f"  | … ({len(audit.text) - 5} more characters)" in lines
    assert np.sum(["  | " in line for line in lines]) <= 7
