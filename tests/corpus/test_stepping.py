"""Stepping over samples, against lists of all numbers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.corpus.stepping import below, merged, reached, sample_numbers

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6)


def numbers_in(skipped) -> set[int]:
    return {number for first, end in skipped for number in range(first, end)}


@given(ranges)
def test_merged_ranges_are_the_same_numbers_in_order_with_gaps_between(skipped):
    found = merged(skipped)
    assert numbers_in(found) == numbers_in(skipped)
    assert all(first < end for first, end in found)
    assert all(left[1] < right[0] for left, right in pairwise(found))


@given(ranges, st.integers(0, 80))
def test_places_are_the_numbers_in_no_range_in_their_order(skipped, count):
    kept = [number for number in range(count + 80) if number not in numbers_in(skipped)][:count]
    found = merged(skipped)
    assert sample_numbers(np.arange(count), found).tolist() == kept
    assert sample_numbers(np.arange(count)[::-1], found).tolist() == kept[::-1]
    assert reached(count, found) == (kept[-1] + 1 if kept else 0)


@given(ranges, st.integers(0, 70))
def test_what_lies_before_a_number_is_cut_there(skipped, number):
    assert numbers_in(below(merged(skipped), number)) == {n for n in numbers_in(skipped) if n < number}


@given(ranges, st.integers(0, 60), st.integers(1, 9))
def test_a_range_changes_nothing_before_it(skipped, first, length):
    old, new = merged(skipped), merged([*skipped, (first, first + length)])
    count = sum(number not in numbers_in(skipped) for number in range(first))
    places = np.arange(count)
    assert sample_numbers(places, old).tolist() == sample_numbers(places, new).tolist()
    assert below(old, reached(count, old)) == below(new, reached(count, old))


@pytest.mark.parametrize("places", [[], [0], [3, 2**61]])
def test_without_a_range_a_place_is_the_sample_of_its_number(places):
    assert sample_numbers(places, ()).tolist() == places
