"""The keyed shuffle is a bijection, is what a plain loop over the same rule gives, and shuffles well."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.permutation import MAX_SIZE, ROUNDS, mix, permute

BITS = (1 << 64) - 1
EDGES = sorted({1, 2, 3, 5, *(2**power + step for power in range(2, 14) for step in (-1, 0, 1))})
keys = st.integers(0, BITS)


def naive_mix(state: int, index: int) -> int:
    """splitmix64's output number `index`, one number at a time."""
    x = (state + (index + 1) * 0x9E3779B97F4A7C15) & BITS
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & BITS
    return x ^ (x >> 31)


def naive_permute(key: int, size: int, position: int) -> int:
    """The rule in whole numbers of Python, one position at a time."""
    half = 1
    while 4**half < size:
        half += 1
    x = position
    while True:
        left, right = divmod(x, 2**half)
        for number in range(ROUNDS):
            y = ((right + naive_mix(key, number)) * 0xBF58476D1CE4E5B9) & BITS
            y = ((y ^ (y >> 32)) * 0x94D049BB133111EB) & BITS
            left, right = right, left ^ (y >> (64 - half))
        x = left * 2**half + right
        if x < size:
            return x


def test_mix_gives_the_published_outputs_of_splitmix64():
    # First outputs for seed 1234567, as in the reference C code by Sebastiano Vigna.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert mix(np.array([1234567], dtype=np.uint64), np.arange(4)).tolist() == expected


@pytest.mark.parametrize("size", EDGES)
def test_every_key_permutes_all_positions(size):
    for key in (0, 1, BITS):
        assert np.array_equal(np.sort(permute(key, size, np.arange(size))), np.arange(size))


@settings(deadline=None, max_examples=60)
@given(key=keys, size=st.integers(1, 3000))
def test_any_size_is_a_bijection(key, size):
    assert np.array_equal(np.sort(permute(key, size, np.arange(size))), np.arange(size))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(keys, st.integers(1, MAX_SIZE), st.integers(0, MAX_SIZE)), min_size=1, max_size=20))
def test_a_batch_of_different_keys_and_sizes_equals_one_at_a_time(items):
    key, size, position = zip(*((k, n, p % n) for k, n, p in items), strict=True)
    together = permute(np.array(key, dtype=np.uint64), size, position)
    assert together.tolist() == [naive_permute(*item) for item in zip(key, size, position, strict=True)]


def test_positions_and_sizes_out_of_range_are_refused():
    for size, position in ((5, 5), (5, -1), (0, 0), (MAX_SIZE + 1, 0)):
        with pytest.raises(ValueError, match=r"must be in"):
            permute(1, size, [position])
    assert permute(1, 5, []).tolist() == []


@pytest.mark.parametrize("size", [2, 3, 7, 16, 17, 100])
def test_over_many_keys_each_position_goes_everywhere_equally_often(size):
    count = 20_000
    state = mix(np.array([7], dtype=np.uint64), np.arange(count))  # as the epochs of one source get them
    images = permute(np.repeat(state, size), size, np.tile(np.arange(size), count)).reshape(count, size)
    table = np.zeros((size, size))
    np.add.at(table, (np.tile(np.arange(size), count), images.ravel()), 1)
    expected = count / size
    chi2 = ((table - expected) ** 2 / expected).sum()
    # A sum of random permutation matrices: (size-1)^2 degrees of freedom, each scaled by size / (size-1).
    assert abs(chi2 - size * (size - 1)) < 5 * np.sqrt(2) * size


@pytest.mark.parametrize("size", [100_003, 131_072, 65_537])
def test_within_one_shuffle_neighbours_are_unrelated_and_all_regions_mix(size):
    for key in (1, 2, 12345):
        order = permute(key, size, np.arange(size))
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 5 / np.sqrt(size)
        assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 5 / np.sqrt(size)
        cells = np.zeros((100, 100))
        np.add.at(cells, (np.arange(size) * 100 // size, order * 100 // size), 1)
        expected = size / 10_000
        chi2 = ((cells - expected) ** 2 / expected).sum()
        assert abs(chi2 - 99**2) < 5 * np.sqrt(2 * 99**2)
        assert len(np.unique(np.diff(order))) > size / 3  # a lattice would repeat a few differences


def test_shuffles_of_two_keys_are_unrelated():
    size = 50_021
    one, other = permute(1, size, np.arange(size)), permute(2, size, np.arange(size))
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(size)
    assert np.count_nonzero(one == other) < 10  # one expected
