"""Held-out loss of each source: nats per token, perplexity and bits per byte.

Every held-out document is scored alone, in overlapping windows, with the one function of `model/bits_per_byte.py`.
Documents are shared out over the ranks; since a sharded forward is collective, every rank makes the same number
of forward calls. The figures carry sums as well, so that a reader can pool sources or compute intervals.
"""

import math
from collections.abc import Callable, Mapping

from tsugiki.corpus.prepare import PreparedSource
from tsugiki.model.loss import TrainingModel
from tsugiki.training.distributed import Processes


def validate(
    model: TrainingModel,
    sources: Mapping[str, PreparedSource],
    processes: Processes,
    *,
    context: int,
    batch_tokens: int,
    documents: int,
    stop_requested: Callable[[], bool] = lambda: False,
) -> dict[str, dict[str, float]] | None:
    """Score the first `documents` held-out documents of each source.

    Returns by source: nats_per_token, perplexity, bits_per_byte, documents, tokens, bytes (UTF-8). None when some
    rank was asked to stop meanwhile (a request must not wait for the end of a long validation).
    """
    scores: dict[str, dict[str, float]] = {}
    model.eval()
    try:
        for name, source in sources.items():
            if source.held_out.document_count == 0:
                continue
            total = _score_source(model, source, processes, context, batch_tokens, documents, stop_requested)
            if total is None:
                return None
            nats, tokens, size, count = total
            per_token = nats / max(tokens, 1)
            scores[name] = {
                "nats_per_token": per_token,
                "perplexity": math.exp(min(per_token, 700.0)),
                "bits_per_byte": nats / math.log(2) / max(size, 1),
                "documents": count,
                "tokens": tokens,
                "bytes": size,
            }
    finally:
        model.train()
    return scores


def _score_source(
    model: TrainingModel,
    source: PreparedSource,
    processes: Processes,
    context: int,
    batch_tokens: int,
    documents: int,
    stop_requested: Callable[[], bool],
) -> tuple[float, int, int, int] | None:
    """(nats, tokens, bytes, documents) of a source over all ranks, or None when asked to stop."""
