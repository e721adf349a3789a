"""The figures of the quality rules against loops over characters, and every published threshold from both sides."""

import re
from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tsugiki.corpus.filters.quality import RULES, SWALLOW_V1, Figures, Quality

# Few letters, so that everything occurs again; marks, blank lines and a kanji beyond U+FFFF among them.
TEXTS = st.text(alphabet="あいアー漢𠮷a 。！?、…・\n　", min_size=1, max_size=120)


def naive_ngrams(text: str, n: int) -> tuple[float, float]:
    counts = Counter(text[i : i + n] for i in range(len(text) - n + 1))
    if not counts:
        return 0.0, 0.0
    return max(counts.values()) / sum(counts.values()), sum(c > 1 for c in counts.values()) / len(counts)


def naive_sentences(line: str) -> list[str]:
    """What stands between marks, with the mark that ends it; marks that follow a mark are nobody's."""
    found, now = [], ""
    for letter in line:
        if letter in "。．！？!?":
            found += [now + letter] if now else []
            now = ""
        else:
            now += letter
    return [one for one in [*found, now] if one.strip()]


def naive_repeats(items: list[str]) -> tuple[float, float]:
    before: set[str] = set()
    number = characters = 0
    for item in items:
        if item in before:
            number, characters = number + 1, characters + len(item)
        before.add(item)
    total = sum(map(len, items))
    return number / len(items) if items else 0.0, characters / total if total else 0.0


@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_ngrams_are_those_of_a_count_of_strings(text: str) -> None:
    figures = Figures(text)
    for n in range(2, 11):
        top, repeated = naive_ngrams(text, n)
        if n <= 4:
            assert figures.value(f"top_{n}gram") == top
        else:
            assert figures.value(f"duplicate_{n}grams") == repeated


@example("".join(map(chr, range(0x3042, 0x3070))) * 2)
@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_what_is_not_counted_is_not_exceeded(text: str) -> None:
    for n in range(2, 11):
        figures, names = Figures(text), [f"top_{n}gram"] if n <= 4 else [f"duplicate_{n}grams"]
        for known in range(2, n):
            figures._ngrams._count(known)
            assert all(figures.ceiling(name) >= figures.value(name) for name in names)
            figures._ngrams._counts.pop(n)


@given(TEXTS, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_rule_that_is_kept_without_a_count_is_kept_with_one(text: str, top: float, repeated: float) -> None:
    rules = Quality(max_top_2gram=1.0, max_top_3gram=top, max_duplicate_5grams=1.0, max_duplicate_8grams=repeated)
    expected = [
        ("max_top_3gram", naive_ngrams(text, 3)[0] > top),
        ("max_duplicate_8grams", naive_ngrams(text, 8)[1] > repeated),
    ]
    assert list(rules.failures(text)) == [rule for rule, broken in expected if broken]


@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_sentences_and_paragraphs_are_those_of_a_loop_over_characters(text: str) -> None:
    lines = [sentences for line in text.split("\n") if (sentences := naive_sentences(line))]
    sentences = [one for line in lines for one in line]
    figures = Figures(text)
    paragraphs = naive_repeats(["".join(line) for line in lines])
    assert (figures.duplicate_paragraphs, figures.duplicate_paragraph_characters) == paragraphs
    assert (figures.duplicate_sentences, figures.duplicate_sentence_characters) == naive_repeats(sentences)
    assert figures.sentence == max(map(len, sentences), default=0)
    assert figures.mean_sentence == (sum(map(len, sentences)) / len(sentences) if sentences else 0)
    dots = sum(one.strip()[-1] in "…・" for one in sentences)
    assert figures.ellipses == (dots / len(sentences) if sentences else 0)


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_letters_are_those_of_a_count_by_code_point(text: str) -> None:
    hiragana, katakana = len(re.findall("[ぁ-ゖ]", text)), len(re.findall("[ァ-ヺ]", text))
    kanji = len(re.findall("[々〇〻\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]", text))
    japanese = hiragana + katakana + kanji + len(re.findall("[、，。．！？]", text))
    figures = Figures(text)
    assert figures.japanese_characters == japanese
    assert figures.japanese == japanese / len(text)
    assert figures.hiragana == (hiragana / japanese if japanese else 0)
    assert figures.katakana == (katakana / japanese if japanese else 0)


def test_the_preset_has_the_published_thresholds() -> None:
    assert asdict(SWALLOW_V1) == {
        "min_characters": 400, "min_japanese_characters": 400, "min_japanese": 0.5, "min_hiragana": 0.2,
        "max_katakana": 0.5, "min_mean_sentence": 20, "max_mean_sentence": 90, "max_sentence": 200, "max_ellipses": 0.2,
        "max_duplicate_paragraphs": 0.3, "max_duplicate_paragraph_characters": 0.2, "max_duplicate_sentences": 0.3,
        "max_duplicate_sentence_characters": 0.2, "max_top_2gram": 0.2, "max_top_3gram": 0.18, "max_top_4gram": 0.16,
        "max_duplicate_5grams": 0.15, "max_duplicate_6grams": 0.14, "max_duplicate_7grams": 0.13,
        "max_duplicate_8grams": 0.12, "max_duplicate_9grams": 0.11, "max_duplicate_10grams": 0.1,
    }  # fmt: skip


def sentences(count: int, length: int, *, ending: str = "。", repeat: int = 1) -> str:
    """Lines of one sentence each, made of kanji that follow no pattern and kana; each line `repeat` times."""
    state, lines = 1, []
    for _ in range(count):
        line = ""
        for place in range(length - 1):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            line += chr(0x4E00 + (state >> 8) % 20000) if place % 3 else chr(0x3042 + 2 * ((state >> 8) % 20))
        lines += [line + ending] * repeat
    return "\n".join(lines)


CASES = [
    ("min_characters", sentences(9, 43)),
    ("min_japanese_characters", sentences(9, 43) + "abc " * 20),
    ("min_japanese", sentences(20, 40) + "abcd efgh\n" * 100),
    ("min_hiragana", sentences(20, 40).translate({code: 0x4E00 + code for code in range(0x3040, 0x30A0)})),
    ("max_katakana", sentences(30, 40).translate({0x4E00 + i: 0x30A1 + i % 89 for i in range(20000)})),
    ("min_mean_sentence", sentences(40, 15)),
    ("max_mean_sentence", sentences(10, 95)),
    ("max_sentence", sentences(20, 40) + "\n" + sentences(1, 201)),
    ("max_ellipses", sentences(20, 40) + "\n" + sentences(26, 40, ending="…")[820:]),
    ("max_duplicate_paragraphs", sentences(20, 40, repeat=2)),
]


@pytest.mark.parametrize(("rule", "text"), CASES, ids=[rule for rule, _ in CASES])
def test_a_document_is_removed_by_the_rule_that_it_breaks(rule: str, text: str) -> None:
    assert SWALLOW_V1.failed(text) == rule
    assert rule in RULES


def test_prose_that_breaks_no_rule_stays_with_blank_lines_between_paragraphs() -> None:
    assert SWALLOW_V1.failed(sentences(30, 40)) is None
    assert SWALLOW_V1.failed(sentences(30, 40).replace("\n", "\n\n")) is None


def test_a_threshold_is_what_still_passes() -> None:
    text = sentences(20, 40)
    assert Quality(max_sentence=40, min_mean_sentence=40, max_mean_sentence=40).failed(text) is None
    assert Quality(max_sentence=39).failed(text) == "max_sentence"
    assert Quality(min_characters=len(text)).failed(text) is None
    assert Quality(min_characters=len(text) + 1).failed(text) == "min_characters"


@pytest.mark.parametrize("text", ["。。。", " ", "\n\n", "a", ""])
def test_a_text_without_sentences_or_ngrams_has_figures(text: str) -> None:
    assert list(SWALLOW_V1.failures(text))
