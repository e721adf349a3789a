"""Sketches agree as often as sets are similar, and pairs are found as often as independent hash functions find them."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.filters.codepoints import codes_of
from tsugiki.corpus.filters.signatures import BLOCK, Signature, exact_hash, mixed, ngrams, sketch


def expected(similarity: float, hashes: int = 20, buckets: int = 40) -> float:
    return 1 - (1 - similarity**hashes) ** buckets


def pair(size: int, common: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of `size` hashes that have `common` in common: J = common / (2 size - common)."""
    items = np.random.default_rng(seed).integers(0, 2**63, 2 * size - common, dtype=np.uint64)
    return items[:size], items[size - common :]


@pytest.mark.parametrize("size", [40, 400, 4_000])
@pytest.mark.parametrize("similarity", [0.5, 0.9])
def test_a_place_agrees_with_the_probability_of_the_similarity(size: int, similarity: float) -> None:
    """Small sets need rounds, of which the large ones need none."""
    common = round(2 * size * similarity / (1 + similarity))
    exact, agree = common / (2 * size - common), []
    for seed in range(60):
        one, other = pair(size, common, seed)
        agree.append(float(np.mean(sketch(one, 800) == sketch(other, 800))))
    # 800 places of 60 pairs; those of one pair are not independent, so the spread is taken from the pairs themselves.
    assert abs(np.mean(agree) - exact) < 4 * np.std(agree) / 60**0.5 + 1e-9


@pytest.mark.parametrize("size", [60, 1_000])
@pytest.mark.parametrize("similarity", [0.75, 0.85, 0.92])
def test_pairs_are_found_as_often_as_by_independent_hash_functions(size: int, similarity: float) -> None:
    common = round(2 * size * similarity / (1 + similarity))
    pairs = 250
    found = 0
    for seed in range(pairs):
        places = [sketch(side, 800).reshape(40, 20) for side in pair(size, common, seed)]
        found += bool((places[0] == places[1]).all(axis=1).any())
    probability = expected(common / (2 * size - common))
    assert abs(found - pairs * probability) < 4 * (pairs * probability * (1 - probability)) ** 0.5 + 3


def naive_sketch(items: set[int], places: int) -> list[int]:
    """Round after round, item after item."""
    found: dict[int, int] = {}
    step = 0
    while len(found) < places:
        now: dict[int, int] = {}
        for item in items:
            number = int(mixed(np.array([(item + step * 0x94D049BB133111EB) % 2**64], np.uint64))[0])
            place = (number >> 32) * places >> 32
            now[place] = min(now.get(place, 2**64), step << 32 | number & 0xFFFFFFFF)
        for place, number in now.items():
            found.setdefault(place, number)
        step += 1
    return [found[place] for place in range(places)]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_a_sketch_is_that_of_a_loop_over_rounds_and_items(items: list[int], places: int) -> None:
    assert sketch(np.array(items, np.uint64), places).tolist() == naive_sketch(set(items), places)


def test_a_sketch_knows_neither_order_nor_number_nor_blocks() -> None:
    items = np.random.default_rng(0).integers(0, 2**63, BLOCK + 100, dtype=np.uint64)
    shuffled = np.random.default_rng(1).permutation(np.concatenate([items, items[:50]]))
    assert np.array_equal(sketch(items, 800), sketch(shuffled, 800))


@given(st.text(max_size=30), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_ngrams_are_equal_where_the_strings_are(text: str, n: int) -> None:
    hashes = ngrams(codes_of(text), n).tolist()
    strings = [text[i : i + n] for i in range(len(text) - n + 1)] or [text]
    assert len(hashes) == len(strings)
    assert len(set(hashes)) == len(set(strings))


@pytest.mark.parametrize("text", ["", "a", "abcd", "a" * 50_000])
def test_every_text_has_keys(text: str) -> None:
    keys = Signature().keys(text)
    assert keys.shape == (40,)
    assert np.array_equal(keys, Signature().keys(text))
    assert not np.any(keys == Signature().keys(text + "終わりの文はここにある。"))


def test_a_changed_word_in_a_page_is_found_and_another_page_is_not() -> None:
    draw = random.Random(0)
    page = "".join(chr(0x3042 + draw.randrange(80)) for _ in range(3_000))
    other = "".join(chr(0x3042 + draw.randrange(80)) for _ in range(3_000))
    keys = Signature().keys(page)
    assert np.any(keys == Signature().keys(page[:1_000] + "別の言葉" + page[1_004:]))
    assert not np.any(keys == Signature().keys(other))
    assert exact_hash(page.encode()) != exact_hash((page + " ").encode())


def test_other_numbers_of_hashes_and_buckets_are_taken() -> None:
    assert Signature(3, 4, 7).keys("これは短い文です").shape == (7,)
