"""Many requests to any Hugging Face causal model: what evaluation runs on.

Requests are sorted, and what they have in common at the beginning is computed once (`prefixes.py`); what remains is
packed into rows and goes through the model in batches of about `batch_tokens` tokens, the cache's included
(`scores.py`, `generation.py`). Only the positions that are asked for go through the output layer.

A model that cannot be called with our cache and masks (`call.py`, `check.py`) is called plainly: likelihoods in
batches padded on the right without a cache, which is right for every causal model, and generation one prompt at a time
with the model's own cache. `why_plain` says why.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from transformers import PreTrainedModel

from tsugiki.errors import ModelError
from tsugiki.model.cached.call import CachedCall, most_positions
from tsugiki.model.cached.check import is_out_of_memory, why_not_cached
from tsugiki.model.cached.generation import generate_plainly, generate_sharing
from tsugiki.model.cached.prefixes import Sizes
from tsugiki.model.cached.requests import Continuation, LogLikelihood, Prompt
from tsugiki.model.cached.scores import score_plainly, score_sharing

ROW_TOKENS = 512
"""Width of a row: enough for a processor to compute at full speed and for the endings of one context to stand in one
row; narrow enough that passing over the other branches costs little beside the linear layers. On a CPU one such row is
a whole batch: more at a time is no faster, only padded and out of its caches."""

_FEWEST_TOKENS = 32

Result = TypeVar("Result")


class CachedModel:
    """`hf`, called for many requests at once.

    `batch_tokens`: size of a batch, rows times columns, those of the cache included; halved for good whenever memory
    runs out. `stop_ids` end a continuation and are not part of it. `why_plain`: None, or why nothing is shared.
    """

    def __init__(self, hf: PreTrainedModel, *, batch_tokens: int, stop_ids: frozenset[int]):
        self.hf, self.batch_tokens, self.stop_ids = hf, batch_tokens, stop_ids
        self._most_positions = most_positions(hf)
        with self._evaluating():
            self.why_plain = why_not_cached(hf)
        self._checked_windows = False

    def score(self, requests: Sequence[Continuation], done: Callable[[int, LogLikelihood], None]) -> None:
        """Call `done(i, result)` for each of `requests`, in whatever order, as soon as its result is known.

        Raises ModelError when memory does not even suffice for one request.
        """
        for i, request in enumerate(requests):
            if not request.tokens:
                done(i, LogLikelihood(0.0, True))
        lengths = {i: len(one.context) + len(one.tokens) - 1 for i, one in enumerate(requests) if one.tokens}
        self._check_lengths([len(requests[i].context) for i in lengths], list(lengths.values()))

        def attempt(chosen: list[int], known: Callable[[int, LogLikelihood], None]) -> None:
            some = [requests[i] for i in chosen]
            if self.why_plain is None:
                score_sharing(CachedCall(self.hf), some, sizes=self._sizes(), known=known)
            else:
                score_plainly(self.hf, some, batch_tokens=self.batch_tokens, known=known)

        self._finish(lengths, attempt, done)

    def generate(self, requests: Sequence[Prompt], done: Callable[[int, list[int]], None]) -> None:
        """Call `done(i, new tokens)` for each of `requests`, in whatever order, as soon as its last token is known.

        Raises ModelError when memory does not even suffice for one request.
        """
        for i, request in enumerate(requests):
            if request.max_new_tokens < 1:
                done(i, [])
        lengths = {
            i: len(one.tokens) + one.max_new_tokens - 1 for i, one in enumerate(requests) if one.max_new_tokens > 0
        }
        self._check_lengths([len(requests[i].tokens) for i in lengths], list(lengths.values()))

        def attempt(chosen: list[int], known: Callable[[int, list[int]], None]) -> None:
            some = [requests[i] for i in chosen]
            if self.why_plain is None:
                generate_sharing(CachedCall(self.hf), some, stop_ids=self.stop_ids, sizes=self._sizes(), known=known)
            else:
                generate_plainly(self.hf, some, stop_ids=self.stop_ids, known=known)

        self._finish(lengths, attempt, done)

    def _finish(
        self,
        lengths: dict[int, int],
        attempt: Callable[[list[int], Callable[[int, Result], None]], None],
        done: Callable[[int, Result], None],
    ) -> None:
        """`attempt` the requests in `lengths` (request -> tokens that the model reads), with smaller batches after
        memory has run out, until all are done."""
        pending = dict(lengths)
        while pending:
            chosen = list(pending)

            def known(place: int, result: Result, chosen: list[int] = chosen) -> None:
                del pending[chosen[place]]
                done(chosen[place], result)

            with self._evaluating():
                try:
                    attempt(chosen, known)
                    continue
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
            self._halve(max(pending.values()))  # only here are the tensors of the failed attempt gone

    def _halve(self, longest: int) -> None:
        if self.batch_tokens // 2 < _FEWEST_TOKENS:
            raise ModelError(
                f"memory does not suffice for one request of up to {longest:,} tokens: load the model in bf16, on a"
                " device with more memory, or leave out the longest tasks"
            )
        self.batch_tokens //= 2

    def _sizes(self) -> Sizes:
        row = min(ROW_TOKENS, self.batch_tokens)
        on_cpu = self.hf.get_input_embeddings().weight.device.type == "cpu"
        return Sizes(self.batch_tokens, row if on_cpu else self.batch_tokens, row)

    def _check_lengths(self, beginnings: Sequence[int], lengths: Sequence[int]) -> None:
        """Refuse what cannot be asked: `beginnings` counts what each request gives, `lengths` all that is read."""
        longest = max(lengths, default=0)
        if self._most_positions is not None and longest > self._most_positions:
            raise ValueError(f"a request of {longest} tokens for a model of {self._most_positions} positions")
        if min(beginnings, default=1) < 1:
            raise ModelError("an empty prompt cannot be continued: this model has no BOS token to start from")
        if self.why_plain is None and not self._checked_windows:
            # Few tokens do not show whether a sliding window is kept: asked again before the first request beyond it.
            window = min((size for size in CachedCall(self.hf).windows.values() if size), default=longest)
            if longest > window:
                with self._evaluating():
                    self.why_plain = why_not_cached(self.hf, prefix_tokens=window + 1)
                self._checked_windows = True

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.hf.training
        self.hf.eval()
        try:
            yield
        finally:
            self.hf.train(was_training)
