"""Text is divided where MeCab says that words end; nothing is lost."""

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tsugiki.errors import RecipeError
from tsugiki.vocabulary.words import word_divider

STRETCHES = ["吾輩は猫である", " 吾輩は猫", "川", "(吾輩"]


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
def test_a_stretch_is_cut_where_words_end(monkeypatch, text, parsed, expected):
    pretend(monkeypatch, lambda given: parsed if given == text else pytest.fail(given))
    assert word_divider()(text) == expected


@pytest.mark.parametrize("missing", ["library", "dictionary"])
def test_the_missing_extra_is_named_with_its_install_command(monkeypatch, missing):
    def fail(_options: str) -> None:
        raise RuntimeError("Failed initializing MeCab.")

    monkeypatch.setitem(sys.modules, "fugashi", None if missing == "library" else SimpleNamespace(Tagger=fail))
    with pytest.raises(RecipeError, match=r"vocabulary\.split_words needs: pip install 'tsugiki\[ja\]'"):
        word_divider()


def test_real_words_end_where_mecab_says():
    fugashi = pytest.importorskip("fugashi", reason="the extra ja")
    pytest.importorskip("unidic_lite", reason="the extra ja")
    for text in [*STRETCHES, "国境の長いトンネルを抜けると雪国であった"]:
        words = [str(word) for word in fugashi.Tagger()(text)]
        parts = word_divider()(text)
        assert "".join(parts) == text
        assert parts == [" " * (text[0] == " ") + words[0], *words[1:]]
