"""Models that cannot be called with our cache and masks are found out, told why, and still answered rightly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tsugiki.model.cached import CachedModel, Continuation, LogLikelihood, Prompt
from tsugiki.model.cached.call import CachedCall
from tsugiki.model.cached.check import why_not_cached

STATES = {
    "vocab_size": 101, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "mamba": {**STATES, "state_size": 4, "intermediate_size": 32, "time_step_rank": 4},
    "bloom": {**STATES, "n_head": 4},  # distances come from places in the cache
    "lfm2": {  # short convolutions between attention layers
        **STATES, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
        "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False,
    },
}  # fmt: skip


def random_model(kind: str, **settings: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**settings), dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("kind", OTHERS)
def test_models_of_another_kind_are_called_plainly_and_answer_rightly(kind: str) -> None:
    hf = random_model(kind, **OTHERS[kind])
    cached = CachedModel(hf, batch_tokens=64, stop_ids=frozenset({2}))
    assert cached.why_plain
    prefix = [1, *range(20, 36)]
    requests = [Continuation([*prefix, word], list(range(40, 40 + word % 5 + 1))) for word in range(50, 60)]
    got: dict[int, LogLikelihood] = {}
    cached.score(requests, got.__setitem__)
    new: dict[int, list[int]] = {}
    prompts = [Prompt([*prefix, *range(word, 60)], 6, lambda new: new[-1] % 7 == 0) for word in range(50, 60)]
    cached.generate(prompts, new.__setitem__)

    def logits(tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return hf(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]

    for i, request in enumerate(requests):
        tokens = [*request.context, *request.tokens]
        expected = logits(tokens).log_softmax(dim=-1)[len(request.context) - 1 : -1]
        chosen = expected[torch.arange(len(request.tokens)), torch.tensor(request.tokens)]
        assert got[i].logprob == pytest.approx(float(chosen.sum()), abs=1e-4)
        assert got[i].greedy == (expected.argmax(dim=-1).tolist() == request.tokens)
    for i, prompt in enumerate(prompts):
        expected_new: list[int] = []
        while len(expected_new) < 6:
            token = int(logits([*prompt.tokens, *expected_new])[-1].argmax())
            if token == 2:
                break
            expected_new.append(token)
            if token % 7 == 0:
                break
        assert new[i] == expected_new


@pytest.fixture
def llama(load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]) -> Any:
    return load_plain(tiny_model_folder("llama")).eval()


def test_a_model_that_can_is_told_so_in_every_dtype(llama: Any) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert why_not_cached(llama.to(dtype)) is None


def test_each_wrong_ingredient_is_found(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, call = CachedCall._masks, CachedCall.__call__

    def everything_seen(self: CachedCall, past: Any, positions: Any, keys: Any, visible: Any) -> Any:
        return masks(self, past, positions, keys, None)

    def counted_on(self: CachedCall, past: Any, tokens: Any, positions: Any, *more: Any) -> Any:
        return call(self, past, tokens, past.columns + torch.arange(tokens.shape[1]).expand_as(tokens), *more)

    for name, wrong in (("_masks", everything_seen), ("__call__", counted_on)):
        for dtype in (torch.float32, torch.bfloat16):
            with monkeypatch.context() as patch:
                patch.setattr(CachedCall, name, wrong)
                assert "differ from those without by" in (why_not_cached(llama.to(dtype)) or "")


def test_an_attention_that_takes_no_mask_is_named_with_a_remedy(llama: Any) -> None:
    llama.config._attn_implementation = "flash_attention_2"
    assert "load it with sdpa or eager" in (why_not_cached(llama) or "")


def test_layers_of_an_unknown_kind_are_named(llama: Any) -> None:
    llama.config.layer_types = ["chunked_attention", "full_attention"]
    assert "chunked_attention" in (why_not_cached(llama) or "")


def test_running_out_of_memory_is_no_reason(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(llama, "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        why_not_cached(llama)


def test_a_sliding_window_is_looked_at_before_the_first_request_beyond_it(
    load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is 40; whoever takes it for 36 is found out by the first request that is longer, not before."""
    hf = load_plain(tiny_model_folder("mistral", sliding_window=40)).eval()
    for window, wrong in ((40, False), (36, True)):
        monkeypatch.setattr(
            "tsugiki.model.cached.call.attention_windows", lambda hf, window=window: {"sliding_attention": window}
        )
        cached = CachedModel(hf, batch_tokens=64, stop_ids=frozenset())
        for length in (30, 60):
            found: dict[int, LogLikelihood] = {}
            tokens = [20 + 7 * i % 60 for i in range(length)]
            cached.score([Continuation(tokens[:-2], tokens[-2:])], found.__setitem__)
            assert (cached.why_plain is not None) == (wrong and length == 60)
            with torch.no_grad():
                logprobs = hf(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].log_softmax(dim=-1)
            expected = float(logprobs[-3, tokens[-2]] + logprobs[-2, tokens[-1]])
            assert found[0].logprob == pytest.approx(expected, abs=1e-4)
