"""What lies after the output layer is found by known values; what is not understood takes the plain path."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import MistralForCausalLM

from tsugiki.model.cross_entropy import Transform
from tsugiki.model.head import probe_values, recognise_transform, replaced_head, why_not_linear
from tsugiki.model.loss import TrainingModel

GIVEN = probe_values(8, 101, torch.device("cpu"))


def test_probe_values_reach_from_minus_to_plus_100_and_all_differ() -> None:
    assert (float(GIVEN.min()), float(GIVEN.max())) == (-100.0, 100.0)
    assert GIVEN.unique().numel() == 8 * 101


@pytest.mark.parametrize(
    ("function", "cap", "expected"),
    [
        (lambda z: z, None, Transform()),
        (lambda z: z / 8, None, Transform(scale=0.125)),
        (lambda z: 30 * torch.tanh(z / 30), 30.0, Transform(cap=30.0)),
        (lambda z: z, 30.0, Transform()),  # configured and not applied
    ],
    ids=["identity", "scale", "cap", "cap configured only"],
)
def test_known_transforms_are_recognised(function: Callable[..., Any], cap: float | None, expected: Transform) -> None:
    found = recognise_transform(GIVEN, function(GIVEN), cap)
    assert isinstance(found, Transform)
    assert found.cap == expected.cap
    assert found.scale == pytest.approx(expected.scale)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: 30 * torch.tanh(z / 30),  # not configured
        lambda z: z + 1,
        lambda z: z.clamp(max=50),
        lambda z: z.log_softmax(-1),
        lambda z: z * torch.linspace(1, 2, 101),
        lambda z: z[:, -1:],
        lambda z: torch.full_like(z, float("nan")),
    ],
)
def test_unknown_transforms_are_not_recognised(function: Callable[..., Any]) -> None:
    assert isinstance(recognise_transform(GIVEN, function(GIVEN), None), str)


def test_stand_in_is_taken_away_even_after_an_error() -> None:
    head = nn.Linear(2, 3)
    with pytest.raises(ZeroDivisionError), replaced_head(head, lambda hidden: 1 / 0):
        head(torch.ones(2))
    assert head(torch.ones(2)).shape == (3,)


def test_only_a_plain_linear_layer_counts_as_linear() -> None:
    class Lora(nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden) + 1

    assert why_not_linear(nn.Linear(2, 3)) is None
    assert "Lora" in str(why_not_linear(Lora(2, 3)))
    assert "Sequential" in str(why_not_linear(nn.Sequential(nn.Linear(2, 3))))
    assert why_not_linear(None) is not None


@pytest.fixture
def odd_model(tiny_model_folder: Callable[..., Path]) -> MistralForCausalLM:
    class Squared(MistralForCausalLM):
        """Does to its logits what no configuration says."""

        def forward(self, *arguments: Any, **named: Any) -> Any:
            output = super().forward(*arguments, **named)
            output.logits = output.logits * output.logits.abs()
            return output

    return Squared.from_pretrained(tiny_model_folder("mistral"), dtype=torch.float32)


def test_odd_logits_take_the_plain_path_with_a_warning_and_right_losses(
    odd_model: MistralForCausalLM, caplog: pytest.LogCaptureFixture
) -> None:
    model = TrainingModel(odd_model)
    inputs = torch.arange(12).reshape(2, 6)
    targets = inputs + 5
    targets[0, 2] = -100
    with caplog.at_level(logging.WARNING):
        model.probe_head(inputs[:1])
    assert model.transform is None
    assert "neither one factor nor a configured soft cap" in caplog.text
    output = model(inputs, targets)
    log_probabilities = odd_model(input_ids=inputs, use_cache=False).logits.log_softmax(-1)
    expected = -log_probabilities.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    expected[0, 2] = 0.0
    torch.testing.assert_close(output.token_losses, expected.detach())
    assert output.loss_sum.item() == pytest.approx(expected.sum().item(), rel=1e-6)


def test_plain_path_gradients_equal_chunked_ones(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    inputs, targets = torch.arange(12).reshape(2, 6), torch.arange(5, 17).reshape(2, 6)
    gradients = []
    for path in ("chunked", "plain"):
        model = load(tiny_model_folder("gemma2"))
        assert model.transform is not None
        assert model.transform.cap == 3.0
        if path == "plain":
            model.transform = None
        model(inputs, targets).loss_sum.backward()
        gradients.append({name: p.grad.full_tensor() for name, p in model.named_hf_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-5)
