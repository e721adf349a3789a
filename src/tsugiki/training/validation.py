"""Held-out loss of each source: nats per token, perplexity and bits per byte.

Every held-out document is scored alone, in overlapping windows, with the one function of `model/bits_per_byte.py`.
The context before a document is what precedes it in a token store: BOS, or the EOS of another document where the
model knows no BOS. Sums stand beside the ratios, so that a reader can pool sources.

A conversation is scored whole by the masks of training (`model/conversation_scores.py`): the same figures are those of
its trained text alone, and whether the model stops where it should, and only there, has figures of its own.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsugiki.amounts import duration
from tsugiki.corpus.control_tokens import control_tokens
from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.prepared import PreparedSource
from tsugiki.model.bits_per_byte import bits_per_byte, score_documents
from tsugiki.model.conversation_scores import score_conversations
from tsugiki.training.run import Run

SILENCE_SECONDS = 20.0
"""Between two lines on a validation that takes long."""


def validate(run: Run) -> dict[str, dict[str, Any]] | None:
    """Score the first `eval_documents` held-out documents of each source (their order is that of a hash). Collective.

    Returns by source: nats_per_token, perplexity, bits_per_byte, nats, documents, tokens, bytes (UTF-8), and nats and
    bytes of each document; of conversations also what `_of_conversations` says. None when some rank was asked to stop
    meanwhile (a request must not wait for the end of a long validation).
    """
    settings = run.recipe.training
    scores: dict[str, dict[str, Any]] = {}
    started = spoke = time.monotonic()

    def asked_to_stop() -> bool:
        nonlocal spoke
        if time.monotonic() - spoke >= SILENCE_SECONDS:
            spoke = time.monotonic()
            place = f"{list(run.sources).index(name) + 1} of {len(run.sources)}"
            run.say(f"step {run.step:,}  held-out text of {name} ({place} sources), {duration(spoke - started)} so far")
        return run.asked_to_stop()

    for name, source in run.sources.items():
        count = min(settings.eval_documents, source.held_out.document_count)
        if count == 0:
            continue
        found = (_of_conversations if source.is_chat else _of_text)(run, source, count, asked_to_stop)
        if found is None:
            return None
        scores[name] = found
    return scores


def _of_text(run: Run, source: PreparedSource, count: int, stop: Callable[[], bool]) -> dict[str, Any] | None:
    manifest, context = source.manifest, run.recipe.data.sequence_length
    found = score_documents(
        run.model,
        [source.held_out_tokens(index) for index in range(count)],
        bos_id=manifest.bos_id if manifest.add_bos else manifest.eos_id,
        context=context,
        batch_tokens=run.recipe.training.micro_batch_size * context,
        group=run.processes.control,
        stop=stop,
    )
    sizes = np.array(source.held_out_sizes(run.tokenizer, count), np.int64)
    return None if found is None else _figures(found.nats, int(found.tokens.sum()), sizes)


def _of_conversations(run: Run, source: PreparedSource, count: int, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """The figures of text, here of trained text. Also `loss`: nats a trained token, control tokens included (as in
    training, where all weigh the same). `end_probability`: of the end token where answers end, the mean, and
    `false_end_probability`: the same within them."""
    store, chat = source.held_out, source.manifest.chat
    assert isinstance(store, ConversationStore)
    assert chat is not None
    found = score_conversations(
        run.model,
        [(store.document(index), store.weights(index)) for index in range(count)],
        end_id=chat.end_id,
        control_ids=control_tokens(run.tokenizer).tolist(),
        batch_tokens=run.recipe.training.micro_batch_size * run.recipe.data.sequence_length,
        group=run.processes.control,
        stop=stop,
    )
    if found is None:
        return None
    sizes = store.rows["trained_bytes"][:count].astype(np.int64)
    return _figures(found.text_nats, int(found.text_tokens.sum()), sizes) | {
        "loss": float(found.nats.sum() / max(found.tokens.sum(), 1)),
        "end_probability": float(found.end_probability.sum() / max(found.ends.sum(), 1)),
        "false_end_probability": float(found.false_end_probability.sum() / max(found.insides.sum(), 1)),
    }


def _figures(by_document: NDArray[np.float64], tokens: int, sizes: NDArray[Any]) -> dict[str, Any]:
    """Of nats and bytes of each document."""
    nats, size = float(by_document.sum()), int(sizes.sum())
    per_token = nats / max(tokens, 1)
    return {
        "nats_per_token": per_token,
        "perplexity": math.exp(min(per_token, 700.0)),
        "bits_per_byte": bits_per_byte(nats, max(size, 1)),
        "nats": nats,
        "documents": len(sizes),
        "tokens": tokens,
        "bytes": size,
        "nats_by_document": [round(float(each), 3) for each in by_document],  # what intervals of differences rest on
        "bytes_by_document": sizes.tolist(),
    }
