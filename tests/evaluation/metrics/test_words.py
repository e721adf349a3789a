"""Words are those of the named splitter and dictionary, and the signature says which."""

import sys
from importlib.metadata import version

import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.metrics.words import words

TEXTS = [
    "国境の長いトンネルを抜けると雪国であった。",
    "ＧＤＰは２．５％増えた",
    "Tokyo で 3 泊",
    " 吾輩は猫\n",
    "",
    " ",
    "\n",
]


@pytest.fixture(autouse=True)
def _nothing_cached():
    words.cache_clear()
    yield
    words.cache_clear()


def test_mecab_words_are_those_of_unidic_lite_in_nfkc():
    fugashi = pytest.importorskip("fugashi", reason="the extra eval")
    unidic_lite = pytest.importorskip("unidic_lite", reason="the extra eval")
    tagger = fugashi.Tagger(f'-d "{unidic_lite.DICDIR}" -r "{unidic_lite.DICDIR}/mecabrc"')
    split = words("mecab").split
    assert (
        split(TEXTS[0])
        == [str(word) for word in tagger(TEXTS[0])]
        == ["国境", "の", "長い", "トンネル", "を", "抜ける", "と", "雪国", "で", "あっ", "た", "。"]
    )
    assert split("ＧＤＰは２．５％増えた") == split("GDPは2.5%増えた")
    assert split("猫\0犬") == ["猫", "犬"]
    assert [split(text) for text in TEXTS[-3:]] == [[], [], []]
    assert words("mecab").signature == f"mecab-unidic-lite-{version('unidic-lite')}-nfkc"


def test_nagisa_words_are_those_of_its_tagger():
    nagisa = pytest.importorskip("nagisa", reason="the extra eval")
    for text in TEXTS:
        assert words("nagisa").split(text) == nagisa.tagging(text.strip()).words
    assert words("nagisa").split("犬 と") == ["犬", "\u3000", "と"]
    assert words("nagisa").signature == f"nagisa-{version('nagisa')}"


def test_characters_are_all_but_spaces():
    assert words("character").split("ＡB か\u3099\u3000。\n") == ["A", "B", "が", "。"]
    assert words("character").split("") == []


def test_a_splitter_is_loaded_once():
    pytest.importorskip("nagisa", reason="the extra eval")
    assert words("nagisa") is words("nagisa")


def test_another_name_is_refused():
    with pytest.raises(RecipeError, match="mecab, nagisa or character, not 'juman'"):
        words("juman")


@pytest.mark.parametrize(("name", "module"), [("mecab", "fugashi"), ("mecab", "unidic_lite"), ("nagisa", "nagisa")])
def test_the_missing_extra_is_named(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecipeError, match=rf"^{module} is needed .*tsugiki\[eval\]"):
        words(name)
