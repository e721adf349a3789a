"""Held-out loss of each source: nats per token, perplexity and bits per byte.

Every held-out document is scored alone, in overlapping windows, with the one function of `model/bits_per_byte.py`.
The context before a document is what precedes it in a token store: BOS, or the EOS of another document where the
model knows no BOS. Sums stand beside the ratios, so that a reader can pool sources.
"""

import math
import time
from typing import Any

from tsugiki.amounts import duration
from tsugiki.model.bits_per_byte import bits_per_byte, score_documents
from tsugiki.training.run import Run

SILENCE_SECONDS = 20.0
"""Between two lines on a validation that takes long."""


def validate(run: Run) -> dict[str, dict[str, Any]] | None:
    """Score the first `eval_documents` held-out documents of each source (their order is that of a hash). Collective.

    Returns by source: nats_per_token, perplexity, bits_per_byte, nats, documents, tokens, bytes (UTF-8), and nats and
    bytes of each document. None when some rank was asked to stop meanwhile (a request must not wait for the end of a
    long validation).
    """
    settings, context = run.recipe.training, run.recipe.data.sequence_length
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
        manifest = source.manifest
        found = score_documents(
            run.model,
            [source.held_out_tokens(index) for index in range(count)],
            bos_id=manifest.bos_id if manifest.add_bos else manifest.eos_id,
            context=context,
            batch_tokens=settings.micro_batch_size * context,
            group=run.processes.control,
            stop=asked_to_stop,
        )
        if found is None:
            return None
        nats, tokens = float(found.nats.sum()), int(found.tokens.sum())
        sizes = source.held_out.documents["bytes"][:count]
        size = int(sizes.sum())
        per_token = nats / max(tokens, 1)
        scores[name] = {
            "nats_per_token": per_token,
            "perplexity": math.exp(min(per_token, 700.0)),
            "bits_per_byte": bits_per_byte(nats, size),
            "nats": nats,
            "documents": count,
            "tokens": tokens,
            "bytes": size,
            "nats_by_document": [round(float(each), 3) for each in found.nats],  # what intervals of differences rest on
            "bytes_by_document": sizes.tolist(),
        }
    return scores
