"""A step of a plain Hugging Face model, written without any of our code, and the comparison of its gradients."""

from types import ModuleType
from typing import Any

import torch


def naive_step(model: Any, worker: ModuleType) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the batch, row by row, written without any of our code."""
    inputs, targets = worker.batch()
    total = int((targets != -100).sum())
    loss = torch.zeros(())
    for row in range(len(inputs)):
        router = {"output_router_logits": True} if hasattr(model.config, "output_router_logits") else {}
        output = model(input_ids=inputs[row : row + 1], use_cache=False, **router)
        log_probabilities = output.logits.float().log_softmax(-1)
        part = torch.zeros(())
        for place, target in enumerate(targets[row].tolist()):
            if target != -100:
                part = part - log_probabilities[0, place, target]
        if getattr(output, "aux_loss", None) is not None:
            part = part + worker.ROUTER_COEFFICIENT * output.aux_loss * int((targets[row] != -100).sum())
        loss = loss + part / total
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        worst = float((found[name] - value).abs().max())
        assert worst <= 2e-6 * largest, f"{name}: {worst} of {largest}"
