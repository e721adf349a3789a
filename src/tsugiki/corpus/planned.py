"""What a run takes from each source, in words, before it starts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.window_figures import text_windows

if TYPE_CHECKING:
    from tsugiki.corpus.prepared import PreparedSource


def describe_plan(
    mixture: Mixture, samples: int, sources: Mapping[str, "PreparedSource"], sequence_length: int
) -> list[str]:
    """A line for each source of a run that reads so many samples; beside chat sources with the share of the trained
    tokens, since weights count positions and of a conversation few are trained."""
    lines = [
        f"{plan}{_windows(sources[plan.name].train, sequence_length) if plan.samples else ''}"
        for plan in mixture.plan(samples)
    ]
    if not any(isinstance(source.train, ConversationStore) for source in sources.values()):
        return lines
    shares = trained_shares(mixture, samples, sources, sequence_length).values()
    return [f"{line}, {share:.2%} of the trained tokens" for line, share in zip(lines, shares, strict=True)]


def _windows(store: TokenStore, sequence_length: int) -> str:
    if isinstance(store, ConversationStore) or not store.document_count:
        return ""
    return f", {text_windows(store, sequence_length)}"


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
