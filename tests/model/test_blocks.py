"""Blocks are found by what they are, in every architecture."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tsugiki.model.blocks import find_blocks

BLOCKS = {
    "mistral": "model.layers",
    "llama": "model.layers",
    "qwen3": "model.layers",
    "gemma2": "model.layers",
    "gemma3": "model.layers",
    "phi3": "model.layers",
    "phi": "model.layers",
    "gpt_neox": "gpt_neox.layers",
    "granite": "model.layers",
    "mixtral": "model.layers",
    "qwen3_moe": "model.layers",
    "deepseek_v3": "model.layers",
}


def build(config: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(CONFIG_MAPPING[config["model_type"]].from_dict(config))


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_the_layers(name: str, tiny_config: Callable[..., Any]) -> None:
    model = build(tiny_config(name))
    assert find_blocks(model) == list(model.get_submodule(BLOCKS[name]))


def test_blocks_of_a_multimodal_model_include_the_towers(tiny_config: Callable[..., Any]) -> None:
    model = build(tiny_config("gemma3-multimodal"))
    language, vision = model.model.language_model.layers, model.model.vision_tower.encoder.layers
    assert set(find_blocks(model)) == {*language, *vision}


def test_unknown_model_falls_back_to_its_largest_repeated_list() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(2, 2) for _ in range(4)])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
            self.stack = nn.ModuleList([Block(), Block(), Block()])

    model = Model()
    assert find_blocks(model) == list(model.stack)
    assert find_blocks(nn.Linear(2, 2)) == []
