"""What both families share: whole vocabularies, the model alone, and what old pieces a new one is made of."""

import json

import pytest
from small_bases import byte_level_state, gemma_like, llama3_like, qwen_like, real_mistral, with_tokens_beside
from tokenizers import Tokenizer

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.pieces import Piece, bare, old_pieces, preparation, whole_vocabulary, with_pieces

JAPANESE = TargetCharacters.of_language("ja")


def test_tokens_beside_the_model_keep_their_ids_when_the_vocabulary_grows():
    state = with_tokens_beside(byte_level_state(), ["<end>", "<more>"])
    size = len(state["model"]["vocab"])
    vocabulary = whole_vocabulary(state)
    assert (vocabulary["<end>"], vocabulary["<more>"], len(vocabulary)) == (size, size + 1, size + 2)
    pieces = [Piece("åx", ("å", "x"))]
    grown = with_pieces(state, vocabulary, pieces, [*state["model"]["merges"], ("å", "x")])
    tokenizer = Tokenizer.from_str(json.dumps(grown))
    assert tokenizer.encode("<end><more>").ids == [size, size + 1]
    assert tokenizer.token_to_id("åx") == size + 2
    assert len(state["model"]["vocab"]) == size  # the base's own is as it was
    naive = with_pieces(state, state["model"]["vocab"], pieces, state["model"]["merges"])
    assert Tokenizer.from_str(json.dumps(naive)).token_to_id("<end>") != size  # what this is for


def test_the_model_alone_merges_and_looks_up_nothing(tmp_path):
    folder = llama3_like(tmp_path)
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = {**state["model"]["vocab"], "thewhole": 5000}
    state["model"]["vocab"] = vocabulary
    assert [
        len(Tokenizer.from_str(json.dumps(state)).encode(text, add_special_tokens=False))
        for text in ("thewhole", "<|end_of_text|>")
    ] == [1, 1]
    alone = bare(state)
    assert len(alone.encode("thewhole")) > 1
    assert len(alone.encode("<|end_of_text|>")) > 1
    assert alone.encode("ĠtheĠriver").tokens == [*alone.encode("Ġthe").tokens, *alone.encode("Ġriver").tokens]


def test_preparation_is_the_bases_own(tmp_path):
    state = json.loads((qwen_like(tmp_path) / "tokenizer.json").read_text())
    whole, prepared = Tokenizer.from_str(json.dumps(state)), preparation(state)
    text = "か\u3099 12 the river's\n"
    assert prepared.normalizer.normalize_str(text) == whole.normalizer.normalize_str(text) == "が 12 the river's\n"
    assert prepared.pre_tokenizer.pre_tokenize_str(text) == whole.pre_tokenizer.pre_tokenize_str(text)
    assert prepared.get_vocab_size() == 0


def pieces_of(base, characters: str, merges: list[tuple[str, str]]) -> list[Piece]:
    pieces = [piece for character in characters for piece in base.character_pieces(character)]
    return [*pieces, *(Piece(left + right, (left, right)) for left, right in merges)]


@pytest.mark.parametrize("make", [real_mistral, gemma_like])
def test_a_sentencepiece_piece_is_made_of_old_characters_and_bytes(make, tmp_path):
    tokenizer = TextTokenizer.from_folder(make(tmp_path))
    base = open_base(tokenizer, JAPANESE)
    pieces = pieces_of(base, "鬱川", [("鬱", "川"), ("鬱川", "鬱川")])
    made_of = dict(zip([piece.spelling for piece in pieces], old_pieces(base, pieces), strict=True))
    old = tokenizer.encode("川鬱川鬱川")  # the base's own way, behind a mark where it puts one before a text
    for spelling, ids in made_of.items():
        expected = tokenizer.encode("川" + spelling)
        assert ids == expected[len(tokenizer.encode("川")) :]
    assert made_of["鬱川鬱川"] == old[-len(made_of["鬱川鬱川"]) :]


def test_a_byte_level_piece_is_made_of_old_bytes(tmp_path):
    tokenizer = TextTokenizer.from_folder(qwen_like(tmp_path))
    base = open_base(tokenizer, JAPANESE)
    river = base.spelled("川")
    pieces = pieces_of(base, "川谷", [(river, base.spelled("谷")), (base.spelled(" "), river)])
    for piece, ids in zip(pieces, old_pieces(base, pieces), strict=True):
        assert "".join(map(tokenizer.piece, ids)) == piece.spelling
        text = base.text_of(piece.spelling)
        assert text is None or ids == tokenizer.encode(text)
