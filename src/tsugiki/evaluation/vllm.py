"""vLLM as the second backend: the same requests in token ids, the same stop rule, another server of logits.

For generation by large models on a GPU; for likelihoods it is slower than transformers (vLLM issues 1625 and 2418),
since each prompt's log-probabilities are computed anew. Scores of two backends differ in the last digits and, where
two tokens are nearly alike, in the text that follows: results name their backend.

Our stop rule looks at decoded text and is not vLLM's to know, so answers are written in rounds: after each, those that
are over leave, and the others go on from where they stood (their prefix is cached there).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tsugiki.model.cached import Continuation, LogLikelihood, Prompt

ROUND_TOKENS = 32
REQUESTS = 1024
"""At a time: an answer is in the journal at the end of its round."""


class VllmEngine:
    """`CachedModel`'s interface over `vllm.LLM`."""

    def __init__(self, vllm: Any, folder: Path, *, dtype: str, max_length: int, stop_ids: frozenset[int]):
        """Load the model of a folder by the module `vllm`."""
        self._parameters = vllm.SamplingParams
        self._stop_ids = sorted(stop_ids)
        self._model = vllm.LLM(
            model=str(folder), dtype=dtype, max_model_len=max_length, enable_prefix_caching=True,
            trust_remote_code=False, skip_tokenizer_init=True, seed=0,
            load_format="safetensors",  # left to itself it would unpickle where there is nothing else
        )  # fmt: skip

    def score(self, requests: Sequence[Continuation], done: Callable[[int, LogLikelihood], None]) -> None:
        """See `CachedModel.score`."""
        asked = self._parameters(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False)
        for begin in range(0, len(requests), REQUESTS):
            part = requests[begin : begin + REQUESTS]
            prompts = [[*request.context, *request.tokens] for request in part]
            for index, (request, output) in enumerate(zip(part, self._ask(prompts, [asked] * len(part)), strict=True)):
                scored = output.prompt_logprobs[len(request.context) :]
                found = [entry[token] for entry, token in zip(scored, request.tokens, strict=True)]
                done(
                    begin + index,
                    LogLikelihood(sum(one.logprob for one in found), all(one.rank == 1 for one in found)),
                )

    def generate(self, requests: Sequence[Prompt], done: Callable[[int, list[int]], None]) -> None:
        """See `CachedModel.generate`."""
        for begin in range(0, len(requests), REQUESTS):
            written: dict[int, list[int]] = {index: [] for index in range(begin, min(begin + REQUESTS, len(requests)))}
            while written:
                asked = [
                    self._parameters(
                        temperature=0.0, stop_token_ids=self._stop_ids, detokenize=False,
                        max_tokens=min(ROUND_TOKENS, requests[index].max_new_tokens - len(new)),
                    )
                    for index, new in written.items()
                ]  # fmt: skip
                outputs = self._ask([[*requests[index].tokens, *new] for index, new in written.items()], asked)
                for (index, new), output in zip(list(written.items()), outputs, strict=True):
                    if self._goes_on(requests[index], new, output.outputs[0]):
                        continue
                    done(index, written.pop(index))

    def _goes_on(self, request: Prompt, new: list[int], part: Any) -> bool:
        """Add what was written in this round to `new`; whether the answer is not over yet."""
        ids = list(part.token_ids)
        ended = bool(ids) and ids[-1] in self._stop_ids
        for token in ids[:-1] if ended else ids:
            new.append(token)
            if request.stop(new):
                return False
        return not ended and bool(ids) and len(new) < request.max_new_tokens

    def _ask(self, prompts: list[list[int]], parameters: list[Any]) -> list[Any]:
        tokens = [{"prompt_token_ids": prompt} for prompt in prompts]
        return self._model.generate(tokens, parameters, use_tqdm=False)
