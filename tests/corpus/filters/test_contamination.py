"""Stretches of evaluation sets are found wherever they stand, and by nothing else, beside a search for strings."""

import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.filters.contamination import PIECE, Index, Normal, Stretch, build, rolling

SHORT = Stretch(words=3, characters=4)


def words_of(text: str) -> list[str]:
    letters = [
        one if unicodedata.category(one)[0] in "LMN" else " " for one in unicodedata.normalize("NFKC", text).casefold()
    ]
    return "".join(letters).split()


def naive_hit(item: str, document: str, stretch: Stretch) -> bool:
    """Whether a document has a stretch of an item, by comparing lists of words and strings of letters."""
    words, letters = words_of(item), "".join(words_of(item))
    spaced = 2 * sum("ぁ" <= one <= "ヿ" or "一" <= one <= "鿿" for one in letters) <= len(letters)
    mine = words if spaced else list(letters)
    theirs = words_of(document) if spaced else list("".join(words_of(document)))
    n = stretch.words if spaced else stretch.characters
    stretches = {tuple(mine[i : i + n]) for i in range(len(mine) - n + 1)}
    return any(tuple(theirs[i : i + n]) in stretches for i in range(len(theirs) - n + 1))


MIXED = st.text(alphabet="ab Ａ漢かが゙.\n1", max_size=25)


@given(st.lists(MIXED, min_size=1, max_size=4), MIXED)
@settings(max_examples=200, deadline=None)
def test_hits_are_those_of_a_search_for_words_and_letters(tmp_path_factory, items: list[str], document: str) -> None:
    folder = tmp_path_factory.mktemp("index")
    build(folder, {"set": [[item] for item in items]}, SHORT)
    found = Index(folder, SHORT).find(document)
    assert (found is not None) == any(naive_hit(item, document, SHORT) for item in items)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 33))
@settings(max_examples=100, deadline=None)
def test_stretches_are_equal_where_their_items_are(items: list[int], length: int) -> None:
    hashes = rolling(np.array(items, np.uint64), length).tolist()
    lists = [tuple(items[i : i + length]) for i in range(len(items) - length + 1)]
    assert len(hashes) == len(lists)
    assert len(set(hashes)) == len(set(lists))


QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
PARAGRAPH = "夏目漱石は、明治の末から大正の初めにかけて活躍した近代日本文学の頂点に立つ作家の一人である。"


@pytest.fixture
def index(tmp_path: Path) -> Index:
    counts = build(tmp_path, {"sums": [[QUESTION, "72"]], "reading": [[PARAGRAPH], ["短い問い"]]}, Stretch())
    assert counts == {"sums": (1, 1), "reading": (2, 1)}
    return Index(tmp_path, Stretch())


@pytest.mark.parametrize(
    ("document", "number"),
    [
        (f"Some page. {QUESTION} And more.", 0),
        (f"x\n{QUESTION.upper().replace(' ', chr(10)).replace(',', ' -- ')}\ny", 0),
        (f"引用：{PARAGRAPH}以上", 1),
        (f"引用{PARAGRAPH.replace('、', ' ').replace('の', 'の' + chr(10))}", 1),
        (unicodedata.normalize("NFKD", PARAGRAPH), 1),
    ],
    ids=["words", "case, line ends and marks", "characters", "spaces between", "another form of Unicode"],
)
def test_a_quoted_item_is_found_in_whatever_dress(index: Index, document: str, number: int) -> None:
    hit = index.find(document)
    assert hit is not None
    assert hit.set_number == number


def test_twelve_words_and_twenty_nine_characters_are_no_stretch(index: Index) -> None:
    assert index.find("unlike this " + " ".join(QUESTION.split()[:12])) is None
    assert index.find("unlike this " + " ".join(QUESTION.split()[:13])) is not None
    letters = "".join(words_of(PARAGRAPH))
    assert index.find("前書き" + letters[:29] + "後書き") is None
    assert index.find("前書き" + letters[:30] + "後書き") is not None


def test_a_hit_shows_the_stretch(index: Index) -> None:
    hit = index.find(f"Before. {QUESTION} After.")
    assert hit is not None
    assert hit.text == "Natalia sold clips to 48 of her friends in April, and then she"


@pytest.mark.parametrize("place", [0, PIECE - 60, PIECE - 20, PIECE, 2 * PIECE + 5])
def test_a_stretch_is_found_at_every_cut_of_a_long_document(index: Index, place: int) -> None:
    draw = random.Random(place)
    text = "".join(draw.choice("abcdefg hij ") for _ in range(3 * PIECE))
    assert index.find(text) is None
    assert index.find(f"{text[:place]} {QUESTION} {text[place:]}") is not None


def test_no_evaluation_set_means_no_hit(tmp_path: Path) -> None:
    build(tmp_path, {}, Stretch())
    assert Index(tmp_path, Stretch()).find(QUESTION) is None


def test_an_empty_text_is_normal() -> None:
    assert Normal("").words(2).tolist() == Normal("。、").characters(2).tolist() == []
