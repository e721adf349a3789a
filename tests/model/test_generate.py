"""Generation with a cache against logits without one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tsugiki.errors import ModelError
from tsugiki.model.cached.call import cache_name, own_cache_logits
from tsugiki.model.generate import choose, generate, generate_text, stop_ids

NAMES = [
    "mistral", "llama", "qwen3", "gemma2", "gemma3", "gemma3-multimodal", "phi3", "gpt_neox", "granite", "mixtral",
    "qwen3_moe",
    "deepseek_v3",
]  # fmt: skip
PROMPT = [1, 7, 30, 9]


@pytest.mark.parametrize("name", NAMES)
def test_cached_logits_equal_uncached_ones(
    name: str, load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    """24 tokens on: past the sliding window of 8 that Gemma's tiny configurations have."""
    model = load_plain(tiny_model_folder(name)).eval()
    new: list[int] = []
    for logits in own_cache_logits(model, PROMPT, new):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([PROMPT + new]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        if len(new) == 24:
            break
        new.append(3 + (5 * len(new)) % 80)


def test_the_cache_goes_by_the_name_that_the_models_forward_gives_it(
    load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    """`past_key_values` up to transformers 5.23, `cache` from 5.24 on, which warns of the old name."""
    model = load_plain(tiny_model_folder("llama"))
    expected, before, read = generate(model, PROMPT, max_new_tokens=3), cache_name(model), []

    class Renamed(type(model)):  # type: ignore[misc]
        def forward(self, input_ids: Any, cache: Any = None, **named: Any) -> Any:
            read.append(input_ids.shape[1])
            output = super().forward(input_ids=input_ids, **{before: cache}, **named)
            return type("Output", (), {"logits": output.logits, "cache": output[before]})

    model.__class__ = Renamed
    assert generate(model, PROMPT, max_new_tokens=3) == expected
    assert read == [len(PROMPT), 1, 1]  # after the prompt one token at a time


def test_greedy_takes_the_likeliest_and_stops_at_the_end_token(
    load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    model = load_plain(tiny_model_folder("llama"))
    expected: list[int] = []
    for _ in range(6):
        with torch.no_grad():
            expected.append(int(model(input_ids=torch.tensor([PROMPT + expected])).logits[0, -1].argmax()))
    assert generate(model, PROMPT, max_new_tokens=6) == expected
    first = expected.index(expected[3])
    assert generate(model, PROMPT, max_new_tokens=6, stop_ids=frozenset({expected[3]})) == expected[:first]
    assert generate(model, PROMPT, max_new_tokens=0) == []
    assert model.training


def test_sampling_repeats_with_its_seed_and_leaves_the_global_one(
    load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    model = load_plain(tiny_model_folder("llama"))
    state = torch.random.get_rng_state()
    drawn = [generate(model, PROMPT, max_new_tokens=12, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_top_p_and_temperature_draw_from_the_right_distribution() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)

    def shares(temperature: float, top_p: float) -> list[float]:
        counts = torch.bincount(
            torch.tensor([choose(logits, temperature, top_p, generator) for _ in range(2000)]), minlength=4
        )
        return (counts / 2000).tolist()

    assert shares(1.0, 1.0) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.04)
    assert shares(1.0, 0.7) == pytest.approx([0.625, 0.375, 0, 0], abs=0.04)
    assert shares(1.0, 0.0) == [1, 0, 0, 0]
    assert shares(0.5, 1.0) == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=0.04)


def test_end_tokens_come_from_the_model_and_the_tokenizer(
    load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    model = load_plain(tiny_model_folder("llama"))
    model.generation_config.eos_token_id = [2, 9]
    assert stop_ids(model, 11, None) == {2, 9, 11}


def test_text_is_continued_from_a_folder(tiny_language_model_folder: Path) -> None:
    text = generate_text(tiny_language_model_folder, "The river", max_new_tokens=5, seed=4)
    assert text.startswith("The river")
    assert text == generate_text(tiny_language_model_folder, "The river", max_new_tokens=5, seed=4)


def test_empty_prompt_without_bos_is_refused(
    load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match="empty prompt"):
        generate(load_plain(tiny_model_folder("llama")), [], max_new_tokens=2)
