"""Settings of adapters that tests of several folders try, and plain peft with the same weights."""

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

CASES: dict[str, dict[str, Any]] = {
    "linear": {},
    "whole": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "rows": {"rows": [3, 50, 7]},
    "head": {"target_modules": ["*.q_proj", "embed_tokens", "lm_head"]},
}
"""`rows` is no key of the recipe: it stands for what the vocabulary stage has added."""


def lora_settings(**values: Any) -> SimpleNamespace:
    """The recipe's section as `load_model` reads it."""
    defaults = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": ["all-linear"], "modules_to_save": []}
    return SimpleNamespace(**{**defaults, **values})


def options_of(case: str) -> dict[str, Any]:
    """The arguments of `load_model` for a case."""
    values = dict(CASES[case])
    return {"new_rows": values.pop("rows", []), "lora": lora_settings(**values)}


def move_adapters(model: Any) -> None:
    """Give every trained tensor of our model values of its own: with B at 0, A would have no gradient."""
    generator = torch.Generator().manual_seed(1)
    for _, parameter in model.named_hf_parameters():
        if parameter.requires_grad:
            drawn = 0.1 * torch.randn(parameter.shape, generator=generator)
            mine = parameter.detach()
            whole = mine.full_tensor() + drawn
            if isinstance(mine, DTensor):
                mine.copy_(distribute_tensor(whole, mine.device_mesh, mine.placements))
            else:
                mine.copy_(whole)


def plain_peft(plain: Any, config: Any, weights: dict[str, torch.Tensor]) -> Any:
    """A Hugging Face model with peft's own adapters of `config`, and the trained tensors among `weights`."""
    from peft import get_peft_model

    model = get_peft_model(plain, copy.deepcopy(config)).base_model.model
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained.keys() == weights.keys()
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])
    return model


def trained_of(model: Any) -> dict[str, torch.Tensor]:
    """Our model's trained tensors, whole."""
    return {n: p.detach().full_tensor().clone() for n, p in model.named_hf_parameters() if p.requires_grad}
