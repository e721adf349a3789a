"""Conversations come back as they were written, in one order however they came, or what is damaged is named."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_conversations import FILES
from made_conversations import write_conversations as write

from tsugiki.corpus.conversation_records import TokenisedConversation, as_records
from tsugiki.corpus.conversation_store import ConversationStore, conversation_files
from tsugiki.corpus.pack_table import make_packs, table_path
from tsugiki.corpus.packed_store import PADDING
from tsugiki.errors import DataError

quiet = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)


def place_of(store: ConversationStore, index: int) -> tuple[int, int]:
    row = store.documents(index, index + 1)[0]
    return int(row["file"]), int(row["line"])


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@st.composite
def corpora(draw, weights=(0.0, 1.0, 1 / 3, 0.1, 7.25)):
    """Conversations of different places; weights change now and then, as they do between turns."""
    places = draw(
        st.lists(st.tuples(st.integers(0, 1), st.integers(1, 30), st.integers(0, 2)), unique=True, max_size=20)
    )
    made = []
    for file, line, part in places:
        runs = draw(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(weights)), min_size=1, max_size=5))
        row = [weight for length, weight in runs for _ in range(length)]
        ids = [(31 * line + 7 * part + place) % 70_000 for place in range(len(row))]
        made.append(TokenisedConversation(ids, row, 2**63 + line, file, line, part, 9 * line, 5 * line, len(row)))
    return made


@quiet
@given(corpora(), st.integers(1, 7), st.sampled_from([0, 3]))
def test_conversations_come_back_with_every_weight(tmp_path, conversations, batch, bits):
    store = write(tmp_path / "s", conversations, batch, bits=bits)
    by_place = {(one.file, one.line, one.part): one for one in conversations}
    assert store.document_count == len(by_place)
    for index in range(store.document_count):
        documents, row = store.documents()[index], store.rows[index]
        one = by_place.pop((int(documents["file"]), int(documents["line"]), int(row["part"])))
        assert store.document(index).tolist() == list(one.ids)
        expected = np.array([0.0, *one.weights[1:]], np.float32)
        np.testing.assert_array_equal(store.weights(index), expected)
        assert int(row["trained_tokens"]) == np.count_nonzero(expected)
        sizes = (int(documents["bytes"]), int(documents["characters"]), int(row["trained_bytes"]))
        assert sizes == (one.bytes, one.characters, one.trained_bytes)
        store.check(index)
    assert not by_place
    assert store.trained_tokens == sum(np.count_nonzero(one.weights[1:]) for one in conversations)


@quiet
@given(corpora(), st.integers(1, 7), st.randoms(use_true_random=False))
def test_the_same_bytes_for_any_order_in_which_conversations_come(tmp_path, conversations, batch, shuffle):
    first = write(tmp_path / "a", conversations, 3, bits=2)
    shuffled = list(conversations)
    shuffle.shuffle(shuffled)
    second = write(tmp_path / "b", shuffled, batch, bits=0)
    for store in (first, second):
        table_path(store.prefix, 25).unlink(missing_ok=True)
        make_packs(store, 25, divide=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@quiet
@given(corpora(), st.integers(25, 60), st.booleans())
def test_each_conversation_is_whole_in_exactly_one_pack(tmp_path, conversations, length, by_conversation):
    store = write(tmp_path / "s", conversations)
    make_packs(store, length, divide=False)
    seen, trained = [], Counter[tuple[int, int]]()
    for one in conversations:
        trained[one.file, one.line] += np.count_nonzero(one.weights[1:])
    for index in range(store.window_count(length)):
        pack = store.pack(index, length, by_conversation)
        assert len(pack.tokens) == len(pack.weights) == length + 1
        members = store.packs(length)[index].documents
        for start, end, conversation in zip(pack.starts[:-1], pack.starts[1:], members, strict=True):
            assert pack.tokens[start:end].tolist() == store.document(conversation).tolist()
            expected = store.weights(conversation)
            if by_conversation and expected.any():  # by those of all samples that it was divided into
                expected = expected / trained[place_of(store, conversation)]
            np.testing.assert_allclose(pack.weights[start:end], expected, rtol=1e-6)
            assert pack.weights[start] == 0
        assert pack.starts[0] == 0
        assert pack.starts[-1] <= length
        assert set(pack.tokens[pack.starts[-1] :]) == {PADDING}
        assert not pack.weights[pack.starts[-1] :].any()
        seen += members
    assert sorted(seen) == list(range(store.document_count))


SAMPLE = [
    TokenisedConversation(list(range(5, 5 + size)), [0, *[1.0, 0.5] * size][:size], 1, 0, size) for size in range(1, 12)
]


def test_buckets_that_came_out_too_large_give_the_same_bytes(tmp_path, monkeypatch):
    write(tmp_path / "a", SAMPLE)
    monkeypatch.setattr("tsugiki.corpus.buckets.LARGEST", 100)
    monkeypatch.setattr("tsugiki.corpus.buckets.MOST_BITS", 2)
    write(tmp_path / "b", SAMPLE[::-1])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_conversation_of_a_full_window_takes_a_pack_alone(tmp_path):
    store = write(tmp_path / "s", SAMPLE)
    make_packs(store, 11, divide=False)
    (full,) = [index for index in range(len(store.packs(11))) if store.pack(index, 11).starts.tolist() == [0, 11]]
    assert store.pack(full, 11).tokens.tolist() == [*range(5, 16), PADDING]
    with pytest.raises(DataError, match="1 of 11 conversations are longer than a window of 10"):
        make_packs(store, 10, divide=False)


def test_a_table_is_needed_and_is_made_once(tmp_path):
    store = write(tmp_path / "s", SAMPLE)
    with pytest.raises(DataError, match=r"train\.packs-16: .*run tsugiki prepare"):
        store.window_count(16)
    make_packs(store, 16, divide=False)
    made = table_path(store.prefix, 16).stat().st_mtime_ns
    assert store.window_count(16) == len(make_packs(store, 16, divide=False)) == 5
    assert table_path(store.prefix, 16).stat().st_mtime_ns == made


def test_a_table_of_other_conversations_is_made_anew(tmp_path):
    store = write(tmp_path / "s", SAMPLE)
    make_packs(store, 16, divide=False)
    store = write(tmp_path / "s", SAMPLE[:-1])
    with pytest.raises(DataError, match="made for another length or other documents"):
        store.packs(16)
    table = make_packs(store, 16, divide=False)
    assert sorted(one for index in range(len(table)) for one in table[index].documents) == list(range(10))


@quiet
@given(st.data())
def test_any_change_of_a_table_is_noticed_and_made_good(tmp_path, data):
    store = write(tmp_path / "s", SAMPLE)
    make_packs(store, 16, divide=False)
    path = table_path(store.prefix, 16)
    good = path.read_bytes()
    kind = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if kind == "flip":
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :]
    else:
        bad = good[: data.draw(st.integers(0, len(good) - 1))] if kind == "cut" else good + b"\0"
    path.write_bytes(bad)
    with pytest.raises(DataError, match="packs-16"):
        store.packs(16)
    make_packs(store, 16, divide=False)
    assert path.read_bytes() == good


@quiet
@given(st.data())
def test_a_changed_bit_is_named_or_changes_no_conversation(tmp_path, data):
    store = write(tmp_path / "s", SAMPLE)
    before = [(store.document(index).tolist(), store.weights(index).tolist()) for index in range(len(SAMPLE))]
    path = data.draw(st.sampled_from([*store.files(0), *conversation_files(store.prefix)]))
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    path.write_bytes(good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :])
    try:
        store = ConversationStore(store.prefix)
        for index in range(store.document_count):
            store.check(index)
    except DataError as error:
        said = str(error)
    else:
        said = "train"
        assert path.name not in ("train-00000.bin", "train.weights.npy") or at < 128  # the blanks in a header
        assert [
            (store.document(index).tolist(), store.weights(index).tolist()) for index in range(len(SAMPLE))
        ] == before
    assert "train" in said


@pytest.mark.parametrize(
    ("ids", "weights", "said"),
    [
        ([], [], "0 tokens"),
        ([1, 2], [1.0], "2 tokens with 1 loss weights"),
        ([1, 2], [0.0, -1.0], "negative or no number"),
        ([1, 2], [0.0, float("nan")], "negative or no number"),
        ([1, 2], [0.0, float("inf")], "negative or no number"),
        ([1, -2], [0.0, 1.0], "token id -2"),
        ([1, 2**31], [0.0, 1.0], "token id 2,147,483,648"),
    ],
)
def test_what_is_no_conversation_is_named_by_file_and_line(ids, weights, said):
    with pytest.raises(DataError, match=rf"b\.jsonl:7: .*{said}"):
        as_records([TokenisedConversation(ids, weights, 0, 1, 7)], "chat", FILES)


def test_an_id_outside_the_vocabulary_is_refused(tmp_path):
    with pytest.raises(DataError, match="token id 15 does not fit a vocabulary of 15"):
        write(tmp_path / "s", SAMPLE, vocabulary=15)


def test_an_empty_store_has_no_packs(tmp_path):
    store = write(tmp_path / "s", [])
    make_packs(store, 8, divide=False)
    assert (store.document_count, store.window_count(8), store.trained_tokens) == (0, 0, 0)


def test_a_missing_side_file_is_named(tmp_path):
    write(tmp_path / "s", SAMPLE)
    (tmp_path / "s" / "train.weights.npy").unlink()
    with pytest.raises(DataError, match=r"train\.weights\.npy: there is no such file; run tsugiki prepare"):
        ConversationStore(tmp_path / "s" / "train")
