"""Labels are shifted once: the reader agrees with a loop over tokens that knows nothing of arrays."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.windows import IGNORE, WindowReader, shift


def memory_store(documents: list[list[int]]) -> SimpleNamespace:
    """A token store without files."""
    starts = np.cumsum([0, *(len(document) for document in documents)])
    tokens = np.array([token for document in documents for token in document], dtype=np.uint16)

    def between(low: int, high: int) -> tuple[int, np.ndarray]:
        first, last = np.searchsorted(starts[:-1], [low, high])
        return first, starts[first:last]

    return SimpleNamespace(
        read=lambda start, end: tokens[start:end],
        document_starts=SimpleNamespace(between=between),
        window_count=lambda length: max(0, (len(tokens) - 1) // length),
    )


def make_reader(stores: dict, length: int, isolate: bool, weights: dict | None = None, seed: int = 1) -> WindowReader:
    windows = {name: store.window_count(length) for name, store in stores.items()}
    mixture = Mixture(seed, windows, [MixtureStage(0, weights or dict.fromkeys(stores, 1))])
    sources = {name: SimpleNamespace(train=store) for name, store in stores.items()}
    return WindowReader(sources, mixture, length, isolate)


def naive_window(documents: list[list[int]], window: int, length: int, isolate: bool) -> tuple[list, list, list]:
    """Inputs, targets and positions of one window, token by token."""
    stream = [(token, number) for number, document in enumerate(documents) for token in document]
    inputs, targets, positions = [], [], []
    for at in range(window * length, window * length + length):
        (token, document), (following, next_document) = stream[at], stream[at + 1]
        inputs.append(token)
        targets.append(IGNORE if isolate and next_document != document else following)
        before = 0
        while at - before - 1 >= window * length and stream[at - before - 1][1] == document:
            before += 1
        positions.append(before)
    return inputs, targets, positions


# Every token has a number of its own, so that nothing can be right by chance; documents of one token are frequent,
# and documents without any occur in stores that other tools wrote.
corpora = st.lists(st.one_of(st.integers(0, 2), st.integers(1, 12)), min_size=1, max_size=15).map(
    lambda lengths: [
        list(range(start, start + length))
        for start, length in zip(np.cumsum([1, *lengths]).tolist(), lengths, strict=False)
    ]
)


@settings(deadline=None, max_examples=200)
@given(corpora, st.integers(1, 9), st.booleans())
def test_windows_equal_a_loop_over_tokens(documents, length, isolate):
    store = memory_store(documents)
    if not store.window_count(length):
        return
    reader = make_reader({"a": store}, length, isolate)
    batch = reader.read(np.arange(2 * store.window_count(length) + 1))
    for row, window in enumerate(batch.drawn.window.tolist()):
        inputs, targets, positions = naive_window(documents, window, length, isolate)
        assert batch.inputs[row].tolist() == inputs
        assert batch.targets[row].tolist() == targets
        if isolate:
            assert batch.positions[row].tolist() == positions
    assert (batch.positions is None) == (not isolate)
    assert batch.target_count == sum(target != IGNORE for target in batch.targets.ravel().tolist())


@settings(deadline=None, max_examples=100)
@given(corpora, st.integers(1, 9), st.booleans())
def test_each_token_is_a_target_exactly_once_an_epoch(documents, length, isolate):
    store = memory_store(documents)
    count = store.window_count(length)
    if not count:
        return
    batch = make_reader({"a": store}, length, isolate).read(np.arange(count))
    targets = batch.targets[batch.targets != IGNORE].tolist()
    in_windows = set(store.read(1, count * length + 1).tolist())  # all but the first and the tail
    if isolate:
        in_windows -= {document[0] for document in documents if document}
    assert sorted(targets) == sorted(in_windows)
    assert sorted(batch.inputs.ravel().tolist()) == store.read(0, count * length).tolist()


def test_a_shift_moves_tokens_and_mask_together():
    tokens = np.array([[10, 11, 12, 13, 14]])
    learnt = np.array([[True, False, True, False, True]])
    inputs, targets, weights = shift(tokens, learnt)
    assert inputs.tolist() == [[10, 11, 12, 13]]
    assert targets.tolist() == [[IGNORE, 12, IGNORE, 14]]
    assert weights.tolist() == [[False, True, False, True]]


def test_the_first_token_of_a_window_is_an_input_only():
    inputs, targets, _ = shift(np.array([7, 8, 9]), np.array([True, True, True]))
    assert (inputs.tolist(), targets.tolist()) == ([7, 8], [8, 9])


def test_documents_side_by_side_by_hand():
    #             BOS=1, EOS=2
    documents = [[1, 5, 6, 2], [1, 2], [1, 7, 8, 9, 2]]
    apart = make_reader({"a": memory_store(documents)}, 5, isolate=True).read([0, 1])
    first, second = np.argsort(apart.drawn.window).tolist()
    assert apart.inputs[first].tolist() == [1, 5, 6, 2, 1]
    assert apart.targets[first].tolist() == [5, 6, 2, IGNORE, 2]
    assert apart.positions[first].tolist() == [0, 1, 2, 3, 0]
    # The second window begins inside the second document: positions start anew all the same.
    assert apart.inputs[second].tolist() == [2, 1, 7, 8, 9]
    assert apart.targets[second].tolist() == [IGNORE, 7, 8, 9, 2]
    assert apart.positions[second].tolist() == [0, 0, 1, 2, 3]
    together = make_reader({"a": memory_store(documents)}, 5, isolate=False).read([first])
    assert together.targets.tolist() == [[5, 6, 2, 1, 2]]
    assert together.positions is None


def test_documents_of_one_token_leave_a_window_without_targets():
    batch = make_reader({"a": memory_store([[n] for n in range(5)])}, 4, isolate=True).read([0])
    assert batch.target_count == 0
    assert batch.positions.tolist() == [[0, 0, 0, 0]]


def test_a_store_of_exactly_one_window_is_read_and_a_token_less_is_none():
    batch = make_reader({"a": memory_store([[1, 2, 3, 4, 5]])}, 4, isolate=False).read([0, 1])
    assert batch.inputs.tolist() == [[1, 2, 3, 4]] * 2
    assert batch.targets.tolist() == [[2, 3, 4, 5]] * 2
    assert memory_store([[1, 2, 3, 4]]).window_count(4) == 0


@pytest.mark.parametrize("vocabulary", [300, 100_000])
@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("shard_tokens", [1, 50, 10_000])
def test_stores_on_disk_read_as_those_in_memory(tmp_path, vocabulary, isolate, shard_tokens):
    """However many shards they are cut into."""
    rng = np.random.default_rng(3)
    documents = [rng.integers(0, vocabulary, size=n).tolist() for n in rng.integers(1, 30, size=60)]
    other = [rng.integers(0, vocabulary, size=n).tolist() for n in rng.integers(1, 30, size=20)]
    stores, weights = {}, {"ja": 2, "en": 1}
    for name, corpus in (("ja", documents), ("en", other)):
        writer = StoreWriter(tmp_path / name, vocabulary_size=vocabulary, shard_tokens=shard_tokens)
        for document in corpus:
            writer.add_document(document)
        stores[name] = TokenStore(tmp_path / name, writer.close())
    batch = make_reader(stores, 16, isolate, weights).read(np.arange(100))
    assert batch.inputs.dtype == batch.targets.dtype == np.int64
    for row in range(100):
        corpus = {"ja": documents, "en": other}[("en", "ja")[batch.source[row]]]
        inputs, targets, positions = naive_window(corpus, int(batch.drawn.window[row]), 16, isolate)
        assert batch.inputs[row].tolist() == inputs
        assert batch.targets[row].tolist() == targets
        assert batch.positions is None or batch.positions[row].tolist() == positions
    assert np.bincount(batch.source).tolist() == [33, 67]
    assert batch.samples.tolist() == list(range(100))


def test_one_sample_reads_the_same_alone_and_in_a_batch():
    documents = [list(range(n, n + 7)) for n in range(0, 700, 7)]
    reader = make_reader({"a": memory_store(documents), "b": memory_store(documents[::-1])}, 6, isolate=True)
    together = reader.read(np.arange(50))
    for sample in range(50):
        alone = reader.read(sample)
        assert np.array_equal(alone.inputs[0], together.inputs[sample])
        assert np.array_equal(alone.targets[0], together.targets[sample])
        assert np.array_equal(alone.positions[0], together.positions[sample])
