"""Log-likelihoods of continuations: with common beginnings computed once, and plainly."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from tsugiki.model.cached.call import MOST_LOGITS, CachedCall, computed_prefixes
from tsugiki.model.cached.prefixes import PrefixPlan, Sizes
from tsugiki.model.cached.requests import Continuation, LogLikelihood, require_finite

Known = Callable[[int, LogLikelihood], None]

_SOFTMAX_ENTRIES = 2**24
"""Logits that are turned into fp32 at a time: 64 MiB."""


def score_sharing(call: CachedCall, requests: Sequence[Continuation], *, sizes: Sizes, known: Known) -> None:
    """`known(i, result)` for each of `requests`, none of whose `tokens` are empty."""
    inputs = [_inputs(request) for request in requests]
    plan = PrefixPlan(inputs, [len(request.context) - 1 for request in requests], sizes.row)
    for past, prefix in computed_prefixes(call, plan, sizes.batch):
        for rows in plan.batches(prefix.followers, prefix.end, sizes):
            targets = _Targets()
            for at, row in enumerate(rows):
                for i, columns in row.columns.items():
                    targets.add(i, requests[i], [(at, column) for column in columns[-len(requests[i].tokens) :]])
            wanted, slots = targets.places()
            for those, logits in call.rows(past.for_rows(len(rows)), rows, wanted, sizes.batch):
                targets.fill(those, slots, logits)
            targets.report(known)


def score_plainly(hf: PreTrainedModel, requests: Sequence[Continuation], *, batch_tokens: int, known: Known) -> None:
    """The same with nothing shared: batches of like length, padded on the right, no cache, no mask."""
    inputs = [_inputs(request) for request in requests]
    queue = deque(sorted(range(len(requests)), key=lambda i: -len(inputs[i])))
    device = hf.get_input_embeddings().weight.device
    batch_tokens = min(batch_tokens, MOST_LOGITS // hf.config.get_text_config(decoder=True).vocab_size)
    while queue:
        longest = len(inputs[queue[0]])
        tokens = np.zeros((min(len(queue), max(1, batch_tokens // longest)), longest), dtype=np.int64)
        targets = _Targets()
        for at in range(len(tokens)):
            i = queue.popleft()
            end = len(inputs[i])
            tokens[at, :end] = inputs[i]
            targets.add(i, requests[i], [(at, place) for place in range(end - len(requests[i].tokens), end)])
        wanted, slots = targets.places()
        with torch.no_grad():
            logits = hf(input_ids=torch.from_numpy(tokens).to(device), use_cache=False).logits
        targets.fill(np.arange(len(wanted)), slots, logits[wanted[:, 0], wanted[:, 1]])
        targets.report(known)


def likelihoods(
    logits: Tensor, rows: NDArray[np.int64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probability (fp32 log-softmax) of each target after its row of `logits` [n, vocabulary], and whether it is
    the argmax; rows and targets [m], results [m]."""
    at, wanted = (torch.from_numpy(index).to(logits.device) for index in (rows, targets))
    logprobs = torch.empty(len(rows), dtype=torch.float32, device=logits.device)
    step = max(1, _SOFTMAX_ENTRIES // logits.shape[-1])
    for begin in range(0, len(logits), step):
        here = ((at >= begin) & (at < begin + step)).nonzero().squeeze(1)
        part = logits[begin : begin + step].float().log_softmax(dim=-1)
        logprobs[here] = part[at[here] - begin, wanted[here]]
    return logprobs.double().cpu().numpy(), (logits.argmax(dim=-1)[at] == wanted).cpu().numpy()


def _inputs(request: Continuation) -> NDArray[np.int64]:
    """What the model is fed: all but the last token."""
    return np.array([*request.context, *request.tokens][:-1], dtype=np.int64)


class _Targets:
    """The tokens to be scored in one batch: of which request, after which place (row, column)."""

    def __init__(self) -> None:
        self._members: list[int] = []
        self._counts: list[int] = []
        self._places: list[tuple[int, int]] = []
        self._tokens: list[int] = []

    def add(self, i: int, request: Continuation, places: list[tuple[int, int]]) -> None:
        self._members.append(i)
        self._counts.append(len(places))
        self._places += places
        self._tokens += request.tokens

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places without repetition [n, 2], and the number of each target's place among them."""
        self._logprobs = np.zeros(len(self._tokens))
        self._greedy = np.zeros(len(self._tokens), dtype=np.bool_)
        places, slots = np.unique(np.array(self._places, dtype=np.int64), axis=0, return_inverse=True)
        return places, slots.reshape(-1)

    def fill(self, those: NDArray[np.int64], slots: NDArray[np.int64], logits: Tensor) -> None:
        """Score the targets after places `those`, whose logits [n, vocabulary] are given."""
        local = np.full(slots.max() + 1, -1)
        local[those] = np.arange(len(those))
        here = np.flatnonzero(local[slots] >= 0)
        tokens = np.array(self._tokens, dtype=np.int64)[here]
        self._logprobs[here], self._greedy[here] = likelihoods(logits, local[slots[here]], tokens)

    def report(self, known: Known) -> None:
        require_finite(bool(np.isfinite(self._logprobs).all()))
        begin = 0
        for i, count in zip(self._members, self._counts, strict=True):
            end = begin + count
            known(i, LogLikelihood(float(self._logprobs[begin:end].sum()), bool(self._greedy[begin:end].all())))
            begin = end
