"""Vocabulary matrices are found by what they are, and a doubt is a refusal that names the tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tsugiki.errors import ModelError
from tsugiki.model.safe_config import build_config
from tsugiki.model.vocabulary_matrices import VocabularyMatrices, find_matrices, match_names

UNTIED = ("lm_head.weight", "model.embed_tokens.weight")
EXPECTED = {
    **dict.fromkeys(["mistral", "llama", "phi3", "granite", "mixtral", "qwen3_moe", "deepseek_v3"], UNTIED),
    "mistral-tied": ("model.embed_tokens.weight",),
    "qwen3": ("model.embed_tokens.weight",),
    "gemma2": ("model.embed_tokens.weight",),
    "gemma3": ("model.embed_tokens.weight",),
    "gemma3-multimodal": ("language_model.model.embed_tokens.weight",),
    "gpt_neox": ("embed_out.weight", "gpt_neox.embed_in.weight"),
    "phi": ("lm_head.bias", "lm_head.weight", "model.embed_tokens.weight"),
}


def find(architecture: dict[str, Any], shapes: dict[str, tuple[int, ...]], size: int = 120) -> VocabularyMatrices:
    larger = {**architecture}
    if "text_config" in larger:
        larger["text_config"] = {**larger["text_config"], "vocab_size": size}
    else:
        larger["vocab_size"] = size
    return find_matrices(build_config(architecture, "it"), build_config(larger, "it"), shapes, "it")


def shapes_of(folder: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("name", EXPECTED)
def test_matrices_of_every_architecture(
    name: str, tiny_config: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    assert find(tiny_config(name), shapes_of(tiny_model_folder(name))) == VocabularyMatrices(EXPECTED[name], ())


def test_a_width_that_equals_the_vocabulary_confuses_nobody(
    tiny_config: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    changes = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_key_value_heads": 4}
    shapes = shapes_of(tiny_model_folder("llama", **changes))
    assert sum(shape == (16, 16) for shape in shapes.values()) > 10
    found = find(tiny_config("llama", **changes), shapes)
    assert found == VocabularyMatrices(UNTIED, ())


def test_a_missing_or_another_prefix_in_the_files_is_understood(tiny_config: Callable[..., Any]) -> None:
    gpt2 = {"model_type": "gpt2", "vocab_size": 101, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 101}
    shapes = {"wte.weight": (101, 16), "wpe.weight": (101, 16), "ln_f.weight": (16,)}  # as on the hub
    assert find(gpt2, shapes).own == ("wte.weight",)
    assert find(gpt2, {f"transformer.{name}": shape for name, shape in shapes.items()}).own == (
        "transformer.wte.weight",
    )
    shapes = {"model.language_model.embed_tokens.weight": (101, 16), "lm_head.weight": (101, 16)}
    found = find(tiny_config("gemma3-multimodal"), shapes)
    assert found.own == ("lm_head.weight", "model.language_model.embed_tokens.weight")


@pytest.mark.parametrize("name", EXPECTED)
def test_every_tensor_of_the_files_is_matched_with_a_parameter(
    name: str, tiny_config: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    shapes = shapes_of(tiny_model_folder(name))
    config = build_config(tiny_config(name), "it")
    found = match_names(config, shapes, "it")
    assert (found.missing, found.strangers, found.loaded.keys()) == ((), frozenset(), shapes.keys())
    assert found.tied == (len([matrix for matrix in EXPECTED[name] if matrix.endswith("weight")]) == 1)
    lost = next(key for key in shapes if "layers.1." in key and key.endswith("norm.weight"))
    found = match_names(config, {**dict.fromkeys(shapes.keys() - {lost}), "mtp.x": None}, "it")
    assert (len(found.missing), found.strangers) == (1, {"mtp.x"})


LLAMA = {"model.embed_tokens.weight": (101, 16), "lm_head.weight": (101, 16)}


def test_copies_that_transformers_leaves_aside_are_found(tiny_config: Callable[..., Any]) -> None:
    aside = {
        "model.layers.61.embed_tokens.weight": (101, 16),
        "model.layers.61.shared_head.head.weight": (101, 16),
        "model.layers.61.eh_proj.weight": (16, 32),
    }
    found = find(tiny_config("deepseek_v3"), LLAMA | aside)
    assert found.own == UNTIED
    assert found.copies == ("model.layers.61.embed_tokens.weight", "model.layers.61.shared_head.head.weight")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"model.embed_tokens.weight": (101, 16)}, r"the files hold no lm_head\.weight"),
        ({**LLAMA, "lm_head.weight": (104, 16)}, r"lm_head\.weight has shape \[104, 16\].*\[101, 16\]"),
        ({**LLAMA, "embed_tokens.weight": (101, 16)}, r"embed_tokens\.weight, model\.embed_tokens\.weight all stand"),
        ({**LLAMA, "model.final_logits_bias": (101,)}, r"model\.final_logits_bias has 101 rows"),
        ({**LLAMA, "model.mtp.table": (101, 3)}, r"model\.mtp\.table has 101 rows"),
    ],
)
def test_doubts_are_named(shapes: dict[str, Any], message: str, tiny_config: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=message):
        find(tiny_config("llama"), shapes)


def test_a_model_that_keeps_more_by_piece_is_refused() -> None:
    per_layer = {"model_type": "gemma4_text", "vocab_size": 101, "hidden_size_per_layer_input": 4}
    with pytest.raises(ModelError, match="hidden_size_per_layer_input"):
        find(per_layer, {})
    padded = {"model_type": "cpmant", "vocab_size": 101, "hidden_size": 16, "prompt_types": 2, "prompt_length": 4}
    with pytest.raises(ModelError, match=r"input_embedding\.weight has 109 and 128 rows"):
        find(padded, {})


def test_a_table_from_piece_to_expert_is_refused(
    tiny_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DeepSeek-V4 has one; here in a Llama, since that model cannot be made tiny."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaModel

    original = LlamaModel.__init__

    def with_table(self: Any, config: Any) -> None:
        original(self, config)
        self.register_buffer("tid2eid", torch.zeros(config.vocab_size, 2))

    monkeypatch.setattr(LlamaModel, "__init__", with_table)
    with pytest.raises(ModelError, match=r"the size of the vocabulary decides that of model\.tid2eid"):
        find(tiny_config("llama"), LLAMA)
