"""A store gives back what was written, to us and to Megatron, or says what is wrong with it."""

import gc
import importlib
import struct
import tracemalloc
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.corpus.megatron import HEADER, MAGIC, token_dtype
from tsugiki.corpus.open_files import FILES
from tsugiki.corpus.store import DOCUMENT, TokenStore, shard_files, shard_name
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.windows import document_starts_inside
from tsugiki.errors import DataError
from tsugiki.files import xxh3_file

quiet = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
DOCUMENTS = [[1, 5, 6, 2], [], [1, 2], [1, 9, 9, 9, 9, 2]]


def write(prefix, documents, vocabulary=100, shard_tokens=None):
    writer = StoreWriter(prefix, vocabulary, shard_tokens=shard_tokens)
    for line, tokens in enumerate(documents, start=1):
        writer.add_document(tokens, file=line % 3, line=line, size=7 * line, characters=line)
    return TokenStore(prefix, writer.close())


def files(prefix, shard=0):
    return shard_files(prefix.with_name(shard_name(prefix.name, shard)))


@quiet
@given(
    st.lists(st.lists(st.integers(0, 69_999), max_size=20), max_size=12),
    st.sampled_from([65_499, 65_500, 70_000]),
    st.sampled_from([1, 5, 1000]),
)
def test_documents_come_back_as_they_were_written(tmp_path, documents, vocabulary, shard_tokens):
    documents = [[token % vocabulary for token in tokens] for tokens in documents]
    store = write(tmp_path / "s", documents, vocabulary, shard_tokens)
    row = [token for tokens in documents for token in tokens]
    assert [store.document(index).tolist() for index in range(store.document_count)] == documents
    assert store.token_count == len(row)
    for start in range(0, len(row) + 1, 3):
        assert all(store.read(start, end).tolist() == row[start:end] for end in range(start, len(row) + 2, 7))
    lines = store.documents()["line"].tolist()
    assert lines == list(range(1, len(documents) + 1))
    assert store.documents(1, 3)["line"].tolist() == lines[1:3]
    store.check_sizes()
    store.check_indices()


def test_each_token_but_the_first_is_a_target_once_and_the_tail_is_left_out(tmp_path):
    store = write(tmp_path / "s", [list(range(50)), list(range(50, 95))])
    assert store.window_count(10) == 9
    windows = [store.window(index, 10) for index in range(9)]
    assert all(len(window) == 11 for window in windows)
    assert np.concatenate([window[1:] for window in windows]).tolist() == list(range(1, 91))
    assert store.window_count(95) == 0
    assert store.window_count(94) == 1


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65_499, "uint16"), (65_500, "int32"), (300_000, "int32")])
def test_the_integer_type_follows_megatrons_rule(vocabulary, dtype):
    assert token_dtype(vocabulary) == np.dtype(dtype)


@pytest.mark.parametrize("token", [-1, 100, 70_000, 65_536 + 5])
def test_an_id_outside_the_vocabulary_is_refused_and_never_wrapped(tmp_path, token):
    writer = StoreWriter(tmp_path / "s", 100)
    with pytest.raises(DataError, match=f"token id {token:,} does not fit a vocabulary of 100"):
        writer.add_document([1, token, 2])


def test_nothing_is_a_store_before_it_is_closed(tmp_path):
    StoreWriter(tmp_path / "s", 100).add_document([1, 2])
    with pytest.raises(DataError, match="run tsugiki prepare"):
        TokenStore(tmp_path / "s")


def test_an_empty_store_has_no_windows(tmp_path):
    store = write(tmp_path / "s", [])
    assert (store.token_count, store.document_count, store.window_count(8), len(store.documents())) == (0, 0, 0, 0)
    assert store.document_starts[:].tolist() == [0]


def test_a_store_of_another_tool_needs_no_side_file_and_may_carry_modes(tmp_path):
    write(tmp_path / "s", DOCUMENTS)
    bin_path, idx_path, side_path = files(tmp_path / "s")
    side_path.unlink()
    bin_path.rename(tmp_path / "theirs.bin")
    (tmp_path / "theirs.idx").write_bytes(idx_path.read_bytes() + bytes(len(DOCUMENTS)))
    store = TokenStore(tmp_path / "theirs")
    assert len(store.documents()) == 0
    assert store.document(3).tolist() == DOCUMENTS[3]


@pytest.mark.parametrize("where", range(3))
@pytest.mark.parametrize("document", [0, 7, 8, 19])
def test_a_change_anywhere_in_a_long_index_is_named(tmp_path, monkeypatch, where, document):
    monkeypatch.setattr("tsugiki.corpus.store.BLOCK", 8)
    written = write(tmp_path / "s", [[1, 2, 3]] * 20)
    idx_path = files(tmp_path / "s")[1]
    index = bytearray(idx_path.read_bytes())
    index[HEADER.size + 4 * document + (0, 80, 240)[where] + (0, 4, 4)[where] * document] ^= 32
    idx_path.write_bytes(index)
    for use in (
        lambda: TokenStore(tmp_path / "s").check_indices(),
        written.check_indices,
        lambda: written.document(document),
        lambda: written.document_starts.between(3 * document, 60),
    ):
        with pytest.raises(DataError, match=r"s-00000\.idx: damaged: its (lengths|document)"):
            use()


@quiet
@given(st.data())
def test_any_index_gives_a_store_or_a_data_error(tmp_path, data):
    write(tmp_path / "s", DOCUMENTS)
    idx_path = files(tmp_path / "s")[1]
    good = idx_path.read_bytes()
    kind = data.draw(st.sampled_from(["bytes", "header", "flip", "cut", "grow"]))
    if kind == "bytes":
        bad = data.draw(st.binary(max_size=200))
    elif kind == "header":
        number = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 8))
        bad = HEADER.pack(MAGIC, data.draw(st.sampled_from([0, 1, 2])), data.draw(st.integers(0, 9)),
                          data.draw(number), data.draw(number)) + good[HEADER.size :]  # fmt: skip
    elif kind == "flip":
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :]
    else:
        tail = data.draw(st.binary(max_size=40)) if kind == "grow" else b""
        bad = good[: data.draw(st.integers(0, len(good)))] + tail
    idx_path.write_bytes(bad)
    said = "s-00000.idx"
    try:
        store = TokenStore(tmp_path / "s")
        for index in range(store.document_count):
            store.document(index).tolist()
            store.document_starts.between(index, index + 9)
    except DataError as error:
        said = str(error)
    assert "s-00000.idx" in said or "s-00000.bin" in said


@pytest.mark.parametrize("change", [b"\x01\x00", b"\x01"])
def test_tokens_that_do_not_fit_the_index_are_refused(tmp_path, change):
    written = write(tmp_path / "s", DOCUMENTS)
    bin_path = files(tmp_path / "s")[0]
    bin_path.write_bytes(bin_path.read_bytes() + change)
    with pytest.raises(DataError, match=r"s-00000\.idx: damaged: .* 13 tokens|s-00000\.bin: ends inside a token"):
        TokenStore(tmp_path / "s")
    for use in (written.check_sizes, lambda: written.read(0, 1)):
        with pytest.raises(DataError, match=r"s-00000\.bin: 2[56] bytes, "):
            use()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x93NUMPY\x01\x00"])
def test_a_damaged_side_file_is_named(tmp_path, content):
    store = write(tmp_path / "s", DOCUMENTS)
    files(tmp_path / "s")[2].write_bytes(content)
    with pytest.raises(DataError, match=r"s-00000\.documents\.npy: damaged"):
        store.documents()


def test_a_side_file_of_another_store_is_named(tmp_path):
    store = write(tmp_path / "s", DOCUMENTS)
    np.save(files(tmp_path / "s")[2], np.zeros(3, DOCUMENT))
    with pytest.raises(DataError, match="not the side file of a store of 4 documents"):
        store.documents()


def test_the_index_has_the_published_layout(tmp_path):
    """Read byte by byte from the description of the format, not with our own structures."""
    write(tmp_path / "s", DOCUMENTS)
    raw = (tmp_path / "s-00000.idx").read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    assert struct.unpack_from("<QBQQ", raw, 9) == (1, 8, 4, 5)
    assert struct.unpack_from("<4i", raw, 34) == (4, 0, 2, 6)
    assert struct.unpack_from("<4q", raw, 50) == (0, 8, 8, 12)
    assert struct.unpack_from("<5q", raw, 82) == (0, 1, 2, 3, 4)
    assert len(raw) == 42 + 20 * 4
    assert (tmp_path / "s-00000.bin").read_bytes() == struct.pack("<12H", 1, 5, 6, 2, 1, 2, 1, 9, 9, 9, 9, 2)


@pytest.fixture(scope="module")
def megatron():
    """megatron-core's own reader and writer of the format, where it is installed."""
    pytest.importorskip("megatron.core", reason="megatron-core is not installed")
    return importlib.import_module("megatron.core.datasets.indexed_dataset")


@pytest.mark.parametrize("vocabulary", [100, 70_000])
def test_megatron_reads_our_stores(tmp_path, megatron, vocabulary):
    documents = [tokens for tokens in DOCUMENTS if tokens]
    write(tmp_path / "s", documents, vocabulary)
    theirs = megatron.IndexedDataset(str(tmp_path / "s-00000"))
    assert [theirs[index].tolist() for index in range(len(theirs))] == documents
    assert theirs.document_indices.tolist() == [0, 1, 2, 3]
    assert theirs.index.dtype == token_dtype(vocabulary).type


def test_we_read_megatrons_stores_several_sequences_to_a_document(tmp_path, megatron):
    import torch

    builder = megatron.IndexedDatasetBuilder(str(tmp_path / "m.bin"), dtype=np.uint16)
    builder.add_document(torch.tensor([1, 2, 3, 4, 5]), [2, 3])
    builder.add_document(torch.tensor([6, 7]), [2])
    builder.finalize(str(tmp_path / "m.idx"))
    store = TokenStore(tmp_path / "m")
    assert store.document_count == 2
    assert store.document(0).tolist() == [1, 2, 3, 4, 5]
    assert store.document(1).tolist() == [6, 7]


@quiet
@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=8), st.sampled_from([8, 4]), st.data())
def test_document_starts_are_those_of_an_array_however_many_sequences_a_document_has(tmp_path, documents, code, data):
    """`documents`: the lengths of each one's sequences; the index is written by hand from the published layout."""
    lengths = [length for document in documents for length in document]
    size = {8: 2, 4: 4}[code]
    ends = np.cumsum([0, *lengths])
    bounds = np.cumsum([0, *(len(document) for document in documents)])
    (tmp_path / "m.idx").write_bytes(
        b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(lengths), len(bounds)) + np.array(lengths, "<i4").tobytes()
        + (ends[:-1] * size).astype("<i8").tobytes() + bounds.astype("<i8").tobytes()
    )  # fmt: skip
    (tmp_path / "m.bin").write_bytes(bytes(int(ends[-1]) * size))
    store, naive = TokenStore(tmp_path / "m"), np.cumsum([0, *map(sum, documents)])
    starts = store.document_starts
    assert (len(starts), store.document_count, store.token_count) == (len(naive), len(documents), naive[-1])
    np.testing.assert_array_equal(np.asarray(starts), naive)
    assert [starts[index] for index in range(-len(naive), len(naive))] == [*naive, *naive]
    cut = slice(data.draw(st.integers(-3, 9)), data.draw(st.integers(-3, 9)))
    np.testing.assert_array_equal(starts[cut], naive[cut])
    for low in range(-2, naive[-1] + 3):
        assert bisect_left(starts, low) == np.searchsorted(naive, low)
        high = data.draw(st.integers(low, naive[-1] + 3))
        first, found = starts.between(low, high)
        before, behind = np.searchsorted(naive[:-1], [low, high])
        assert (first, found.tolist()) == (before, naive[before:behind].tolist())


def test_memory_does_not_grow_with_the_documents_of_a_store(tmp_path, monkeypatch):
    monkeypatch.setattr("tsugiki.corpus.megatron.BLOCK", 1 << 14)
    count = 1_000_000
    writer = StoreWriter(tmp_path / "s", 100)
    writer.add_documents(np.full(count, 7), np.ones(count, np.int64), np.zeros(count, DOCUMENT))
    index = writer.close()
    tracemalloc.start()
    try:
        store = TokenStore(tmp_path / "s", index)
        found = document_starts_inside(store, 500_000, 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.tolist() == list(range(1, 101))
    assert peak < count  # a start in memory would take eight times that


def test_an_index_longer_than_a_block_is_the_one_written_at_once(tmp_path, monkeypatch):
    lengths = np.random.default_rng(3).integers(0, 40, 1000)
    tokens = np.arange(lengths.sum()) % 100
    rows = np.zeros(1000, DOCUMENT)
    rows["line"] = np.arange(1000)
    for name, block in (("whole", 1 << 20), ("blocks", 64)):
        monkeypatch.setattr("tsugiki.corpus.megatron.BLOCK", block)
        writer = StoreWriter(tmp_path / name, 100)
        writer.add_documents(tokens, lengths, rows)
        writer.close()
    for whole, blocks in zip(files(tmp_path / "whole"), files(tmp_path / "blocks"), strict=True):
        assert whole.read_bytes() == blocks.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for name in ("whole", "blocks") for path in files(tmp_path / name)
    )
    np.testing.assert_array_equal(np.load(files(tmp_path / "blocks")[2]), rows)
    np.testing.assert_array_equal(np.diff(TokenStore(tmp_path / "blocks").document_starts), lengths)


@quiet
@given(
    st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=25),
    st.integers(1, 30),
    st.lists(st.integers(0, 8), max_size=25),
    st.data(),
)
def test_an_interrupted_writer_goes_on_after_its_finished_shards_with_the_same_bytes(
    tmp_path_factory, documents, shard_tokens, cuts, data
):
    """Documents are added in batches of any size; the second writer is given what the first one had finished."""
    whole, parts = (tmp_path_factory.mktemp("s") for _ in range(2))
    store = write(whole / "s", documents, shard_tokens=shard_tokens)
    rows = np.zeros(len(documents), DOCUMENT)
    for line in range(1, len(documents) + 1):
        rows[line - 1] = (line % 3, line, 7 * line, line)

    def add(writer, first, last):
        tokens = np.array([token for document in documents[first:last] for token in document], np.int64)
        writer.add_documents(
            tokens, np.array([len(document) for document in documents[first:last]], np.int64), rows[first:last]
        )

    first = StoreWriter(parts / "s", 100, shard_tokens=shard_tokens)
    add(first, 0, data.draw(st.integers(0, len(documents))))
    second = StoreWriter(parts / "s", 100, shard_tokens=shard_tokens, finished=first.shards)
    at = sum(shard.documents for shard in first.shards)
    for count in cuts:
        add(second, at, min(at + count, len(documents)))
        at = min(at + count, len(documents))
    add(second, at, len(documents))
    assert second.close() == store.index
    for name in sorted(path.name for path in whole.iterdir()):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    for number, shard in enumerate(store.index.shards):
        assert shard.digests == [xxh3_file(path) for path in store.files(number)]
        assert shard.tokens >= shard_tokens or number + 1 == len(store.index.shards)


def test_a_missing_shard_is_named(tmp_path):
    store = write(tmp_path / "s", [[1, 2, 3]] * 9, shard_tokens=6)
    assert TokenStore(tmp_path / "s").token_count == 27
    (tmp_path / "s-00001.bin").unlink()
    assert store.read(0, 3).tolist() == [1, 2, 3]  # of the others nothing is asked
    for use in (lambda: store.read(0, 7), store.check_sizes, lambda: TokenStore(tmp_path / "s")):
        with pytest.raises(DataError, match=r"s-00001\.bin: No such file"):
            use()
    (tmp_path / "s-00001.idx").unlink()
    with pytest.raises(DataError, match=r"s-00001\.idx: this shard is missing"):
        TokenStore(tmp_path / "s")


def test_a_store_that_is_cut_short_while_it_is_read_is_an_error_and_no_crash(tmp_path):
    store = write(tmp_path / "s", [[1, 2, 3]] * 1000)
    store.read(0, 10)
    with files(tmp_path / "s")[0].open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match=r"s-00000\.bin: ends 3,900 bytes early"):
        store.read(0, 2000)


def test_a_process_holds_few_files_open_however_many_a_store_has(tmp_path, monkeypatch):
    monkeypatch.setattr(FILES, "limit", 10)
    store = write(tmp_path / "s", [[token] * 5 for token in range(60)], shard_tokens=5)
    before = len(list(Path("/proc/self/fd").iterdir()))
    most = 0

    def read(store, thread):
        nonlocal most
        for index in np.random.default_rng(thread).permutation(59).tolist():
            assert store.read(5 * index + 2, 5 * index + 7).tolist() == [index] * 3 + [index + 1] * 2
            assert store.document_starts.between(5 * index, 5 * index + 5)[1].tolist() == [5 * index]
            most = max(most, len(list(Path("/proc/self/fd").iterdir())) - before)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, [store] * 8, range(8)))
    assert len(FILES) <= 10
    assert most <= 10 + 4 * 3  # and what each thread has in hand, with the listing itself
    del store
    gc.collect()
    assert len(FILES) == 0
