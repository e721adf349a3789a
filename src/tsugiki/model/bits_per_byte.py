"""Held-out loss that does not depend on the tokenizer: nats of a document's text over its UTF-8 bytes.

Each document is scored alone. One longer than the window is read in overlapping windows, each of which scores only
what the window before did not reach, so that every token but the first few has at least half a window before it
(`stride` at most half of `context`). BOS is given as context where there is one and never scored, nor is EOS: bits
per byte are about text. Shorter windows are padded on the right: attention is causal, so that padding changes
nothing before it and no mask is needed (a test compares).

Of a document that is a context and its continuation, the continuation alone is scored (`scored_from`): by the same
windows, which begin as late as scoring its tokens allows.

A vocabulary that spends fewer tokens on the same text gets no discount: bits per byte = nats / ln 2 / bytes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from tsugiki.corpus.windows import IGNORE
from tsugiki.model.loss import TrainingModel

Amount = TypeVar("Amount", float, NDArray[np.float64])
Ids = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True)
class DocumentScores:
    """Per document: nats of its scored tokens (float64) and how many there were (int64)."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """Tokens [start, end) of a document (BOS counted as token 0 where there is one); targets from `scored_from`
    on are scored, each token but the first being the target of the one before it."""

    document: int
    start: int
    end: int
    scored_from: int

    @property
    def length(self) -> int:
        """Number of inputs, which is one less than the number of tokens."""
        return self.end - self.start - 1


def bits_per_byte(nats: Amount, size: Any) -> Amount:
    """`nats` of a text of `size` UTF-8 bytes, in bits per byte; of several texts at once, as arrays."""
    return nats / math.log(2) / size


def plan_windows(
    lengths: Sequence[int], context: int, stride: int | None = None, scored_from: Sequence[int] | None = None
) -> list[Window]:
    """Windows of at most `context` inputs over documents of `lengths` tokens (BOS included): every token but the
    first of each document is scored exactly once, or every one from its `scored_from` on, and has at least `context`
    less `stride` tokens before it, or all there are. `stride` None is half of `context`; ValueError if it is more."""
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride <= max(1, context // 2):
        raise ValueError(f"stride {stride} leaves less than half of the context {context} before a token")
    windows = []
    for document, length in enumerate(lengths):
        first = 1 if scored_from is None else max(1, scored_from[document])
        end = min(length, max(context + 1, first + stride))
        while first < length:
            windows.append(Window(document, max(0, end - context - 1), end, first))
            first, end = end, min(length, end + stride)
    return windows


def plan_batches(windows: Sequence[Window], batch_tokens: int) -> list[list[Window]]:
    """Windows of like length together, longest first; rows times longest row at most `batch_tokens` (one row at
    least)."""
    batches: list[list[Window]] = []
    for window in sorted(windows, key=lambda window: -window.length):
        if batches and (len(batches[-1]) + 1) * batches[-1][0].length <= batch_tokens:
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches


def score_documents(
    model: TrainingModel,
    documents: Sequence[Ids],
    *,
    bos_id: int | None,
    context: int,
    stride: int | None = None,
    scored_from: Sequence[int] | None = None,
    batch_tokens: int = 8192,
    group: dist.ProcessGroup | None = None,
    stop: Callable[[], bool] | None = None,
) -> DocumentScores | None:
    """Score token ids of documents, given without BOS and EOS. Collective over all processes.

    Every rank passes the same documents and gets all scores: batches are shared out, and ranks with one batch less
    make an empty call, since a sharded forward is collective. `group` (gloo) adds the results up; None is the
    default group. `bos_id` None means that a document's first token cannot be scored. `scored_from` is the index, in
    each document as it is given, of the first token to score; None scores whole documents. `stop` is asked before
    each round of batches and must answer alike on all ranks; once true, None is returned.
    """
    first = [] if bos_id is None else [bos_id]
    texts = [np.concatenate([np.asarray(first, np.int64), np.asarray(ids, np.int64)]) for ids in documents]
    starts = None if scored_from is None else [len(first) + start for start in scored_from]
    batches = plan_batches(plan_windows([len(text) for text in texts], context, stride, starts), batch_tokens)
    device = next(model.hf.parameters()).device

    def score(windows: Sequence[Window]) -> torch.Tensor:
        inputs, targets = _tensors(windows, texts)
        losses = model(inputs.to(device, non_blocking=True), targets).token_losses
        return torch.stack([losses.double().sum(dim=1).cpu(), (targets != IGNORE).sum(dim=1).double()])

    sums = torch.zeros(2, len(texts), dtype=torch.float64)
    if not add_up(sums, model, batches, score, group, stop):
        return None
    return DocumentScores(sums[0].numpy(), sums[1].numpy().astype(np.int64))


def add_up(
    sums: torch.Tensor,
    model: TrainingModel,
    batches: Sequence[Sequence[Window]],
    score: Callable[[Sequence[Window]], torch.Tensor],
    group: dist.ProcessGroup | None,
    stop: Callable[[], bool] | None,
) -> bool:
    """Add what `score` makes of each batch, [figures, windows], to `sums` [figures, documents]: collective, the batches
    shared over the ranks, without gradients and with dropout off. A rank with one batch less scores an empty one, of
    which nothing counts. False where `stop` has ended it."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    was_training = model.training
    model.eval()
    try:
        for begin in range(0, len(batches), world):
            if stop is not None and stop():
                return False
            mine = batches[begin + rank] if begin + rank < len(batches) else []
            with torch.no_grad():
                parts = score(mine)
            if mine:
                sums.index_add_(1, torch.tensor([window.document for window in mine]), parts)
    finally:
        model.train(was_training)
    if world > 1:
        dist.all_reduce(sums, group=group)
    return True


def _tensors(windows: Sequence[Window], texts: Sequence[NDArray[np.int64]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets [rows, longest], padded on the right; one ignored token where there is no window."""
    longest = max((window.length for window in windows), default=1)
    inputs = torch.zeros(max(len(windows), 1), longest, dtype=torch.int64)
    targets = torch.full_like(inputs, IGNORE)
    for row, window in enumerate(windows):
        tokens = torch.from_numpy(texts[window.document][window.start : window.end])
        inputs[row, : window.length] = tokens[:-1]
        skipped = window.scored_from - window.start - 1  # targets that an earlier window has scored
        targets[row, skipped : window.length] = tokens[1 + skipped :]
    return inputs, targets
