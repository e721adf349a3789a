"""Counts of tokens against the libraries themselves, one text at a time; and tokenizers side by side."""

import io
import json
import math
from collections import Counter

import numpy as np
import pytest
from extended_tokenizers import ENGLISH, JAPANESE, PAIRS
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tsugiki.errors import DataError
from tsugiki.vocabulary.fertility import Comparison, Fertility, compare, draw_comparison, measure, measure_together

TEXTS = [*JAPANESE, *ENGLISH, "", "</s> is text, and 😀 is four bytes"]


@pytest.fixture(scope="module", params=list(PAIRS))
def pair(request, tmp_path_factory):
    return PAIRS[request.param](tmp_path_factory.mktemp("pair"))


def library_ids(tokenizer, text: str) -> list[int]:
    """By the library that the file is for, without our code."""
    path = tokenizer.engine.path
    if path.name == "tokenizer.json":
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(path)).encode(text)


def test_counts_are_those_of_the_library_text_by_text(pair):
    for tokenizer in pair:
        fertility, uses = measure(tokenizer, iter(TEXTS))
        expected = Counter(token for text in TEXTS for token in library_ids(tokenizer, text))
        assert {token: int(uses[token]) for token in np.flatnonzero(uses)} == expected
        assert uses.shape == (tokenizer.vocabulary_size,)
        assert fertility == Fertility(
            expected.total(), sum(map(len, TEXTS)), sum(len(text.encode()) for text in TEXTS), len(TEXTS)
        )


def test_several_tokenizers_read_the_texts_once_and_count_as_each_alone(pair):
    together = measure_together(pair, iter(TEXTS))  # an iterator gives its texts once
    for tokenizer, (fertility, uses) in zip(pair, together, strict=True):
        alone, uses_alone = measure(tokenizer, TEXTS)
        assert fertility == alone
        assert np.array_equal(uses, uses_alone)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=6), st.lists(st.text(max_size=20), max_size=6))
def test_measuring_is_additive_over_documents(pair, some, others):
    tokenizer = pair[1]
    (first, first_uses), (second, second_uses) = measure(tokenizer, some), measure(tokenizer, others)
    both, uses = measure(tokenizer, some + others)
    assert both == first + second
    assert np.array_equal(uses, first_uses + second_uses)


def test_quotients():
    fertility = Fertility(tokens=6, characters=8, bytes=24, documents=1)
    assert fertility.tokens_per_character == 0.75
    assert fertility.bytes_per_token == 4
    assert fertility.characters_per_token == pytest.approx(4 / 3)
    assert math.isnan(Fertility().tokens_per_character)
    assert Fertility().to_json()["bytes_per_token"] is None
    json.dumps(Fertility().to_json(), allow_nan=False)


def test_an_error_of_the_reader_is_raised_and_ends_the_reading(pair):
    read = []

    def texts():
        for number in range(1000):
            if number == 40:
                raise DataError("corpus.jsonl:41: not JSON")
            read.append(number)
            yield "川"

    with pytest.raises(DataError, match=r"corpus\.jsonl:41"):
        measure(pair[0], texts())
    assert len(read) == 40


def test_an_error_of_the_tokenizer_stops_all_threads(pair):
    read = []

    def texts():
        for number in range(1_000_000):
            read.append(number)
            yield "\ud800" if number == 5 else "川"

    with pytest.raises(UnicodeEncodeError):
        measure(pair[0], texts())
    assert len(read) < 100_000


def test_comparison_by_source_and_in_all(pair):
    base, extended = pair
    comparison = compare({"base": base, "new": extended}, {"ja": iter(JAPANESE), "en": iter(ENGLISH)})
    assert comparison.sizes == {"base": base.vocabulary_size, "new": extended.vocabulary_size}
    tokens = {
        name: [sum(len(library_ids(tokenizer, text)) for text in texts) for texts in (JAPANESE, ENGLISH)]
        for name, tokenizer in (("base", base), ("new", extended))
    }
    for name, (japanese, english) in tokens.items():
        assert comparison.sources["ja"][name].tokens == japanese
        assert comparison.sources["en"][name].tokens == english
        assert comparison.total[name].tokens == japanese + english
    assert tokens["new"][0] < tokens["base"][0]
    assert tokens["new"][1] == tokens["base"][1]
    assert json.loads(json.dumps(comparison.to_json()))["total"]["new"]["tokens"] == sum(tokens["new"])


def test_source_without_text_is_named(pair):
    with pytest.raises(DataError, match="nothing: no text in it"):
        compare({"base": pair[0]}, {"ja": JAPANESE, "nothing": [""]})


@pytest.mark.parametrize("width", [80, 120])
def test_comparison_shows_every_figure(width):
    comparison = Comparison(
        {"base": 32_000, "runs/ja/vocabulary/tokenizer": 42_880},
        {
            "ja": {
                "base": Fertility(1200, 1000, 3000, 1), "runs/ja/vocabulary/tokenizer": Fertility(600, 1000, 3000, 1),
            },
            "all": {  # also the name of a file
                "base": Fertility(250, 1000, 1000, 1), "runs/ja/vocabulary/tokenizer": Fertility(250, 1000, 1000, 1),
            },
        },
    )  # fmt: skip
    stream = io.StringIO()
    Console(file=stream, width=width).print(draw_comparison(comparison))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    rows = [line.split() for line in lines if "0." in line or "1." in line]
    assert [row[-4:] for row in rows] == [
        ["32,000", "1.200", "2.50", "1.000"], ["42,880", "0.600", "5.00", "0.500"],
        ["32,000", "0.250", "4.00", "1.000"], ["42,880", "0.250", "4.00", "1.000"],
        ["32,000", "0.725", "2.76", "1.000"], ["42,880", "0.425", "4.71", "0.586"],
    ]  # fmt: skip
    assert [row[0] for row in rows][::2] == ["ja", "all", "all"]
