"""Length and script ratio, against counts by hand and by `unicodedata`."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.filters.language import Language
from tsugiki.corpus.filters.length import Length
from tsugiki.scripts import check_script, scripts_of

JAPANESE = ("hiragana", "katakana", "han")


def test_length_counts_characters_and_bytes_and_names_the_rule() -> None:
    length = Length(min_characters=2, max_characters=4, min_bytes=5, max_bytes=9)
    sizes = {
        text: length.failed(len(text), len(text.encode()))
        for text in ("あ", "あい", "ab", "あいう", "あいうe", "abcde")
    }
    assert sizes == {
        "あ": "min_characters", "あい": None, "ab": "min_bytes", "あいう": None, "あいうe": "max_bytes", "abcde": "max_characters",
    }  # fmt: skip
    assert Length().failed(0, 0) is None


@given(st.text(alphabet="あカ漢aé1 。́ー한", max_size=60), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_the_share_is_that_of_a_loop_over_letters(text: str, least: float) -> None:
    letters = [one for one in text if unicodedata.category(one)[0] in "LM"]
    own = [one for one in letters if one in "あカ漢ー"]
    failed = len(own) < least * max(len(letters), 1)
    assert (Language(JAPANESE, least).failed(text) is not None) == failed


def test_kana_tell_japanese_from_chinese() -> None:
    japanese = Language(JAPANESE, 0.5, {"hiragana": 0.1})
    assert japanese.failed("吾輩は猫である。名前はまだ無い。") is None
    assert japanese.failed("我是一只猫，还没有名字。") == "min_shares.hiragana"
    assert japanese.failed("I am a cat. 吾輩は") == "min_share"


def test_latin_is_a_script_here_and_a_misspelt_one_is_named() -> None:
    assert Language(("latin",), 0.9).failed("Où est la bibliothèque?") is None
    assert Language(("latin",), 0.9).failed("Где библиотека?") == "min_share"
    with pytest.raises(ValueError, match="'hiragna' is not a script of Unicode"):
        check_script("hiragna")


@pytest.mark.parametrize(("language", "scripts"), [("ja", JAPANESE), ("en", ("latin",)), ("code", None)])
def test_a_language_knows_its_scripts(language: str, scripts: tuple[str, ...] | None) -> None:
    assert scripts_of(language) == scripts
