"""The built-in items: the same for ever, as they are said to be, and new to the quickstart's model."""

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import xxhash

from tsugiki.evaluation.probes.arithmetic import arithmetic, result, word_problems
from tsugiki.evaluation.probes.cloze import cloze
from tsugiki.evaluation.probes.copying import copying, copying_from
from tsugiki.evaluation.probes.items import Probe, ProbeItem
from tsugiki.evaluation.probes.next_sentence import cut, next_sentence
from tsugiki.evaluation.probes.order import exchanged, order, order_from
from tsugiki.evaluation.probes.suite import quick_suite
from tsugiki.quickstart.corpora import embedded_corpora, read_file

DIGESTS = {
    "arithmetic": "74b37dee1c844635",
    "order_en": "2eb1057ec1637488",
    "order_ja": "a8373980d962f15a",
    "copying_en": "6b57087a8cd9e466",
    "cloze_en": "ed1b083393e3a37b",
    "word_problems_en": "093edb8859c38e68",
    "copying_ja": "ebe5354f2c23199e",
    "cloze_ja": "cf61c0c1eeba3440",
    "word_problems_ja": "c6738b172b5e8796",
}
"""Of name, version and items: who changes an item raises the version, since figures no longer compare."""


def texts(directory: Path) -> dict[str, list[str]]:
    """All that a quickstart may train on, by source."""
    return {
        corpus.name: [document.text for path in corpus.files() for document in read_file(path)]
        for corpus in embedded_corpora(directory)
    }


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return texts(tmp_path_factory.mktemp("embedded"))


@pytest.mark.parametrize("probe", quick_suite(["ja", "en"]), ids=lambda probe: probe.name)
def test_built_in_items_are_the_same_for_ever(probe: Probe) -> None:
    assert xxhash.xxh3_64_hexdigest(repr(probe).encode()) == DIGESTS[probe.name]


@pytest.mark.parametrize("probe", quick_suite(["ja", "en"]), ids=lambda probe: probe.name)
def test_no_place_among_the_choices_is_favoured_and_no_item_repeats(probe: Probe) -> None:
    count = len(probe.items)
    assert count == 120 or (probe.name.startswith("order") and count >= 110)
    assert {len(item.choices) for item in probe.items} == {4}
    assert probe.chance == 0.25
    assert min(Counter(item.label for item in probe.items)[place] for place in range(4)) >= 18
    assert len({item.id for item in probe.items}) == count
    assert len({(item.context, item.truth) for item in probe.items}) == count


@pytest.mark.parametrize("language", ["en", "ja"])
def test_no_sentence_of_a_cloze_stands_in_the_quickstarts_text(language: str, embedded: dict[str, list[str]]) -> None:
    """Nor its end with what is just before it."""
    everything = "\n".join(text for texts in embedded.values() for text in texts).lower()
    before = 12 if language == "en" else 4
    for item in cloze(language).items:
        end = (item.context[-before:] + item.truth).lower().rstrip("。.!?")
        assert end not in everything, item
    assert "the kettle in our kitchen" in everything  # it is that text


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_cloze_asks_for_grammar_words_and_facts_alike(language: str) -> None:
    assert Counter(item.id.split("-")[0] for item in cloze(language).items) == dict.fromkeys(
        ("grammar", "words", "facts"), 40
    )


@pytest.mark.parametrize("language", ["en", "ja"])
def test_what_is_copied_is_the_rows_own_next_member(language: str) -> None:
    for item in copying(language).items:
        row, again = (line.replace("、", " ").split() for line in item.context.split("\n"))
        assert row[: len(again)] == again
        assert item.truth.strip(" 、") == row[len(again)]
        assert {choice.strip(" 、") for choice in item.choices} <= set(row)
        assert len(set(row)) == len(row) in (4, 6, 8)
        assert 1 <= len(again) < len(row)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_orders_are_of_the_same_words_and_the_true_one_is_the_clozes(language: str) -> None:
    sentences = {item.context + item.truth for item in cloze(language).items}
    for item in order(language).items:
        assert item.context + item.truth in sentences
        units = [choice.split() if language == "en" else list(choice) for choice in item.choices]
        assert len({tuple(sorted(parts)) for parts in units}) == 1
        assert len({parts[-1] for parts in units}) == 1  # the full stop gives nothing away
        truth = units[item.label]
        assert [sum(a != b for a, b in zip(parts, truth, strict=True)) for parts in units].count(2) == 3
        assert len({len(choice.encode()) for choice in item.choices}) == 1


def test_what_has_no_three_other_orders_is_left_out() -> None:
    assert exchanged(["a", "b", "c", "d", "e"], Random(1)) != exchanged(["a", "b", "c", "d", "e"], Random(2))
    assert len(exchanged(["a", "b", "c", "."], Random(1))) == 3
    assert len(exchanged(["a", "b", "."], Random(1))) == 1
    assert exchanged(["a", "a", "a", "."], Random(1)) == []
    assert exchanged([], Random(1)) == []


def test_orders_from_documents_are_of_words_or_of_whole_letters(embedded: dict[str, list[str]]) -> None:
    words, letters = (order_from("web", "xx", embedded[name]) for name in ("english", "japanese"))
    assert words is not None
    assert letters is not None
    for probe, source in ((words, "english"), (letters, "japanese")):
        assert len(probe.items) >= 90
        for item in probe.items:
            sentence = " ".join((item.context + item.truth).split())  # line breaks between words become spaces
            assert sum(sentence in " ".join(text.split()) for text in embedded[source]) == 1
            assert len({tuple(sorted(choice)) for choice in item.choices}) == 1
    assert all(len(choice.split()) == 7 for item in words.items[:5] for choice in item.choices)
    assert order_from("few", "xx", embedded["english"][:10]) is None


def test_sums_are_right_and_no_choice_is_told_by_its_length() -> None:
    for item in arithmetic().items:
        left, sign, right = re.fullmatch(r"(\d+) ([-+×]) (\d+) =", item.context).groups()
        assert int(item.truth) == eval(f"{left}{sign.replace('×', '*')}{right}")
        assert len({len(choice) for choice in item.choices}) == 1
        assert all(choice.startswith(" ") for choice in item.choices)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_word_problems_have_the_answer_that_their_two_numbers_give(language: str) -> None:
    """By the words that stand for each operation, not by the order in which they were made."""
    signs = {
        "×": ("boxes", "箱では"), "-": ("took", "missing", "取りました", "足りない"), "+": ("gets", "shelf", "もらい", "棚"),
    }  # fmt: skip
    for item in word_problems(language).items:
        left, right = map(int, re.findall(r"\d+", item.context))
        (sign,) = [sign for sign, words in signs.items() if any(word in item.context for word in words)]
        assert int(re.search(r"\d+", item.truth).group()) == result(sign, left, right)
        assert len({re.sub(r"\d+", "", choice) for choice in item.choices}) == 1
        assert len({len(choice) for choice in item.choices}) == 1


def test_differences_and_products_of_a_result() -> None:
    assert [result(sign, 9, 4) for sign in "+-×"] == [13, 5, 36]


# --- from documents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "context", "sentence"),
    [
        ("One came in. Two went out! Three stayed there.", "One came in. Two went out!", "Three stayed there."),
        ("彼は「もう帰ろう。」と言った。外はもう暗かった。", "彼は「もう帰ろう。」と言った。", "外はもう暗かった。"),
        ("कल वह घर गया। फिर उसने खाना खाया।", "कल वह घर गया।", "फिर उसने खाना खाया।"),
        ("สวัสดีครับ วันนี้อากาศดีมาก", "สวัสดีครับ", "วันนี้อากาศดีมาก"),
        ("def first():\n    return 1\n", "def first():", "return 1"),
        (
            "外は暗かった。もう夜だ。\n\n「帰ろうか」と父が言った。",
            "外は暗かった。もう夜だ。",
            "「帰ろうか」と父が言った。",
        ),
    ],
)
def test_a_document_is_cut_where_a_sentence_ends(document: str, context: str, sentence: str) -> None:
    before, space, after = cut(document)
    assert (before, after) == (context, sentence)
    assert before + space + after in document
    assert not space.strip()


@pytest.mark.parametrize("document", ["", "   ", "Short. Text.", "あ" * 500])
def test_what_has_no_two_parts_is_not_cut(document: str) -> None:
    assert cut(document) is None


def test_next_sentences_are_those_of_the_documents_and_the_others_come_from_other_documents(
    embedded: dict[str, list[str]],
) -> None:
    documents = embedded["english"]
    probe = next_sentence("essays", "de", documents)
    assert probe == next_sentence("essays", "de", documents)
    assert (probe.name, probe.language, len(probe.items)) == ("next_essays", "de", 100)
    for item in probe.items:
        (home,) = [text for text in documents if item.context in text]
        assert item.context + item.truth in home
        others = [choice for choice in item.choices if choice != item.truth]
        assert not any(choice.strip() in home for choice in others)
        assert len(item.context) <= 400
    assert next_sentence("few", "de", documents[:15]) is None


def test_copying_for_another_language_takes_its_words_from_the_documents(embedded: dict[str, list[str]]) -> None:
    probe = copying_from("essays", "de", embedded["english"])
    text = " ".join(embedded["english"])
    assert len(probe.items) == 120
    assert probe == copying_from("essays", "de", embedded["english"][::-1])
    for item in probe.items:
        assert all(re.search(rf"\b{word}\b" if len(word) > 1 else word, text) for word in item.context.split())
    assert copying_from("digits", "de", ["12 34", "56"]) is None


def test_the_suite_has_what_its_languages_have(embedded: dict[str, list[str]]) -> None:
    english = ["arithmetic", "order_en", "copying_en", "cloze_en", "word_problems_en"]
    japanese = ["order_ja", "copying_ja", "cloze_ja", "word_problems_ja"]
    assert [probe.name for probe in quick_suite([])] == english
    assert [probe.name for probe in quick_suite(["ja"])] == english + japanese
    sources = {"web": ("de", embedded["english"]), "wiki": ("ja", embedded["japanese"]), "few": ("fr", ["Bonjour."])}
    assert [probe.name for probe in quick_suite(["ja", "de", "fr"], sources)] == [
        *english, *japanese, "order_web", "copying_web", "next_web",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("context", "choices", "label"), [("", ("a", "b"), 0), ("x ", ("a", "b"), 0), ("x", ("a", "a"), 0), ("x", ("a", ""), 0), ("x", ("a", "b"), 2)],
)  # fmt: skip
def test_an_item_that_cannot_be_scored_is_refused(context: str, choices: tuple[str, ...], label: int) -> None:
    with pytest.raises(ValueError, match="item 7"):
        ProbeItem("7", context, choices, label)
