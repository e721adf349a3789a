"""What lies after the output layer is found by known values; what is not understood takes the plain path."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, MistralForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from tsugiki.model import transforms
from tsugiki.model.loss import TrainingModel
from tsugiki.model.transforms import Scale, SoftCap, probe_values, recognise_transform

GIVEN = probe_values(8, 101, torch.device("cpu"))


def test_probe_values_reach_from_minus_to_plus_100_and_all_differ() -> None:
    assert (float(GIVEN.min()), float(GIVEN.max())) == (-100.0, 100.0)
    assert GIVEN.unique().numel() == 8 * 101


@pytest.mark.parametrize(
    ("function", "expected", "words"),
    [
        (lambda z: z, Scale(), ""),
        (lambda z: z / 8, Scale(0.125), "scale 0.125"),
        (lambda z: z / 3, Scale(1 / 3), "scale 0.333333"),
        (lambda z: -z, Scale(-1.0), "scale -1"),
        (lambda z: 30 * torch.tanh(z / 30), SoftCap(30.0), "soft cap 30"),
        (lambda z: 3 * torch.tanh(z / 3), SoftCap(3.0), "soft cap 3"),
        (lambda z: 300 * torch.tanh(z / 300), SoftCap(300.0), "soft cap 300"),
        (lambda z: 30 * torch.tanh(z / 4 / 30), SoftCap(30.0, 0.25), "soft cap 30, scale 0.25"),
        (lambda z: 2 * 15 * torch.tanh(z / 15), SoftCap(30.0, 2.0), "soft cap 30, scale 2"),
    ],
)  # fmt: skip
def test_known_transforms_are_recognised(function: Callable[[Tensor], Tensor], expected: Any, words: str) -> None:
    found = recognise_transform(GIVEN, function(GIVEN))
    assert type(found) is type(expected)
    assert tuple(found) == pytest.approx(tuple(expected), rel=1e-7)  # type: ignore[arg-type]
    assert str(found) == words


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z + 1,
        lambda z: z.clamp(max=50),
        lambda z: 30 * torch.tanh(z / 30) + 1,
        lambda z: 30 * torch.atan(z / 30),
        lambda z: z.log_softmax(-1),
        lambda z: z * torch.linspace(1, 2, 101),
        lambda z: z * torch.linspace(1, 2, 8)[:, None],
        lambda z: z[:, -1:],
        lambda z: z[..., :96],
        lambda z: torch.cat([z, z], -1),
        lambda z: torch.full_like(z, math.nan),
        lambda z: torch.full_like(z, math.inf),
        lambda z: torch.zeros_like(z).fill_(7.0),
    ],
)
def test_unknown_transforms_are_not_recognised(function: Callable[[Tensor], Tensor]) -> None:
    assert isinstance(recognise_transform(GIVEN, function(GIVEN)), str)


@pytest.mark.parametrize("fault", ["value", "slope", "no slope"])
def test_a_kind_that_is_wrong_about_itself_is_not_believed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(SoftCap):
        def apply_(self, logits: Tensor, with_slope: bool) -> Tensor | None:
            slope = super().apply_(logits, with_slope)
            if fault == "value":
                logits.mul_(1.001)
            return None if fault == "no slope" or slope is None else slope * (1.01 if fault == "slope" else 1.0)

    monkeypatch.setattr(transforms, "TRANSFORMS", [Faulty])
    assert isinstance(recognise_transform(GIVEN, 30 * torch.tanh(GIVEN / 30)), str)


# --- in a model ---------------------------------------------------------------------------------------------------


class Odd(MistralForCausalLM):
    """A model that calls its output layer itself, so that the cases below can do as they like with it."""

    def forward(self, input_ids: Tensor, **named: Any) -> CausalLMOutputWithPast:
        return CausalLMOutputWithPast(logits=self.odd(self.model(input_ids=input_ids, **named).last_hidden_state))

    def odd(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError


class Squared(Odd):
    def odd(self, hidden: Tensor) -> Tensor:
        return (z := self.lm_head(hidden)) * z.abs()


class OffsetAfter(Odd):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.offset = nn.Parameter(torch.randn(config.vocab_size))

    def odd(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden) + self.offset


class LearnedScale(Odd):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.factor = nn.Parameter(torch.tensor(2.0))

    def odd(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden) * self.factor


class Twice(Odd):
    def odd(self, hidden: Tensor) -> Tensor:
        return (self.lm_head(hidden) + self.lm_head(hidden * hidden)) / 2


class Unasked(Odd):
    def odd(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, F.normalize(self.lm_head.weight, dim=1))


class CutPadding(Odd):
    def odd(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)[..., :90]


class HiddenTemperature(Odd):
    def odd(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden) * (1 + hidden.mean(-1, keepdim=True).tanh())


class TwoLayers(Odd):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lm_head = nn.Sequential(nn.Linear(config.hidden_size, 8), nn.Tanh(), nn.Linear(8, config.vocab_size))

    def odd(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)


class UnnamedCap(Odd):
    def odd(self, hidden: Tensor) -> Tensor:
        return 3 * torch.tanh(2 * self.lm_head(hidden) / 3)


class BiasInside(Odd):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)

    def odd(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Squared, "plain: it changes the outputs of that layer in an unknown way"),
        (OffsetAfter, "plain: it changes the outputs of that layer by weights that are trained, too"),
        (LearnedScale, "plain: it changes the outputs of that layer by weights that are trained, too"),
        (Twice, "plain: it calls its output layer 2 times"),
        (Unasked, "plain: it calls its output layer 0 times"),
        (CutPadding, "plain: it turns [1, 8, 101] outputs into [1, 8, 90] logits"),
        (HiddenTemperature, "plain: it changes the outputs of that layer by weights that are trained, too"),
        (TwoLayers, "plain: its output layer is a Sequential, not a linear layer"),
        (UnnamedCap, "chunked, soft cap 3, scale 2"),
        (BiasInside, "chunked"),
    ],
)
def test_odd_output_layers_give_the_losses_and_gradients_of_their_own_logits(
    kind: type[Odd], path: str, tiny_model_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    hf = kind(AutoConfig.from_pretrained(tiny_model_folder("mistral"))).train()
    inputs, targets = torch.randint(3, 90, (2, 12)), torch.randint(3, 90, (2, 12))
    targets[0, 2] = -100
    expected = F.cross_entropy(
        hf(inputs, use_cache=False).logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
    )
    wanted = dict(zip([n for n, _ in hf.named_parameters()], torch.autograd.grad(expected.sum(), list(hf.parameters()), allow_unused=True), strict=True))  # fmt: skip
    model = TrainingModel(hf, chunk_tokens=5)
    with caplog.at_level(logging.WARNING):
        model.probe_head(inputs[:1, :8])
    assert model.describe_head() == path
    assert ("takes the plain loss" in caplog.text) == path.startswith("plain")
    output = model(inputs, targets)
    output.loss_sum.backward()
    torch.testing.assert_close(output.token_losses.flatten(), expected.detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in hf.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-5, msg=name)


def test_plain_path_gradients_equal_chunked_ones(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    inputs, targets = torch.arange(12).reshape(2, 6), torch.arange(5, 17).reshape(2, 6)
    gradients = []
    for path in ("chunked", "plain"):
        model = load(tiny_model_folder("gemma2"))
        assert model.transform == SoftCap(3.0)
        if path == "plain":
            model.transform = None
        model(inputs, targets).loss_sum.backward()
        gradients.append({name: p.grad.full_tensor() for name, p in model.named_hf_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-5)
