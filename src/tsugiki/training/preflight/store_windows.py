"""What the stores hold for the samples of a step, found without the code that feeds the loop: the probes' own reading
of windows, packs and weights."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.store import TokenStore
from tsugiki.training.run import Run


@dataclass(frozen=True)
class StoreWindow:
    """A window as the store holds it."""

    source: str
    tokens: np.ndarray  # [sequence_length + 1] int64
    starts: np.ndarray  # [sequence_length + 1] bool: the token begins a document, a conversation or the padding
    apart: bool  # whether these are not to see each other
    weights: np.ndarray  # [sequence_length + 1] float64, of each token as a target in the loss
    end: int | None  # the token at the end of a document, or of an answer


def own_samples(run: Run) -> np.ndarray:
    """What this rank's next step really reads, as global sample numbers, by arithmetic of our own: steps and ranks take
    contiguous blocks of what is not stepped over."""
    size, processes = run.recipe.training.global_batch_size, run.processes
    share = size // processes.world
    places = run.step * size + processes.rank * share + np.arange(share, dtype=np.int64)
    numbers, moved = places, np.ones_like(places)
    while moved.any():  # a number is its place and as many as are stepped over up to it
        over = sum((np.clip(numbers + 1, a, b) - a for a, b in run.mixture.skip), np.zeros_like(places))
        moved = places + over - numbers
        numbers = places + over
    return numbers


def store_windows(run: Run, samples: np.ndarray) -> list[StoreWindow]:
    """The windows of global samples, straight from the stores."""
    drawn = run.mixture.locate(np.asarray(samples, dtype=np.int64))
    found = []
    for source, window in zip(drawn.source.tolist(), drawn.window.tolist(), strict=True):
        name = run.mixture.names[source]
        store = run.sources[name].train
        if isinstance(store, ConversationStore):
            found.append(_pack(run, name, store, window))
        elif isinstance(store, PackedStore):
            found.append(_text_pack(run, name, store, window))
        else:
            found.append(_text_window(run, name, store, window))
    return found


def _text_window(run: Run, name: str, store: TokenStore, window: int) -> StoreWindow:
    length = run.recipe.data.sequence_length
    begin, apart = window * length, run.recipe.data.isolate_documents
    first = bisect_left(store.document_starts, begin)
    last = bisect_left(store.document_starts, begin + length + 1, lo=first)
    starts = np.isin(np.arange(begin, begin + length + 1), store.document_starts[first:last])
    weights = np.where(starts & apart, 0.0, 1.0)
    weights[0] = 0  # an input only
    tokens = store.read(begin, begin + length + 1).astype(np.int64)
    weights = _as_loss(run, name, weights, int(np.count_nonzero(weights)))
    return StoreWindow(name, tokens, starts, apart, weights, run.tokenizer.eos_id)


def _text_pack(run: Run, name: str, store: PackedStore, pack: int) -> StoreWindow:
    """Documents one behind another, or a part of a long one, and padding that nobody learns."""
    length = run.recipe.data.sequence_length
    documents, part = store.packs(length)[pack]
    tokens, weights = np.zeros(length + 1, np.int64), np.zeros(length + 1)
    starts, at = np.zeros(length + 1, bool), 0
    for index in documents:
        whole = store.document(index)
        if part is None:  # whole, or without the windows that it fills alone
            ids = whole[(len(whole) - 1) // length * length :] if len(whole) > length else whole
        else:
            ids = whole[part * length :][: length + 1]
        weights[at + 1 : at + len(ids)], starts[at] = 1, True
        tokens[at : at + len(ids)] = ids
        at += len(ids)
    starts[min(at, length)] |= at <= length
    weights = _as_loss(run, name, weights, int(np.count_nonzero(weights)))
    return StoreWindow(name, tokens, starts, True, weights, run.tokenizer.eos_id)


def _pack(run: Run, name: str, store: ConversationStore, pack: int) -> StoreWindow:
    """Conversations one behind another, and padding that nobody learns."""
    length = run.recipe.data.sequence_length
    tokens, weights = np.zeros(length + 1, np.int64), np.zeros(length + 1)
    starts, at = np.zeros(length + 1, bool), 0
    for index in store.packs(length)[pack].documents:
        ids, runs = store.document(index), store.runs(index)
        own = slice(at, at + len(ids))
        tokens[own], starts[at] = ids, True
        trained = _trained_with(store, index) if _by_conversation(run) else 0
        weights[own] = _as_loss(run, name, np.repeat(runs["weight"].astype(np.float64), runs["length"]), trained)
        at += len(ids)
    starts[at] = True
    chat = run.sources[name].manifest.chat
    return StoreWindow(name, tokens, starts, True, weights, chat.end_id if chat else None)


def _trained_with(store: ConversationStore, index: int) -> int:
    """Trained tokens of the whole conversation that one is part of; looks through all of the store."""
    places = store.documents()[["file", "line"]]
    whole = np.flatnonzero(places == places[index])
    return sum(int(np.count_nonzero(store.weights(part))) for part in whole.tolist())


def _by_conversation(run: Run) -> bool:
    return run.recipe.training.loss_normalization == "conversation"


def _as_loss(run: Run, name: str, weights: np.ndarray, trained: int) -> np.ndarray:
    """Weights of targets as the recipe lets them count. trained: how many targets there are in their whole
    conversation, or in their window of text."""
    share = max(trained, 1) if _by_conversation(run) else 1
    return weights * (run.recipe.data.sources[name].loss_weight / share)
