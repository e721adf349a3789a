"""A pack in a window's place, beside windows of text: what the model is given, token by token."""

from types import SimpleNamespace

import numpy as np
import pytest
from made_conversations import write_conversations

from tsugiki.corpus.conversation_records import TokenisedConversation
from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.corpus.pack_table import make_packs
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.windows import IGNORE, WindowReader

LENGTH = 8
TALKS = [
    TokenisedConversation([10, 11, 12, 13, 14], [0, 0, 1, 0, 0.5], 0, 0, 1),
    TokenisedConversation([20, 21], [1, 1], 0, 0, 2),
    TokenisedConversation([30, 31, 32, 33, 34, 35], [0, 0, 0, 1, 1, 1], 0, 0, 3),
]


@pytest.fixture
def sources(tmp_path):
    """A chat source of two packs, [30 … 35, 20, 21] and [10 … 14], and a text source."""
    chat = write_conversations(tmp_path / "chat", TALKS)
    make_packs(chat, LENGTH, divide=False)
    writer = StoreWriter(tmp_path / "text", 100)
    for first in range(40, 90, 5):
        writer.add_document(range(first, first + 5))
    writer.close()
    return {"chat": SimpleNamespace(train=chat), "text": SimpleNamespace(train=TokenStore(tmp_path / "text"))}


def reader_of(sources, isolate=False, names=("chat", "text"), **options):
    windows = {name: sources[name].train.window_count(LENGTH) for name in names}
    mixture = Mixture(1, windows, [MixtureStage(0, dict.fromkeys(names, 1))])
    return WindowReader(sources, mixture, LENGTH, isolate, **options)


def rows_of(batch, source):
    """Rows of a batch by window, of one source."""
    return {int(batch.drawn.window[row]): row for row in np.flatnonzero(batch.source == source)}


def test_packs_by_hand(sources):
    batch = reader_of(sources, names=["chat"]).read(np.arange(4))
    full, short = (rows_of(batch, 0)[window] for window in (0, 1))
    assert batch.inputs[full].tolist() == [30, 31, 32, 33, 34, 35, 20, 21]
    assert batch.targets[full].tolist() == [IGNORE, IGNORE, 33, 34, 35, IGNORE, 21, IGNORE]
    assert batch.weights[full].tolist() == [0, 0, 1, 1, 1, 0, 1, 0]
    assert batch.positions[full].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert batch.inputs[short].tolist() == [10, 11, 12, 13, 14, 0, 0, 0]
    assert batch.targets[short].tolist() == [IGNORE, 12, IGNORE, 14, IGNORE, IGNORE, IGNORE, IGNORE]
    assert batch.weights[short].tolist() == [0, 1, 0, 0.5, 0, 0, 0, 0]
    assert batch.positions[short].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert batch.target_count == 12


def test_packs_stay_the_same_from_epoch_to_epoch(sources):
    batch = reader_of(sources, names=["chat"]).read(np.arange(40))
    assert set(batch.drawn.epoch.tolist()) == set(range(20))
    for window in (0, 1):
        rows = np.flatnonzero(batch.drawn.window == window)
        assert len(rows) == 20
        assert (batch.inputs[rows] == batch.inputs[rows[0]]).all()


@pytest.mark.parametrize("isolate", [False, True])
def test_text_beside_packs_is_what_it_is_alone(sources, isolate):
    together = reader_of(sources, isolate).read(np.arange(24))
    alone = reader_of(sources, isolate, names=["text"]).read(np.arange(6))
    assert alone.weights is None
    of_text = rows_of(alone, 0)
    for row in np.flatnonzero(together.source == 1):
        same = of_text[int(together.drawn.window[row])]
        assert together.inputs[row].tolist() == alone.inputs[same].tolist()
        assert together.targets[row].tolist() == alone.targets[same].tolist()
        assert together.weights[row].tolist() == (alone.targets[same] != IGNORE).tolist()
        positions = np.arange(LENGTH) if alone.positions is None else alone.positions[same]
        assert together.positions[row].tolist() == positions.tolist()


def test_a_conversation_that_was_divided_counts_as_much_as_one_that_was_not(tmp_path):
    parts = [
        TokenisedConversation([10, 11, 12, 13], [0, 0, 1, 1], 0, 0, 7, part=0),
        TokenisedConversation([20, 21, 22], [0, 0.5, 1], 0, 0, 7, part=1),
        TokenisedConversation([30, 31, 32, 33, 34, 35, 36], [0, 1, 1, 1, 1, 1, 1], 0, 0, 8),
        TokenisedConversation([40, 41], [0, 1], 0, 1, 7),  # of another file
    ]
    store = write_conversations(tmp_path / "chat", parts)
    packs = make_packs(store, LENGTH, divide=False)
    found = {}
    for pack in range(len(packs)):
        tokens, weights, _ = store.pack(pack, LENGTH, by_conversation=True)
        for token, weight in zip(tokens.tolist(), weights.tolist(), strict=True):
            found[token // 10] = [*found.get(token // 10, []), weight] if weight else found.get(token // 10, [])
    assert found[1] + found[2] == pytest.approx([1 / 4, 1 / 4, 0.5 / 4, 1 / 4])
    assert found[3] == pytest.approx([1 / 6] * 6)
    assert found[4] == [1]


def test_weights_by_conversation_and_source(sources):
    plain = reader_of(sources).read(np.arange(12))
    scaled = reader_of(sources, loss_weights={"text": 0.25}, by_conversation=True).read(np.arange(12))
    for source, row in zip(plain.source, range(12), strict=True):
        targets, found = plain.targets[row].tolist(), scaled.weights[row]
        if source == 1:
            np.testing.assert_allclose(found, 0.25 * plain.weights[row] / LENGTH, rtol=1e-6)
            continue
        # The trained tokens of the conversation that a target belongs to: its tens say which one.
        trained = {1: 2, 2: 1, 3: 3}
        expected = [weight and weight / trained[target // 10]
                    for weight, target in zip(plain.weights[row].tolist(), targets, strict=True)]  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert reader_of(sources, names=["text"], loss_weights={"text": 1.0}).read(0).weights is None
    assert reader_of(sources, names=["text"], loss_weights={"text": 2.0}).read(0).weights.max() == 2.0
