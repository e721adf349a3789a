"""Greedy continuations: in batches that shrink and fill up again, with common beginnings computed once, and plainly."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from tsugiki.model.cached.call import CachedCall, Past, computed_prefixes, own_cache_logits
from tsugiki.model.cached.growing_batch import GrowingBatch
from tsugiki.model.cached.prefixes import Prefix, PrefixPlan, Sizes
from tsugiki.model.cached.requests import Prompt, require_finite

Known = Callable[[int, list[int]], None]


class _Outputs:
    """The new tokens of every prompt that is being continued."""

    def __init__(self, prompts: Sequence[Prompt], stop_ids: frozenset[int], known: Known):
        self._prompts, self._stop_ids, self._known = prompts, stop_ids, known
        self._new: dict[int, list[int]] = {}

    def goes_on(self, i: int, token: int) -> bool:
        """Take the next token of prompt i; once it was the last one, the result is made known."""
        new = self._new.setdefault(i, [])
        ends = token in self._stop_ids
        if not ends:
            new.append(token)
            ends = len(new) >= self._prompts[i].max_new_tokens or self._prompts[i].stop(new)
        if ends:
            self._known(i, self._new.pop(i))
        return not ends

    def last(self, i: int) -> int:
        return self._new[i][-1]

    def count(self, i: int) -> int:
        return len(self._new.get(i, ()))


def generate_sharing(
    call: CachedCall,
    prompts: Sequence[Prompt],
    *,
    stop_ids: frozenset[int],
    sizes: Sizes,
    known: Known,
) -> None:
    """`known(i, new tokens)` for each of `prompts`, all of which ask for one token or more."""
    sequences = [np.array(prompt.tokens, dtype=np.int64) for prompt in prompts]
    plan = PrefixPlan(sequences, [len(tokens) - 1 for tokens in sequences], sizes.row)
    outputs = _Outputs(prompts, stop_ids, known)
    for past, prefix in computed_prefixes(call, plan, sizes.batch):
        _continue_all(call, plan, past, prefix, prompts, outputs, sizes)


def generate_plainly(hf: PreTrainedModel, prompts: Sequence[Prompt], *, stop_ids: frozenset[int], known: Known) -> None:
    """The same, one prompt at a time with the cache that the model makes for itself."""
    outputs = _Outputs(prompts, stop_ids, known)
    for i, prompt in enumerate(prompts):
        new: list[int] = []
        for logits in own_cache_logits(hf, prompt.tokens, new):
            new += _likeliest(logits[None])
            if not outputs.goes_on(i, new[-1]):
                break


def _continue_all(
    call: CachedCall,
    plan: PrefixPlan,
    past: Past,
    prefix: Prefix,
    prompts: Sequence[Prompt],
    outputs: _Outputs,
    sizes: Sizes,
) -> None:
    """Continue the prompts that follow `prefix`. As soon as half of the rows are gone, others take their places."""
    queue = deque(prefix.followers)
    members: list[int] = []  # the prompts whose rows `batch` has
    batch: GrowingBatch | None = None
    started = 0
    while queue or members:
        if queue and len(members) <= started // 2:
            joining = _fitting(queue, members, prompts, outputs, sizes.batch)
            for chosen, arrived in _first_tokens(call, plan, past, prefix, joining, outputs, sizes):
                members += chosen
                batch = arrived if batch is None else batch.join(arrived)
            started = len(members)
        if batch is None:
            continue
        tokens = _likeliest(batch.step(call, [outputs.last(i) for i in members]))
        for row in reversed(range(len(members))):
            if not outputs.goes_on(members[row], tokens[row]):
                batch.drop(row)
                members[row] = members[-1]
                members.pop()
        if not members:
            batch = None


def _fitting(
    queue: deque[int], members: Sequence[int], prompts: Sequence[Prompt], outputs: _Outputs, batch_tokens: int
) -> list[int]:
    """As many from the queue as have room beside `members` when all are as long as expected; one at least if there are
    none. (Answers longer than that take room beyond `batch_tokens`; should memory not have it, batches are halved.)"""

    def length(i: int) -> int:
        prompt = prompts[i]
        expected = prompt.max_new_tokens if prompt.expected_new_tokens is None else prompt.expected_new_tokens
        return len(prompt.tokens) + max(min(expected, prompt.max_new_tokens), outputs.count(i))

    width = max(map(length, members), default=0)
    chosen: list[int] = []
    while queue:
        width = max(width, length(queue[0]))
        rows = len(members) + len(chosen)
        if rows and (rows + 1) * width > batch_tokens:
            break
        chosen.append(queue.popleft())
    return chosen


def _first_tokens(
    call: CachedCall,
    plan: PrefixPlan,
    past: Past,
    prefix: Prefix,
    joining: list[int],
    outputs: _Outputs,
    sizes: Sizes,
) -> list[tuple[list[int], GrowingBatch]]:
    """Read the prompts `joining` and take their first new tokens; those that go on, and their rows."""
    arrived = []
    for rows in plan.batches(joining, prefix.end, sizes):
        places = {i: (at, columns) for at, row in enumerate(rows) for i, columns in row.columns.items()}
        wanted = np.array([(at, columns[-1]) for at, columns in places.values()], dtype=np.int64)
        read = past.for_rows(len(rows))
        first = dict[int, int]()
        for those, logits in call.rows(read, rows, wanted, sizes.batch):
            first.update(zip(those.tolist(), _likeliest(logits), strict=True))
        going_on = [i for at, i in enumerate(places) if outputs.goes_on(i, first[at])]
        if going_on:
            arrived.append((going_on, GrowingBatch.picked(read, prefix.end, [places[i] for i in going_on])))
    return arrived


def _likeliest(logits: Tensor) -> list[int]:
    """The likeliest token of each row of `logits` [rows, vocabulary]. A NaN counts as the largest, so that it shows."""
    tokens = logits.argmax(dim=-1)
    require_finite(bool(logits.gather(-1, tokens[:, None]).isfinite().all()))
    chosen: list[int] = tokens.tolist()
    return chosen
