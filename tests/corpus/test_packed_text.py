"""Packed text: what a naive loop over documents says, token by token, and nothing cut that fits a window."""

from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.corpus import pack_table
from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.corpus.pack_table import make_packs, table_path
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.store import DOCUMENT, TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.window_figures import text_windows
from tsugiki.corpus.windows import IGNORE, WindowReader
from tsugiki.errors import DataError

quiet = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def store_of(prefix, lengths, shard_tokens=None) -> PackedStore:
    """Documents of tokens that no two share, and none of them 0, which is padding."""
    for old in prefix.parent.glob(f"{prefix.name}*"):
        old.unlink()
    writer = StoreWriter(prefix, 200_000, shard_tokens=shard_tokens)
    writer.add_documents(np.arange(1, sum(lengths) + 1), np.array(lengths), np.zeros(len(lengths), DOCUMENT))
    return PackedStore(prefix, writer.close())


def reader_of(store, length, **options):
    mixture = Mixture(1, {"text": store.window_count(length)}, [MixtureStage(0, {"text": 1})])
    return WindowReader({"text": SimpleNamespace(train=store)}, mixture, length, False, **options)


def naive_sizes(lengths, length):
    """What packing is given: short documents, and what is left when windows of `length` targets are taken off."""
    sizes, alone = [], 0
    for size in lengths:
        targets = size - 1  # of which a window has `length`
        while size > length and targets >= length:
            targets, alone = targets - length, alone + 1
        left = targets + 1 if size > length else size
        if size <= length or left > 1:
            sizes.append(left)
    return sizes, alone


@quiet
@given(
    st.lists(st.one_of(st.integers(1, 12), st.integers(1, 60)), min_size=1, max_size=40),
    st.integers(2, 16),
    st.integers(5, 200),
    st.sampled_from([2, 7, 1 << 20]),
)
def test_every_token_is_read_once_and_no_document_that_fits_is_cut(tmp_path, lengths, length, shard_tokens, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_table, "BLOCK_DOCUMENTS", block)
        store = store_of(tmp_path / "s", lengths, shard_tokens)
        table = make_packs(store, length, divide=True)
        batch = reader_of(store, length).read(np.arange(len(table)))  # an epoch
    ends = np.cumsum(lengths)
    firsts = set((ends - lengths + 1).tolist())
    document_of = np.concatenate([[-1], np.repeat(np.arange(len(lengths)), lengths)])
    # As targets: each token but a document's first, exactly once, behind the one that precedes it.
    scored = batch.targets != IGNORE
    assert sorted(batch.targets[scored].tolist()) == sorted(set(range(1, sum(lengths) + 1)) - firsts)
    assert (batch.targets[scored] == batch.inputs[scored] + 1).all()
    # As inputs: each once, but a last token that is left alone when a long document fills its windows.
    alone = {int(end) for end, size in zip(ends, lengths, strict=True) if size > length and (size - 1) % length == 0}
    read = batch.inputs[batch.inputs > 0].tolist()
    assert sorted(read) == sorted(set(range(1, sum(lengths) + 1)) - alone)
    # A document is in as many windows as it has to be; its positions restart there, and those of the padding.
    held = [set(document_of[row[row > 0]].tolist()) for row in batch.inputs]
    for document, size in enumerate(lengths):
        assert sum(document in one for one in held) == max(1, -(-(size - 1) // length))
    for row, positions in zip(batch.inputs, batch.positions, strict=True):
        begins = np.flatnonzero(np.diff(document_of[row], prepend=-2))
        expected = np.arange(length) - np.repeat(begins, np.diff([*begins, length]))
        assert positions.tolist() == expected.tolist()
    facts = table.facts
    assert facts.cut == sum(size > length + 1 for size in lengths)
    assert facts.inputs == len(read)
    assert batch.weights is None
    figures = text_windows(store, length)
    assert figures.cut == facts.cut / len(lengths)
    assert figures.padding == pytest.approx(float((batch.inputs == 0).mean()))


@quiet
@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(2, 12))
def test_packs_are_those_of_best_fit_decreasing(tmp_path, lengths, length):
    store = store_of(tmp_path / "s", lengths)
    table = make_packs(store, length, divide=True)
    sizes, alone = naive_sizes(lengths, length)
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [index for index, room in enumerate(rooms) if room >= size]
        if not fitting:
            rooms.append(length)
            fitting = [len(rooms) - 1]
        best = min(fitting, key=lambda index: rooms[index])
        rooms[best] -= size
    used = sorted(sum(piece.tokens for piece in store.pieces(index, length)) for index in range(len(table)))
    assert used == sorted([length] * alone + [length - room for room in rooms])


def test_the_same_table_for_any_shards(tmp_path):
    lengths = np.random.default_rng(3).integers(1, 90, 300).tolist()
    one, many = store_of(tmp_path / "a", lengths), store_of(tmp_path / "b", lengths, 400)
    assert len(many.index.shards) > 20
    for store in (one, many):
        make_packs(store, 32, divide=True)
    assert table_path(one.prefix, 32).read_bytes() == table_path(many.prefix, 32).read_bytes()
    for index in range(one.window_count(32)):
        assert one.window(index, 32).tolist() == many.window(index, 32).tolist()


def test_best_fit_cuts_fewer_documents_than_windows_do_and_pads_little(tmp_path):
    lengths = np.clip(np.exp(np.random.default_rng(5).normal(4.5, 1.0, 600)), 2, None).astype(int).tolist()
    store = store_of(tmp_path / "s", lengths)
    make_packs(store, 256, divide=True)
    packed = text_windows(store, 256)
    assert packed.cut < text_windows(TokenStore(store.prefix, store.index), 256).cut / 3
    assert packed.padding < 0.02


def test_by_conversation_a_pack_of_text_counts_as_a_window_of_text_does(tmp_path):
    store = store_of(tmp_path / "s", [5, 3, 20])
    make_packs(store, 8, divide=True)
    for index in range(store.window_count(8)):
        plain, divided = (store.pack(index, 8, by).weights for by in (False, True))
        np.testing.assert_allclose(divided, plain / max(np.count_nonzero(plain), 1), rtol=1e-6)
        assert divided.dtype == np.float32


@quiet
@given(st.data())
def test_any_change_of_a_table_is_noticed_by_its_digests_and_made_good(tmp_path, data):
    store = store_of(tmp_path / "s", [5, 30, 9, 17, 2, 8])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_table, "BLOCK_DOCUMENTS", 4)
        make_packs(store, 8, divide=True)
        path = table_path(store.prefix, 8)
        good = path.read_bytes()
        at = data.draw(st.integers(0, len(good) - 1))
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :])
        with pytest.raises(DataError, match="packs-8"):
            PackedStore(store.prefix, store.index).check_packs(8)
        changed = PackedStore(store.prefix, store.index)
        with suppress(DataError):  # unchecked, it is read as something that fits a window, or found to be damaged
            for index in range(changed.window_count(8)):
                assert changed.pack(index, 8).tokens.shape == (9,)
        make_packs(store, 8, divide=True)
    assert path.read_bytes() == good


def test_a_table_of_other_documents_is_refused_and_made_anew(tmp_path):
    store = store_of(tmp_path / "s", [5, 3, 20])
    make_packs(store, 8, divide=True)
    content = table_path(store.prefix, 8).read_bytes()
    other = store_of(tmp_path / "s", [5, 4, 19])
    table_path(other.prefix, 8).write_bytes(content)
    with pytest.raises(DataError, match="made for another length or other documents; run tsugiki prepare"):
        other.check_packs(8)
    make_packs(other, 8, divide=True)
    other.check_packs(8)
    with pytest.raises(DataError, match=r"s\.packs-9: No such file"):
        other.window_count(9)


def test_documents_without_a_token_are_in_no_pack(tmp_path):
    store = store_of(tmp_path / "s", [0, 4, 0, 3])
    table = make_packs(store, 8, divide=True)
    assert [piece.document for index in range(len(table)) for piece in store.pieces(index, 8)] == [1, 3]
