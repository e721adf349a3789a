"""Extensions of byte-level vocabularies of several makes: what they may hold, what they keep, and that they form."""

import json
import unicodedata
from itertools import chain
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bases import BYTE_LEVEL, byte_level_state, quickstart_texts, with_tokens_beside, write_json
from tokenizers import Tokenizer

from tsugiki.corpus.byte_alphabet import BYTE_OF, spell
from tsugiki.corpus.named_texts import Text
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.byte_level import ByteLevelBase, begins_only_targets
from tsugiki.vocabulary.folder import write_tokenizer
from tsugiki.vocabulary.learn import learn, not_themselves
from tsugiki.vocabulary.pieces import Piece
from tsugiki.vocabulary.proofs import prove

JAPANESE = TargetCharacters.of_language("ja")
ENGLISH = "A river  remembers\tthe valley -->\n    that it made; 12 + 3456 = 46 “naïve” 😀.\r\n I'll\n\n"


def open_folder(folder: Path, target: TargetCharacters = JAPANESE) -> tuple[ByteLevelBase, TextTokenizer]:
    tokenizer = TextTokenizer.from_folder(folder)
    base = open_base(tokenizer, target)
    assert isinstance(base, ByteLevelBase)
    return base, tokenizer


@pytest.fixture(scope="module", params=BYTE_LEVEL)
def small(request, tmp_path_factory) -> tuple[ByteLevelBase, TextTokenizer]:
    return open_folder(BYTE_LEVEL[request.param](tmp_path_factory.mktemp(request.param)))


def naive_prefixes(target: TargetCharacters) -> dict[bytes, bool]:
    """For each beginning of at least two bytes of any character: whether the target has all that begin so."""
    found: dict[bytes, bool] = {}
    for code in chain(range(0x800, 0xD800), range(0xE000, 0x32400), range(0xE0000, 0xE0200)):
        character = chr(code)
        if unicodedata.category(character) == "Cn" and regex.match(r"\p{Cn}", character):
            continue
        encoded = character.encode()
        for length in range(2, len(encoded)):
            found[encoded[:length]] = found.get(encoded[:length], True) and target.is_target(character)
    return found


@pytest.mark.parametrize("language", ["ja", "th"])
def test_a_beginning_belongs_to_the_target_when_no_other_character_has_it(language):
    target = TargetCharacters.of_language(language)
    naive = naive_prefixes(target)
    assert {start: begins_only_targets(start, target) for start in naive} == naive
    assert sum(naive.values()) >= 2


def test_some_beginnings():
    only = {
        start: begins_only_targets(bytes.fromhex(start), JAPANESE)
        for start in ("e380", "e381", "e382", "e383", "e5b7", "efbd", "efbf", "e284", "ea80", "f0a0", "f09f")
    }
    assert only == {"e380": True, "e381": True, "e382": True, "e383": True, "e5b7": True, "efbd": True, "efbf": False, "e284": False, "ea80": False, "f0a0": True, "f09f": False}  # fmt: skip
    han = TargetCharacters(["han"])
    assert begins_only_targets(b"\xe3\x80", han)
    assert not begins_only_targets(b"\xe3\x81", han)


def test_a_character_is_made_of_its_first_bytes_and_then_of_all(small):
    base, _ = small
    one, two, three = (spell(bytes([byte])) for byte in "川".encode())
    assert base.character_pieces("川") == [Piece(one + two, (one, two)), Piece(one + two + three, (one + two, three))]
    assert [piece.parts for piece in base.character_pieces("𠀋")][-1][1] == spell("𠀋".encode()[-1:])
    assert len(base.character_pieces("𠀋")) == 3
    assert base.character_pieces("￥") == []  # EF BF begins the replacement character too
    assert base.character_pieces("a") == []


def test_kinds_of_pieces(small):
    base, _ = small
    kinds = {text: base.kind(spell(text.encode())) for text in (" 川", "Tシ", "川", "a", " ", "。", "、a")}
    assert kinds == {
        " 川": "target",
        "Tシ": "target",
        "川": "target",
        "a": "other",
        " ": "other",
        "。": "other",
        "、a": "other",
    }
    assert base.kind(spell("川".encode()[:2])) is None
    assert base.kind(spell("あ川".encode()[:-1])) is None
    assert base.kind(spell("川".encode()[1:])) is None
    assert base.text_of(base.spelled(" 川。x")) == " 川。x"


def test_units_are_the_words_of_the_whole_text(small):
    base, tokenizer = small
    text = "\n".join(
        ["The river.", *quickstart_texts("ja")[:3], " 川 は\u3000A川　\t谷", ENGLISH, "", "か\u3099Tシャツ12枚"]
    )
    library = Tokenizer.from_file(str(tokenizer.folder / "tokenizer.json"))
    normal = library.normalizer.normalize_str(text) if library.normalizer else text
    expected: dict[str, int] = {}
    for word, _ in library.pre_tokenizer.pre_tokenize_str(normal):
        decoded = bytes(BYTE_OF[letter] for letter in word).decode()
        if any(map(JAPANESE.is_letter, decoded)):
            expected[word] = expected.get(word, 0) + 1
    assert dict(base.units([text])) == expected


@pytest.mark.parametrize("count", [60, 900])
def test_learned_pieces_pass_every_proof(small, count, tmp_path):
    base, tokenizer = small
    texts = quickstart_texts("ja")[:100]
    learnt = learn(base, texts[10:], texts[:10], count, max_length=8)
    assert learnt.dropped == []
    write_tokenizer(tmp_path, base, tokenizer, learnt.pieces)
    proofs = prove(
        tmp_path, tokenizer.folder, [Text(str(n), text) for n, text in enumerate([*texts, ENGLISH])], target=JAPANESE
    )
    assert [(proof.name, proof.examples) for proof in proofs if not proof.passed] == []
    fast = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    old = Tokenizer.from_file(str(tokenizer.folder / "tokenizer.json"))
    assert {number: old.id_to_token(number) for number in range(tokenizer.vocabulary_size)} == {
        number: fast.id_to_token(number) for number in range(tokenizer.vocabulary_size)
    }
    new = [fast.token_to_id(piece.spelling) for piece in learnt.pieces]
    assert new == list(range(tokenizer.vocabulary_size, tokenizer.vocabulary_size + count))
    assert fast.get_added_tokens_decoder() == old.get_added_tokens_decoder()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=12),
    st.lists(st.text(st.sampled_from("川谷覚のをーカT \n\u3000atheir.,12é。鯨😀"), max_size=40), max_size=6),
)
def test_whatever_the_pieces_english_stays_and_text_comes_back(small, pairs, texts):
    base, tokenizer = small
    pieces = {piece.spelling: piece for character in "川谷覚のをーカ" for piece in base.character_pieces(character)}
    spelled = [base.spelled(character) for character in "川谷覚のをーカ"]
    for left, right in pairs:
        parts = spelled[left % len(spelled)], spelled[right % len(spelled)]
        if "".join(parts) not in pieces and len("".join(parts)) < 20:
            pieces["".join(parts)] = Piece("".join(parts), parts)
            spelled.append("".join(parts))
    state = base.state(list(pieces.values()))
    extended = Tokenizer.from_str(json.dumps(state))
    old = Tokenizer.from_file(str(tokenizer.folder / "tokenizer.json"))
    for text in texts:
        ids = extended.encode(text, add_special_tokens=False).ids
        assert extended.decode(ids) == old.decode(old.encode(text, add_special_tokens=False).ids)
        plain = "".join(character for character in text if not JAPANESE.is_target(character))
        assert extended.encode(plain).ids == old.encode(plain).ids
    end = extended.encode("\n", add_special_tokens=False).ids
    for piece in pieces.values():
        text = base.text_of(piece.spelling)
        if text is not None and piece.spelling not in not_themselves(base, list(pieces.values())):
            token = extended.token_to_id(piece.spelling)
            assert extended.encode("\n" + text, add_special_tokens=False).ids == [*end, token]


def test_control_tokens_far_behind_the_vocabulary_stay_there(tmp_path):
    state = with_tokens_beside(byte_level_state(), ["<|endoftext|>"])
    size = len(state["model"]["vocab"])
    base, tokenizer = open_folder(write_json(tmp_path / "base", state, eos_token="<|endoftext|>"))
    pieces = base.character_pieces("川")
    extended = Tokenizer.from_str(json.dumps(base.state(pieces)))
    assert extended.token_to_id("<|endoftext|>") == tokenizer.eos_id == size
    assert extended.encode("<|endoftext|>川").ids == [size, size + 2]
    assert json.loads((tmp_path / "base" / "tokenizer.json").read_text()) == state


def test_a_character_that_the_base_normalises_away_gets_no_piece(small):
    base, tokenizer = small
    nfc = Tokenizer.from_file(str(tokenizer.folder / "tokenizer.json")).normalizer is not None
    assert (base.character_pieces("\uf900") == []) == nfc  # 豈 for compatibility, 豈 in NFC
    assert base.character_pieces("\u8c48")


def test_a_character_with_a_byte_that_the_base_lacks_gets_no_piece(tmp_path):
    state = byte_level_state()
    del state["model"]["vocab"][spell(b"\x9d")]
    state["model"]["merges"] = [pair for pair in state["model"]["merges"] if spell(b"\x9d") not in "".join(pair)]
    base, _ = open_folder(write_json(tmp_path, state))
    assert base.character_pieces("川") == []  # E5 B7 9D
    assert base.character_pieces("谷")


def test_a_base_that_does_not_spell_bytes_before_it_merges_is_refused(tmp_path):
    state = byte_level_state()
    state["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(ModelError, match="does not get every character's bytes to merge"):
        open_folder(write_json(tmp_path, state))


def test_text_around_a_piece_of_the_base_that_joins_bytes_of_two_characters(tmp_path):
    """A base may merge the end of one character with the beginning of the next: those come first, and stay."""
    state = byte_level_state()
    joined = "川は".encode()[2:4]
    left, right = spell(joined[:1]), spell(joined[1:])
    state["model"]["vocab"][left + right] = len(state["model"]["vocab"])
    state["model"]["merges"].append([left, right])
    base, tokenizer = open_folder(write_json(tmp_path / "base", state))
    learnt = learn(base, ["川は谷は川は谷の川の"] * 5, [], 9, max_length=4, threshold=2)
    write_json(tmp_path / "out", base.state(learnt.pieces))
    proofs = prove(tmp_path / "out", tokenizer.folder, [Text("0", "川は谷は川は谷の川の")], target=JAPANESE)
    assert [(p.name, p.examples) for p in proofs if not p.passed and p.name not in ("transformers",)] == []
