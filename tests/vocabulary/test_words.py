"""Stretches are divided where MeCab says that words end, in the spelling of either family; nothing is lost."""

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from tokenizers import pre_tokenizers

from tsugiki.errors import RecipeError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.byte_level import ByteLevelBase
from tsugiki.vocabulary.sentencepiece_bpe import SentencePieceBase
from tsugiki.vocabulary.words import word_divider

STRETCHES = ["吾輩は猫である", " 吾輩は猫", "川", "(吾輩"]


def spelled(text: str) -> str:
    """As byte-level vocabularies spell it, by the library itself."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


def unchanged(text: str) -> str:
    return text


JA = TargetCharacters.of_language("ja")
MODEL = {"added_tokens": [], "model": {"vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "ByteLevel",
         "add_prefix_space": False, "trim_offsets": True, "use_regex": True}}  # fmt: skip
FAMILIES = {
    "sentencepiece": (lambda: SentencePieceBase(JA, MODEL), unchanged),
    "byte-level": (lambda: ByteLevelBase(None, JA, {"version": "1.0", "truncation": None, "padding": None,
                                                    "normalizer": None, "post_processor": None, "decoder": None,
                                                    **MODEL, "model": {"type": "BPE", **MODEL["model"]}}), spelled),
}  # fmt: skip


@pytest.fixture(params=FAMILIES)
def family(request):
    make, spell = FAMILIES[request.param]
    return make(), spell


def divided(family: tuple, text: str) -> list[str]:
    base, spell = family
    return word_divider(base)(spell(text))


def pretend(monkeypatch: pytest.MonkeyPatch, parse: Callable[[str], str]) -> None:
    monkeypatch.setitem(sys.modules, "fugashi", SimpleNamespace(Tagger=lambda options: SimpleNamespace(parse=parse)))


@pytest.mark.parametrize(
    ("text", "parsed", "expected"),
    [
        ("吾輩は猫である", "吾輩 は 猫 で ある \n", ["吾輩", "は", "猫", "で", "ある"]),
        (" 吾輩は猫", "吾輩 は 猫", [" 吾輩", "は", "猫"]),  # MeCab takes spaces away
        ("川", "川", ["川"]),
        ("川川", "川 川", ["川", "川"]),
        ("川\u3000", "川", ["川\u3000"]),
        ("川", "", ["川"]),  # nothing comes of a NUL, for one
        ("川谷", "川 ３", ["川谷"]),  # not what was given
    ],
)
def test_a_stretch_is_cut_where_words_end(monkeypatch, family, text, parsed, expected):
    pretend(monkeypatch, lambda given: parsed if given == text else pytest.fail(given))
    assert divided(family, text) == list(map(family[1], expected))


def test_bytes_that_are_no_text_stay_whole(monkeypatch):
    pretend(monkeypatch, lambda given: pytest.fail("not to be asked"))
    part = spelled("川")[:2]
    assert word_divider(FAMILIES["byte-level"][0]())(part) == [part]


@pytest.mark.parametrize("missing", ["library", "dictionary"])
def test_the_missing_extra_is_named_with_its_install_command(monkeypatch, family, missing):
    def fail(_options: str) -> None:
        raise RuntimeError("Failed initializing MeCab.")

    monkeypatch.setitem(sys.modules, "fugashi", None if missing == "library" else SimpleNamespace(Tagger=fail))
    with pytest.raises(RecipeError, match=r"vocabulary\.split_words needs: pip install 'tsugiki\[ja\]'"):
        word_divider(family[0])


def test_real_words_end_where_mecab_says(family):
    fugashi = pytest.importorskip("fugashi", reason="the extra ja")
    pytest.importorskip("unidic_lite", reason="the extra ja")
    for text in [*STRETCHES, "国境の長いトンネルを抜けると雪国であった"]:
        words = [str(word) for word in fugashi.Tagger()(text)]
        parts = divided(family, text)
        assert "".join(parts) == family[1](text)
        assert parts == list(map(family[1], [" " * (text[0] == " ") + words[0], *words[1:]]))
