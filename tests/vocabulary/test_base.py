"""What family a base is of, and why others are refused."""

import json

import pytest
from small_bases import (
    BYTE_LEVEL,
    byte_level_state,
    gemma_like,
    gpt2_like,
    quickstart_texts,
    real_mistral,
    sentencepiece_folder,
    sentencepiece_model,
    write_json,
)
from tekken import write_tekken
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.byte_level import ByteLevelBase
from tsugiki.vocabulary.sentencepiece_bpe import SentencePieceBase

JAPANESE = TargetCharacters.of_language("ja")


def open_folder(folder):
    return open_base(TextTokenizer.from_folder(folder), JAPANESE)


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_byte_level_bases_are_known(kind, tmp_path):
    base = open_folder(BYTE_LEVEL[kind](tmp_path))
    assert isinstance(base, ByteLevelBase)
    assert base.used == TextTokenizer.from_folder(tmp_path).vocabulary_size


def test_byte_level_bases_are_known_where_a_conversion_wrote_byte_fallback(tmp_path):
    folder = gpt2_like(tmp_path)
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["byte_fallback"] = True
    (folder / "tokenizer.json").write_text(json.dumps(state))
    assert isinstance(open_folder(folder), ByteLevelBase)


@pytest.mark.parametrize("make", [real_mistral, gemma_like])
def test_sentencepiece_bases_are_known(make, tmp_path):
    base = open_folder(make(tmp_path))
    assert isinstance(base, SentencePieceBase)
    assert base.used == TextTokenizer.from_folder(tmp_path).vocabulary_size


def test_tokenizer_model_is_the_truth_where_both_files_are(tmp_path):
    folder = real_mistral(tmp_path)
    truth = open_folder(folder)
    write_json(folder, truth.state([]) | {"normalizer": {"type": "NFKC"}}, bos_token="<s>", eos_token="</s>")
    base = open_folder(folder)
    assert isinstance(base, SentencePieceBase)
    assert base.state([])["normalizer"] == truth.state([])["normalizer"]
    assert base.state([])["post_processor"] == truth.state([])["post_processor"]


@pytest.mark.parametrize(
    ("says", "begins"), [({}, True), ({"add_bos_token": False}, False), ({"bos_token": None}, False)]
)
def test_bos_is_put_before_a_text_where_the_base_puts_it(says, begins, tmp_path):
    base = open_folder(
        sentencepiece_folder(tmp_path, sentencepiece_model(), **{"bos_token": "<s>", "eos_token": "</s>", **says})
    )
    tokenizer = Tokenizer.from_str(json.dumps(base.state([])))
    assert tokenizer.encode("the").tokens[:1] == (["<s>"] if begins else ["▁the"])
    assert tokenizer.encode("the", "the").tokens.count("<s>") == 2 * begins


def test_merges_written_as_one_text_are_read(tmp_path):
    new, old = write_json(tmp_path / "new", byte_level_state()), write_json(tmp_path / "old", byte_level_state())
    state = byte_level_state()
    state["model"]["merges"] = [" ".join(pair) for pair in state["model"]["merges"]]
    state["model"].pop("type")  # older still
    write_json(old, state)
    one, other = open_folder(new), open_folder(old)
    pieces = one.character_pieces("川")
    assert other.character_pieces("川") == pieces
    assert other.state(pieces)["model"] == one.state(pieces)["model"]


def test_truncation_and_padding_are_left_behind(tmp_path):
    state = json.loads((gpt2_like(tmp_path) / "tokenizer.json").read_text())
    state["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    state["padding"] = {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}  # fmt: skip
    written = Tokenizer.from_str(json.dumps(open_folder(write_json(tmp_path, state)).state([])))
    assert written.truncation is None
    assert written.padding is None


def trained(model, trainer) -> str:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(quickstart_texts("en")[:3], trainer)
    return tokenizer.to_str()


OTHERS = {
    "unigram": (lambda: trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=200, unk_token="?", special_tokens=["?"], show_progress=False)), "a Unigram vocabulary. It has no merges but a probability"),
    "wordpiece": (lambda: trained(models.WordPiece(unk_token="?"), trainers.WordPieceTrainer(vocab_size=200, special_tokens=["?"], show_progress=False)), "a WordPiece vocabulary without byte-level merges or byte fallback"),
    "words": (lambda: trained(models.WordLevel(unk_token="?"), trainers.WordLevelTrainer(special_tokens=["?"], show_progress=False)), "a WordLevel vocabulary without"),
    "bpe of characters": (lambda: trained(models.BPE(unk_token="?"), trainers.BpeTrainer(vocab_size=200, special_tokens=["?"], show_progress=False)), "a BPE vocabulary without byte-level merges or byte fallback"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_refused_with_the_reason(kind, tmp_path):
    make, reason = OTHERS[kind]
    with pytest.raises(
        ModelError, match=rf"tokenizer\.json: {reason}.*choose a base|tokenizer\.json: {reason}.*Choose a base"
    ):
        open_folder(write_json(tmp_path, make()))


@pytest.mark.parametrize("key", ["end_of_word_suffix", "continuing_subword_prefix"])
def test_words_with_a_mark_of_another_kind_are_refused(key, tmp_path):
    folder = write_json(tmp_path, byte_level_state())
    tokenizer = TextTokenizer.from_folder(folder)
    state = byte_level_state()
    state["model"][key] = "</w>"
    write_json(folder, state)
    with pytest.raises(ModelError, match=f"tokenizer.json: has a {key}"):
        open_base(tokenizer, JAPANESE)


def test_tekken_is_known(tmp_path):
    pytest.importorskip("mistral_common", reason="mistral-common carries the real tokenizer")
    write_tekken(tmp_path)
    base = open_folder(tmp_path)
    assert isinstance(base, ByteLevelBase)
    assert base.used == 131_072
    assert base.character_pieces("鱻")
