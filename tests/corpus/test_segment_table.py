"""The table of segments, beside a dictionary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus import segment_table
from tsugiki.corpus.segment_table import PROBES, SegmentTable, stretches


class Recorder:
    """Gives each key a value that is told from it, and remembers which it was asked for."""

    def __init__(self, keys: list[tuple[int, ...]]):
        self.keys, self.asked = keys, []

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        asked = [self.keys[number] for number in numbers.tolist()]
        self.asked += asked
        return np.array([value_of(key) for key in asked], np.uint64)


def value_of(key: tuple[int, ...]) -> int:
    return 1 + sum(part * 3**place for place, part in enumerate(key)) % 10**9


def words_of(keys: list[tuple[int, ...]], words: int) -> list[np.ndarray]:
    return [np.array([key[word] for key in keys], np.uint64) for word in range(words)]


@given(st.data(), st.integers(1, 4), st.sampled_from([3, 6, 12]))
@settings(max_examples=200)
def test_beside_a_dictionary(data, words, bits):
    """Calls with repeated and new keys, 0 and the largest among them, in tables that fill up: whatever has a value has
    its own, each new key is asked for once, and what is once in the table stays."""
    part = st.sampled_from([0, 1, 2, 1 << 16, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)
    batches = data.draw(st.lists(st.lists(st.tuples(*[part] * words), max_size=30), max_size=5))
    table, known = SegmentTable(words, bits), set()
    for keys in batches:
        found = table.find(words_of(keys, words)).tolist()
        assert found == [value_of(key) if key in known else 0 for key in keys]
        make = Recorder(keys)
        values = table.values(words_of(keys, words), make).tolist()
        assert len(set(make.asked)) == len(make.asked)
        assert known.isdisjoint(make.asked)
        known |= set(make.asked)
        assert values == [value_of(key) if key in known else 0 for key in keys]
        assert len(known) <= 1 << bits
        if bits == 12:
            assert all(values)
    assert table.is_full == (2 * len(known) > 1 << bits)
    table.clear()
    assert not table.is_full
    assert not any(table.find(words_of(keys, words)).any() for keys in batches)


def test_keys_that_want_one_slot():
    """Eight have room, in this call or another; the ninth has none, and does not loop."""
    table = SegmentTable(1, 16)
    keys = np.arange(200_000, dtype=np.uint64)
    slots = table._slots([keys])
    crowded = keys[slots == np.bincount(slots).argmax()]
    keys = np.concatenate([crowded, keys[(slots > slots[int(crowded[0])]) & (slots < slots[int(crowded[0])] + PROBES)]])
    assert len(keys) > PROBES
    for _ in range(2):
        values = table.values([keys], lambda numbers: keys[numbers] + np.uint64(1))
        assert np.all((values == keys + np.uint64(1)) | (values == 0))
        assert 0 < np.count_nonzero(values) < len(keys)


@pytest.mark.parametrize("where", ["make", "_other"])
def test_values_that_could_not_be_made(monkeypatch, where):
    """Whatever goes wrong while they are put in, no key has a value that nobody gave it."""
    table = SegmentTable(1, 8)
    keys = [np.arange(10, dtype=np.uint64)]

    def give(numbers: np.ndarray) -> np.ndarray:
        return keys[0][numbers] + np.uint64(5)

    def fails(*_: object) -> np.ndarray:
        raise MemoryError

    table.values([keys[0][:5]], give)
    with monkeypatch.context() as patch:
        if where == "_other":
            right, calls = segment_table._other, iter((True, False))
            patch.setattr(segment_table, "_other", lambda *given: (right if next(calls) else fails)(*given))
        with pytest.raises(MemoryError):
            table.values(keys, fails if where == "make" else give)
    assert not table.find(keys).any()
    assert table.values(keys, give).tolist() == list(range(5, 15))


def test_stretches():
    assert stretches(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist() == [5, 6, 7, 8, 9]
    assert stretches(np.array([], np.int64), np.array([], np.int64)).tolist() == []
