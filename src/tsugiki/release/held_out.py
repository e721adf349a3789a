"""Held-out documents of a run's sources, for the released model to read: what validation has scored, if affordable.

The whole documents that validation takes first, as many as a budget allows; where not even one is allowed, its
beginning, which no validation can be compared with. Of conversations what counts is the text that the model is to
write, as in validation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.control_tokens import control_tokens
from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.prepared import PreparedSource, open_prepared
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import TsugikiError
from tsugiki.metrics_file import Scored, ValidationLine
from tsugiki.moved import found_at
from tsugiki.printable import one_line
from tsugiki.recipe import Recipe

MOST_SOURCES = 8
CHARACTERS_A_TOKEN = 4
FEWEST_CHARACTERS = 400
"""Of a document's beginning, however large the model."""


@dataclass(frozen=True)
class Trained:
    """Which ids of conversations count: those with a loss weight that are text."""

    weights: list[NDArray[np.float32]]
    """Of each id as a target."""
    end_id: int
    control_ids: list[int]

    def is_text(self, index: int, ids: Sequence[int]) -> list[bool]:
        """Of each id of a conversation, whether it counts."""
        return ((self.weights[index] > 0) & ~np.isin(ids, [self.end_id, *self.control_ids])).tolist()


@dataclass(frozen=True)
class SourceTexts:
    """Documents of a source."""

    texts: list[str]
    ids: list[list[int]]
    """Without BOS and EOS, as training has them; of conversations all of them."""
    sizes: list[int]
    """UTF-8 bytes, of what counts."""
    first: int | None
    """The token before each: BOS, or EOS where training has no BOS."""
    whole: bool
    validated: float | None = None
    """Nats of these documents in the run's last validation."""
    trained: Trained | None = None
    """Of conversations."""


@dataclass(frozen=True)
class HeldOutTexts:
    """By source; or why there are none."""

    sources: dict[str, SourceTexts] = field(default_factory=dict)
    context: int = 256
    missing: str | None = None


def held_out_texts(
    run: Path, recipe: Recipe, tokenizer: TextTokenizer, validation: ValidationLine | None, budget: int
) -> HeldOutTexts:
    """Held-out documents of at most about `budget` tokens over all sources.

    validation: that of the newest checkpoint that is released, if there is one.
    """
    context = recipe.data.sequence_length
    place = found_at(run, recipe.run_dir, recipe.prepared_dir)
    if place is None:
        return HeldOutTexts(context=context, missing=f"{recipe.prepared_dir}, the prepared data, is not there any more")
    moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"prepared_dir": place})})
    try:
        sources = open_prepared(moved)
    except TsugikiError as error:
        return HeldOutTexts(context=context, missing=one_line(str(error), 200))
    usable = {
        name: source for name, source in sources.items()
        if source.manifest.tokenizer_fingerprint == tokenizer.fingerprint and source.held_out.document_count
    }  # fmt: skip
    if not usable:
        others = any(source.held_out.document_count for source in sources.values())
        why = "were prepared with another tokenizer" if others else "have no held-out documents"
        return HeldOutTexts(context=context, missing=f"the prepared data {why}")
    chosen = dict([*usable.items()][:MOST_SOURCES])
    counts, left = _affordable(chosen, max(recipe.training.eval_documents, 1), budget)
    beginning = left // max(1, sum(count == 0 for count in counts.values()))
    scored: Mapping[str, Scored] = validation["sources"] if validation else {}
    found = {}
    for name, source in chosen.items():
        if source.is_chat:
            found[name] = _conversations(source, tokenizer, counts[name], beginning, scored.get(name))
        elif counts[name]:
            found[name] = _whole(source, tokenizer, counts[name], scored.get(name))
        else:
            found[name] = _beginning(source, tokenizer, beginning)
    return HeldOutTexts(found, context)


def _affordable(sources: Mapping[str, PreparedSource], most: int, budget: int) -> tuple[dict[str, int], int]:
    """How many whole documents of each source are read, and what is left of the budget: first documents first, and of
    these the shortest, so that few sources go without."""
    lengths = {
        name: np.diff(source.held_out.document_starts[: min(most, source.held_out.document_count) + 1]).tolist()
        for name, source in sources.items()
    }
    counts = dict.fromkeys(sources, 0)
    for index in range(most):
        for name in sorted(sources, key=lambda name: lengths[name][0]):
            if counts[name] == index < len(lengths[name]) and lengths[name][index] <= budget:
                counts[name] += 1
                budget -= lengths[name][index]
    return counts, budget


def _whole(source: PreparedSource, tokenizer: TextTokenizer, count: int, scored: Scored | None) -> SourceTexts:
    ids = [source.held_out_tokens(index) for index in range(count)]
    sizes = source.held_out_sizes(tokenizer, count)
    texts = [tokenizer.decode(each) for each in ids]
    return SourceTexts(texts, ids, sizes, _token_before(source), True, _validated(scored, sizes))


def _beginning(source: PreparedSource, tokenizer: TextTokenizer, tokens: int) -> SourceTexts:
    """Of the first document."""
    text = tokenizer.decode(source.held_out_tokens(0)[: max(tokens, FEWEST_CHARACTERS)])
    text = text[: max(CHARACTERS_A_TOKEN * tokens, FEWEST_CHARACTERS)].rstrip("\ufffd")
    return SourceTexts([text], [tokenizer.encode(text)], [len(text.encode())], _token_before(source), whole=False)


def _conversations(
    source: PreparedSource, tokenizer: TextTokenizer, count: int, tokens: int, scored: Scored | None
) -> SourceTexts:
    """`count` whole ones; where that is 0, the first one up to `tokens` behind where the model is to write."""
    store, chat = source.held_out, source.manifest.chat
    assert isinstance(store, ConversationStore)
    assert chat is not None
    ids = [store.document(index).tolist() for index in range(max(count, 1))]
    weights = [store.weights(index) for index in range(max(count, 1))]
    if count == 0:
        end = int(np.argmax(weights[0] > 0)) + max(tokens, FEWEST_CHARACTERS // CHARACTERS_A_TOKEN)
        ids, weights = [ids[0][:end]], [weights[0][:end]]
    trained = Trained(weights, chat.end_id, control_tokens(tokenizer).tolist())
    sizes = [int(size) for size in store.rows["trained_bytes"][:count]] or [
        len(tokenizer.decode(np.array(ids[0])[trained.is_text(0, ids[0])].tolist()).encode())
    ]
    validated = _validated(scored, sizes) if count else None
    texts = [tokenizer.decode(each) for each in ids]
    return SourceTexts(texts, ids, sizes, None, count > 0, validated, trained)


def _token_before(source: PreparedSource) -> int | None:
    return source.manifest.bos_id if source.manifest.add_bos else source.manifest.eos_id


def _validated(scored: Scored | None, sizes: list[int]) -> float | None:
    """Nats that the run's validation found in documents of these sizes, its first ones."""
    if scored is None:
        return None
    by_document, bytes_of = scored.get("nats_by_document"), scored.get("bytes_by_document")
    if by_document and bytes_of:
        return sum(by_document[: len(sizes)]) if bytes_of[: len(sizes)] == sizes else None
    return scored.get("nats") if scored.get("bytes") == sum(sizes) else None
