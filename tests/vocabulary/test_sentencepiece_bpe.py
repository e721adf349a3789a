"""Extensions of SentencePiece vocabularies: both files give SentencePiece's ids, and the base's where it has a say."""

import json
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from small_bases import gemma_like, quickstart_texts, real_mistral, sentencepiece_folder, sentencepiece_model
from tokenizers import Tokenizer

from tsugiki.corpus.named_texts import Text
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.folder import write_tokenizer
from tsugiki.vocabulary.learn import learn, not_themselves
from tsugiki.vocabulary.pieces import Piece
from tsugiki.vocabulary.proofs import prove
from tsugiki.vocabulary.sentencepiece_bpe import SentencePieceBase, merges_by_score

JAPANESE = TargetCharacters.of_language("ja")
ENGLISH = "A river  remembers\tthe valley -->\n    that it made; 12 + 34 = 46 “naïve” 😀.\n"
RUSSIAN = """Река помнит долину, которую она сделала, и долина помнит реку. Поезд ушёл в семь часов; к девяти горы стояли
в окне, как старые соседи. Она записала то, что показал прибор, прежде чем позволила себе подумать об этом. Утром на рынке
запах рыбы и овощей смешивался, и слышны были голоса людей. Старый мост через реку построили ещё до войны, и каждый год
весной вода поднималась почти до самых перил. Мы шли вдоль реки и говорили о том, что было и что будет."""
KOREAN = """강은 자신이 만든 골짜기를 기억하고, 골짜기도 강을 기억한다. 기차는 일곱 시에 떠났고, 아홉 시에는 산들이 오래된 이웃처럼 창가에
서 있었다. 그녀는 생각하기 전에 기계가 보여 준 값을 적어 두었다. 아침 시장에서는 생선과 채소 냄새가 섞이고 사람들의 목소리가 들렸다.
강가의 오래된 다리는 전쟁 전에 지어졌고, 해마다 봄이면 물이 난간 가까이까지 올라왔다. 우리는 강을 따라 걸으며 지난 일을 이야기했다."""


def open_folder(folder: Path, target: TargetCharacters = JAPANESE) -> tuple[SentencePieceBase, TextTokenizer]:
    tokenizer = TextTokenizer.from_folder(folder)
    base = open_base(tokenizer, target)
    assert isinstance(base, SentencePieceBase)
    return base, tokenizer


def by_sentencepiece(folder: Path, text: str) -> list[int]:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).encode(text)


def by_tokenizers(folder: Path, text: str) -> list[int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def mistral(tmp_path_factory) -> tuple[sentencepiece.SentencePieceProcessor, Tokenizer]:
    """The real tokenizer by SentencePiece, and what is written of it without a new piece."""
    folder = real_mistral(tmp_path_factory.mktemp("mistral"))
    base, _ = open_folder(folder)
    state = json.dumps(base.state([]))
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")), Tokenizer.from_str(state)


@pytest.mark.parametrize("before", ["", "x", "\n", "。", "--"])
@pytest.mark.parametrize("after", ["", "x", "\n", "the", "--> y", "▁z"])
def test_runs_of_spaces_are_divided_as_sentencepiece_does(mistral, before, after):
    processor, tokenizer = mistral
    for count in [*range(36), 47, 48, 49, 64, 65, 127, 500]:
        text = before + " " * count + after
        assert tokenizer.encode(text, add_special_tokens=False).ids == processor.encode(text), text


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("      \n\n\t▁aethrni-->(){}_.,;1205é€日本の😀\u3000\u00a0\0"), max_size=80))
def test_merges_by_score_are_sentencepieces(mistral, text):
    processor, tokenizer = mistral
    assert tokenizer.encode(text, add_special_tokens=False).ids == processor.encode(text)


def test_merges_go_by_score_then_by_the_longer_left_part():
    scores = {
        "a": -9.0,
        "b": -9.0,
        "ab": -2.0,
        "aba": -1.0,
        "ba": -2.0,
        "abab": -3.0,
        "aa": -9.0,
        "aaa": -9.0,
        "aaaa": -9.0,
    }
    assert merges_by_score(scores) == [
        ("ab", "a"), ("a", "ba"), ("a", "b"), ("b", "a"), ("aba", "b"), ("ab", "ab"), ("aaa", "a"), ("aa", "aa"),
        ("aa", "a"), ("a", "aaa"), ("a", "aa"), ("a", "a"),
    ]  # fmt: skip


ALPHABET = "川谷覚鬱猫はのをーカ"
PAIRS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=12)


def random_pieces(base: SentencePieceBase, pairs: list[tuple[int, int]]) -> list[Piece]:
    """Characters, then merges of any two of the pieces so far."""
    pieces = [piece for character in ALPHABET for piece in base.character_pieces(character)]
    spelled = list(ALPHABET)
    for left, right in pairs:
        joined = Piece(
            spelled[left % len(spelled)] + spelled[right % len(spelled)],
            (spelled[left % len(spelled)], spelled[right % len(spelled)]),
        )
        if joined.spelling not in spelled and len(joined.spelling) <= 8:
            spelled.append(joined.spelling)
            pieces.append(joined)
    return pieces


@pytest.fixture(scope="module", params=["dummy prefix", "no dummy prefix"])
def small(request, tmp_path_factory) -> tuple[SentencePieceBase, TextTokenizer, Path]:
    model = sentencepiece_model(add_dummy_prefix=request.param == "dummy prefix")
    folder = sentencepiece_folder(tmp_path_factory.mktemp("small"), model, bos_token="<s>", eos_token="</s>")
    return *open_folder(folder), tmp_path_factory.mktemp("extended")


@settings(max_examples=25, deadline=None)
@given(PAIRS, st.lists(st.text(st.sampled_from(ALPHABET + "  \n▁atheir.,12é。鯨"), max_size=40), max_size=5))
def test_whatever_the_pieces_both_files_agree(small, pairs, texts):
    base, tokenizer, folder = small
    pieces = random_pieces(base, pairs)
    base.write(folder, pieces)
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    size = tokenizer.vocabulary_size
    assert [processor.id_to_piece(number) for number in range(size)] == [
        tokenizer.piece(number) for number in range(size)
    ]
    assert sorted(fast.get_vocab().values()) == list(range(size + len(pieces))) == list(range(processor.vocab_size()))
    for number, piece in enumerate(pieces):
        assert fast.token_to_id(piece.spelling) == processor.piece_to_id(piece.spelling) == size + number
    end = processor.encode("\n")
    divided = {
        p.spelling for p in pieces if processor.encode("\n" + p.spelling) != [*end, processor.piece_to_id(p.spelling)]
    }
    assert not_themselves(base, pieces) == divided
    assert divided.isdisjoint(ALPHABET)
    for text in texts:
        ids = processor.encode(text)
        assert fast.encode(text, add_special_tokens=False).ids == ids
        assert processor.decode(ids) == fast.decode(ids) == text.replace("▁", " ")
        plain = "".join(character for character in text if not JAPANESE.is_target(character))
        assert processor.encode(plain) == tokenizer.encode(plain)


def test_learned_pieces_pass_every_proof(small, tmp_path):
    count = 300
    base, tokenizer, _ = small
    texts = quickstart_texts("ja")[:60]
    learnt = learn(base, texts[10:], texts[:10], count, max_length=6)
    write_tokenizer(tmp_path, base, tokenizer, learnt.pieces)
    proofs = prove(
        tmp_path, tokenizer.folder, [Text(str(n), text) for n, text in enumerate([*texts, ENGLISH])], target=JAPANESE
    )
    assert [(proof.name, proof.examples) for proof in proofs if not proof.passed] == []
    assert all(proof.checked for proof in proofs)
    model = sentencepiece_model_pb2.ModelProto.FromString((tmp_path / "tokenizer.model").read_bytes())
    scores = [piece.score for piece in model.pieces if piece.type == piece.NORMAL]
    new = scores[-count:]
    assert new == sorted(new, reverse=True)
    assert max(new) < min(scores[:-count])
    assert len(set(new)) == count
    assert model.trainer_spec.vocab_size == len(model.pieces) == tokenizer.vocabulary_size + count


@pytest.mark.parametrize(("language", "text"), [("ru", RUSSIAN), ("ko", KOREAN)])
def test_pieces_of_spaced_words_begin_with_the_mark_of_the_space(language, text, tmp_path):
    target = TargetCharacters.of_language(language)
    base, tokenizer = open_folder(real_mistral(tmp_path / "base"), target)
    texts = [text, " ".join(reversed(text.split())), *text.split("\n")]
    learnt = learn(base, texts, texts[2:], 80, max_length=16, threshold=2)
    assert sum(piece.spelling.startswith("▁") for piece in learnt.pieces) > 10
    assert not any("▁" in piece.spelling[1:] for piece in learnt.pieces)
    (tmp_path / "out").mkdir()
    write_tokenizer(tmp_path / "out", base, tokenizer, learnt.pieces)
    proofs = prove(
        tmp_path / "out", tokenizer.folder, [Text(str(n), t) for n, t in enumerate([*texts, ENGLISH])], target=target
    )
    assert [(proof.name, proof.examples) for proof in proofs if not proof.passed] == []
    after = len(TextTokenizer.from_folder(tmp_path / "out").encode(text))
    assert after < 0.8 * len(tokenizer.encode(text))


BESIDE = {"<pad>": True, "<|chat|>": False}


def with_tokens_beside(folder: Path, source: str) -> Path:
    """Llama 2 with a padding token, as fine-tuners add it: said in one of the places where it is said."""
    model = sentencepiece_model()
    size = len(sentencepiece_model_pb2.ModelProto.FromString(model).pieces)
    tokens = {size + number: (token, special) for number, (token, special) in enumerate(BESIDE.items())}
    table = {str(token): {"content": piece, "special": special} for token, (piece, special) in tokens.items()}
    sentencepiece_folder(folder, model, bos_token="<s>", eos_token="</s>", added_tokens_decoder=table)
    if source == "tokenizer.json":
        base, _ = open_folder(folder)
        state = base.state([])
        sentencepiece_folder(folder, model, bos_token="<s>", eos_token="</s>")
        (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


@pytest.mark.parametrize("source", ["tokenizer_config.json", "tokenizer.json"])
def test_tokens_beside_the_model_keep_their_ids_in_both_files(source, tmp_path):
    base, tokenizer = open_folder(with_tokens_beside(tmp_path / "base", source))
    pieces = [piece for character in ALPHABET for piece in base.character_pieces(character)]
    size = tokenizer.vocabulary_size
    assert base.used == size
    (tmp_path / "out").mkdir()
    write_tokenizer(tmp_path / "out", base, tokenizer, pieces)
    fast = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "out" / "tokenizer.model"))
    for number, token in enumerate(BESIDE):
        expected = size - len(BESIDE) + number
        assert tokenizer.engine.token_id(token) == fast.token_to_id(token) == processor.piece_to_id(token) == expected
    assert [fast.token_to_id(piece.spelling) for piece in pieces] == list(range(size, size + len(pieces)))
    assert sorted(fast.get_vocab().values()) == list(range(size + len(pieces)))
    special = {token.content: token.special for token in fast.get_added_tokens_decoder().values()}
    assert special == {"<unk>": True, "<s>": True, "</s>": True, **BESIDE}
    assert processor.is_control(processor.piece_to_id("<pad>"))
    assert not processor.is_control(processor.piece_to_id("<|chat|>"))
    extended = TextTokenizer.from_folder(tmp_path / "out")
    assert (extended.bos_id, extended.eos_id) == (tokenizer.bos_id, tokenizer.eos_id)
    texts = [Text("0", "川の谷は覚鬱\n" + ENGLISH)]
    assert [
        proof for proof in prove(tmp_path / "out", tokenizer.folder, texts, target=JAPANESE) if not proof.passed
    ] == []


def test_a_token_beside_the_model_is_not_learned_again(tmp_path):
    model = sentencepiece_model()
    size = len(sentencepiece_model_pb2.ModelProto.FromString(model).pieces)
    table = {str(size): {"content": "川", "special": False}}
    base, _ = open_folder(sentencepiece_folder(tmp_path, model, bos_token="<s>", added_tokens_decoder=table))
    assert base.character_pieces("川") == []
    learnt = learn(base, ["川は谷の川は谷"] * 3, [], 3, max_length=4)
    assert "川" not in [piece.spelling for piece in learnt.pieces]


def test_added_tokens_with_a_gap_before_them_are_refused(tmp_path):
    folder = sentencepiece_folder(tmp_path, sentencepiece_model(), added_tokens_decoder={"705": {"content": "<pad>"}})
    with pytest.raises(ModelError, match=r"added tokens have the ids \[705\], but tokenizer.model ends at 699"):
        open_folder(folder)


def edited(edit) -> bytes:
    model = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece_model())
    edit(model)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trainer_spec": {"model_type": 1}}, "a Unigram vocabulary"),
        ({"trainer_spec": {"model_type": 3}}, "a vocabulary of words or characters"),
        ({"trainer_spec": {"byte_fallback": False}}, "no byte fallback"),
        ({"trainer_spec": {"treat_whitespace_as_suffix": True}}, "marks after words"),
        ({"normalizer_spec": {"remove_extra_whitespaces": True}}, "removal of spaces"),
        ({"normalizer_spec": {"escape_whitespaces": False}}, "spaces without marks"),
        ({"normalizer_spec": {"precompiled_charsmap": b"abc"}}, "a normaliser"),
    ],
)  # fmt: skip
def test_other_sentencepiece_models_are_refused_with_the_reason(change, reason, tmp_path):
    def edit(model):
        for spec, values in change.items():
            for key, value in values.items():
                setattr(getattr(model, spec), key, value)

    folder = sentencepiece_folder(tmp_path, sentencepiece_model(), bos_token="<s>")
    tokenizer = TextTokenizer.from_folder(folder)
    (folder / "tokenizer.model").write_bytes(edited(edit))
    with pytest.raises(ModelError, match=rf"tokenizer\.model: .*{reason}"):
        open_base(tokenizer, JAPANESE)


def test_a_base_with_tokenizer_json_alone_is_extended_there(tmp_path):
    base, tokenizer = open_folder(gemma_like(tmp_path / "base"))
    before = json.loads((tokenizer.folder / "tokenizer.json").read_text())
    texts = quickstart_texts("ja")[:60]
    learnt = learn(base, texts[10:], texts[:10], 300, max_length=8)
    (tmp_path / "out").mkdir()
    write_tokenizer(tmp_path / "out", base, tokenizer, learnt.pieces)
    assert not (tmp_path / "out" / "tokenizer.model").exists()
    after = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    merges = before["model"]["merges"]
    assert after["model"]["merges"][: len(merges)] == merges
    assert all(after[key] == before[key] for key in ("normalizer", "pre_tokenizer", "decoder", "added_tokens"))
    proofs = prove(
        tmp_path / "out", tokenizer.folder, [Text(str(n), t) for n, t in enumerate([*texts, ENGLISH])], target=JAPANESE
    )
    assert [(proof.name, proof.examples) for proof in proofs if not proof.passed] == []
    text = "".join(texts)
    assert len(TextTokenizer.from_folder(tmp_path / "out").encode(text)) < 0.6 * len(tokenizer.encode(text))


def test_a_character_that_the_base_normalises_away_gets_no_piece(tmp_path):
    state = json.loads((gemma_like(tmp_path) / "tokenizer.json").read_text())
    state["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, state["normalizer"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    base, _ = open_folder(tmp_path)
    assert base.character_pieces("ｱ") == []
    assert [piece.spelling for piece in base.character_pieces("ア")] == ["ア"]


def test_a_character_is_made_of_its_bytes():
    base = SentencePieceBase(
        JAPANESE, {"model": {"type": "BPE", "vocab": {"<0xE5>": 0, "a": 5}, "merges": []}, "added_tokens": []}
    )
    assert base.character_pieces("川") == [Piece("川", ("<0xE5>", "<0xB7>", "<0x9D>"))]
    assert base.used == 6
    assert base.kind("川は") == "target"
    assert [base.kind(piece) for piece in ("▁川", "a", "川a", "川。", "。", "<0xE5>", "")] == [None] * 7


def test_a_piece_that_a_token_beside_the_model_cuts_is_found(tmp_path):
    model = sentencepiece_model()
    size = len(sentencepiece_model_pb2.ModelProto.FromString(model).pieces)
    table = {str(size): {"content": "川谷", "special": False}}
    base, _ = open_folder(sentencepiece_folder(tmp_path, model, bos_token="<s>", added_tokens_decoder=table))
    pieces = [piece for character in "川谷の" for piece in base.character_pieces(character)]
    pieces += [Piece("谷の", ("谷", "の")), Piece("川谷の", ("川", "谷の"))]
    assert not_themselves(base, pieces) == {"川谷の"}
