"""May this model be called as `call.py` calls it? Asked of the model itself, on a few tokens, before it is.

A row with two branches and a shorter row after a common prefix, then one token more after each of them in a batch with
gaps: all logits are compared with those of plain calls without cache and mask.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from tsugiki.errors import ModelError
from tsugiki.model.cached.call import CachedCall
from tsugiki.model.cached.growing_batch import GrowingBatch
from tsugiki.model.cached.prefixes import PrefixPlan, Row, Sizes
from tsugiki.model.head import replaced_head

_TOLERANCE = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Relative distance of logits that rounding explains (fp32 with room for TF32); a wrong mask is far beyond it."""


def why_not_cached(hf: PreTrainedModel, prefix_tokens: int = 12) -> str | None:
    """Why `hf` cannot be called with our cache and masks, or None where it can. In eval mode."""
    implementation = getattr(hf.config, "_attn_implementation", None)
    if implementation not in ("eager", "sdpa"):
        return f"its attention implementation {implementation!r} takes no 4-D mask (load it with sdpa or eager)"
    try:
        return _compare(CachedCall(hf), prefix_tokens)
    except ModelError as error:
        return str(error)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # Whatever else it is that the model cannot do, the plain call remains.
        return f"the call fails with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that memory ran out: torch says so by a class on accelerators and by words on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)


def _compare(call: CachedCall, prefix_tokens: int) -> str | None:
    ids = iter(_ordinary_tokens(call.hf, prefix_tokens + 18).tolist())

    def some(count: int) -> list[int]:
        return [next(ids) for _ in range(count)]

    prefix, stem, more = np.array(some(prefix_tokens)), some(2), some(3)
    sequences = [np.array([*prefix, *own]) for own in ([*stem, *some(4)], [*stem, *some(5)], some(3))]
    got: list[list[Tensor]] = [[], [], [], []]

    past = call.nothing()  # the prefix, in two pieces
    places = np.array([[0, column] for column in range(max(0, prefix_tokens - 8), prefix_tokens)])
    row = Row(prefix, np.arange(prefix_tokens), None, {})
    for _, logits in call.rows(past, [row], places, most_tokens=1 + prefix_tokens // 2):
        got[3] += logits
    plan = PrefixPlan(sequences, [prefix_tokens] * 3, row_tokens=12)
    (rows,) = plan.batches(plan.order, prefix_tokens, Sizes(10**9, 10**9, 12))
    where = {i: (at, columns) for at, row in enumerate(rows) for i, columns in row.columns.items()}
    past = past.for_rows(len(rows))
    places = np.array([[where[i][0], column] for i in range(3) for column in where[i][1]])
    of = [i for i in range(3) for _ in where[i][1]]
    for those, logits in call.rows(past, rows, places, most_tokens=8):
        for which, one in zip(those, logits, strict=True):
            got[of[which]].append(one)
    batch = GrowingBatch.picked(past, prefix_tokens, [where[i] for i in range(3)])
    for i, one in enumerate(batch.step(call, more)):
        got[i].append(one)
    batch.drop(0)  # the last sequence is in its place now
    for i, one in zip((2, 1), batch.step(call, more[:2]), strict=True):
        got[i].append(one)

    whole = [[*sequences[0], more[0]], [*sequences[1], more[1], more[1]], [*sequences[2], more[2], more[0]], prefix]
    distances = []
    for tokens, ours in zip(whole, got, strict=True):
        plain = _plain_logits(call.hf, np.array([tokens]), len(ours))
        spread = (plain - plain.mean(dim=-1, keepdim=True)).norm(dim=-1)
        distances.append((torch.stack(ours).float() - plain).norm(dim=-1) / spread)
    # The median: where two experts are almost equally good, rounding alone may choose the other one for a token.
    distance = max(float(of_one.median()) for of_one in distances)
    tolerance = _TOLERANCE.get(call.dtype, _TOLERANCE[torch.bfloat16])
    if distance <= tolerance:
        return None
    return f"its logits with a cache and masks differ from those without by {distance:.1%} (rounding: {tolerance:.1%})"


def _plain_logits(hf: PreTrainedModel, tokens: NDArray[np.int64], last: int) -> Tensor:
    """Logits [last, vocabulary] in fp32 after the last ones of `tokens` [1, columns], without cache and mask."""
    head = hf.get_output_embeddings()
    original = head.forward
    inputs = torch.from_numpy(tokens).to(hf.get_input_embeddings().weight.device)
    with torch.no_grad(), replaced_head(head, lambda hidden: original(hidden[:, -last:])):
        logits: Tensor = hf(input_ids=inputs, use_cache=False).logits
    return logits[0].float()


def _ordinary_tokens(hf: PreTrainedModel, count: int) -> NDArray[np.int64]:
    """`count` token ids that the configuration gives no meaning to (an image token would ask for an image)."""
    special = set()
    for config in (hf.config, hf.config.get_text_config(decoder=True)):
        for name, value in config.to_dict().items():
            if name.endswith(("_token_id", "_token_index")):
                special |= set(value) if isinstance(value, list) else {value}
    ordinary = np.array([i for i in range(hf.get_input_embeddings().weight.shape[0]) if i not in special])
    return np.random.default_rng(0).choice(ordinary, count)
