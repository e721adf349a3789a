"""Packs are those of best-fit decreasing as a textbook writes it, one conversation after another."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tsugiki.corpus.packing import best_fit_decreasing
from tsugiki.errors import DataError


def naive(lengths: list[int], sequence_length: int) -> list[list[int]]:
    """Each conversation into the pack that it fills best, the first of several."""
    packs: list[list[int]] = []
    rooms: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        fitting = [pack for pack, room in enumerate(rooms) if room >= lengths[index]]
        if not fitting:
            packs.append([])
            rooms.append(sequence_length)
            fitting = [len(packs) - 1]
        best = min(fitting, key=lambda pack: (rooms[pack], pack))
        packs[best].append(index)
        rooms[best] -= lengths[index]
    return packs


def as_lists(packing) -> list[list[int]]:
    return (
        [part.tolist() for part in np.split(packing.documents, packing.starts[1:-1])] if len(packing.starts) > 1 else []
    )


@st.composite
def corpora(draw) -> tuple[list[int], int]:
    """Lengths up to a window's, few of them different now and then, so that rooms of equal size meet."""
    sequence_length = draw(st.integers(1, 40))
    few = draw(st.lists(st.integers(1, sequence_length), min_size=1, max_size=4))
    length = draw(st.sampled_from([st.integers(1, sequence_length), st.sampled_from(few)]))
    return draw(st.lists(length, max_size=80)), sequence_length


@settings(deadline=None, max_examples=400)
@given(corpora())
@example(([3, 3, 3, 3, 3, 2, 2, 2, 1], 8))
@example(([5, 5, 5, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2], 10))
def test_packs_equal_a_naive_best_fit_decreasing(case):
    lengths, sequence_length = case
    packing = best_fit_decreasing(np.array(lengths, np.int64), sequence_length)
    assert as_lists(packing) == naive(lengths, sequence_length)
    assert sorted(packing.documents.tolist()) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in pack) <= sequence_length for pack in as_lists(packing))


def test_many_conversations_of_real_sizes_equal_the_naive_packs_too():
    rng = np.random.default_rng(5)
    lengths = np.clip(np.exp(rng.normal(5.0, 1.0, 1500)), 1, 1024).astype(np.int64)
    packing = best_fit_decreasing(lengths, 1024)
    assert as_lists(packing) == naive(lengths.tolist(), 1024)
    assert 1 - lengths.sum() / (1024 * (len(packing.starts) - 1)) < 0.01


def test_a_conversation_that_fits_no_window_is_refused_with_the_numbers():
    with pytest.raises(
        DataError, match=r"2 of 3 conversations are longer than a window of 8 tokens \(the longest has 10\)"
    ):
        best_fit_decreasing(np.array([9, 8, 10]), 8)
    with pytest.raises(DataError, match="without a token"):
        best_fit_decreasing(np.array([0, 1]), 8)


def test_no_conversation_needs_no_pack():
    packing = best_fit_decreasing(np.zeros(0, np.int64), 8)
    assert (packing.starts.tolist(), packing.documents.tolist()) == ([0], [])
