"""What a run takes from each source, in words, before it starts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.store import TokenStore

DOCUMENTS_AT_A_TIME, MOST_BLOCKS = 4096, 4

if TYPE_CHECKING:
    from tsugiki.corpus.prepared import PreparedSource


def describe_plan(
    mixture: Mixture, samples: int, sources: Mapping[str, "PreparedSource"], sequence_length: int
) -> list[str]:
    """A line for each source of a run that reads so many samples; beside chat sources with the share of the trained
    tokens, since weights count positions and of a conversation few are trained."""
    lines = [
        f"{plan}{_cut(sources[plan.name].train, sequence_length) if plan.samples else ''}"
        for plan in mixture.plan(samples)
    ]
    if not any(isinstance(source.train, ConversationStore) for source in sources.values()):
        return lines
    shares = trained_shares(mixture, samples, sources, sequence_length).values()
    return [f"{line}, {share:.2%} of the trained tokens" for line, share in zip(lines, shares, strict=True)]


def _cut(store: TokenStore, sequence_length: int) -> str:
    if isinstance(store, ConversationStore) or not store.document_count:
        return ""
    return f", {cut_documents(store, sequence_length):.0%} of its documents cut by a window's end"


def cut_documents(store: TokenStore, sequence_length: int) -> float:
    """The share of documents that no window holds whole: of all, or of as many as are looked up in a moment.

    A window has a token more than inputs, the last target, which may be a document's last token.
    """
    blocks = -(-store.document_count // DOCUMENTS_AT_A_TIME)
    cut = looked = 0
    for block in np.unique(np.linspace(0, blocks - 1, min(blocks, MOST_BLOCKS)).astype(np.int64)).tolist():
        first = block * DOCUMENTS_AT_A_TIME
        bounds = store.document_starts[first : first + DOCUMENTS_AT_A_TIME + 1]
        starts, lasts = bounds[:-1], bounds[1:] - 1
        cut += int(np.count_nonzero(lasts > (starts // sequence_length + 1) * sequence_length))
        looked += len(starts)
    return cut / looked


def trained_shares(
    mixture: Mixture, samples: int, sources: Mapping[str, "PreparedSource"], sequence_length: int
) -> dict[str, float]:
    """What each source has of the tokens that are trained, whatever they weigh: of a chat source a small part of its
    positions, by which mixtures are weighed. An average over its packs."""
    trained = {}
    for plan in mixture.plan(samples):
        store = sources[plan.name].train
        packs = store.window_count(sequence_length)
        a_window = store.trained_tokens / max(packs, 1) if isinstance(store, ConversationStore) else sequence_length
        trained[plan.name] = plan.samples * a_window
    return {name: tokens / max(sum(trained.values()), 1) for name, tokens in trained.items()}
