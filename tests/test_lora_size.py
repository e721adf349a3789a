"""What `validate` says of adapters before torch counts them (tests/model/test_adapters.py compares the two)."""

import math

import pytest

from tsugiki.lora_size import adapter_parameters, names_layer
from tsugiki.recipe_training import LoraSection


def test_a_matrix_costs_rank_times_its_sides():
    shapes = {"model.layers.0.q_proj.weight": (6, 4), "model.layers.0.norm.weight": (4,), "model.embed.weight": (9, 4)}
    assert adapter_parameters(LoraSection(rank=2), shapes) == 2 * (6 + 4)
    assert adapter_parameters(LoraSection(rank=2, modules_to_save=["embed"]), shapes) == 20 + math.prod((9, 4))


@pytest.mark.parametrize(
    ("pattern", "meant"), [("q_proj", True), ("attn.q_proj", True), ("a.*.q_proj", True), ("proj", False), ("a", False)]
)
def test_layers_are_named_whole_by_last_parts_or_by_a_glob(pattern, meant):
    assert names_layer(pattern, "a.attn.q_proj") is meant
