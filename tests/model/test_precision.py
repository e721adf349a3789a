"""Which dtype holds, computes and sums, for each preset."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tsugiki.errors import RecipeError
from tsugiki.model.loss import TrainingModel
from tsugiki.model.precision import PRESETS, get_precision
from tsugiki.model.shard import make_mesh

DTYPES = {
    "fp32-master": (torch.float32, torch.bfloat16),
    "bf16-stochastic": (torch.bfloat16, torch.bfloat16),
    "pure-bf16": (torch.bfloat16, torch.bfloat16),
    "fp32": (torch.float32, torch.float32),
}


@pytest.mark.parametrize("name", ["mistral", "gemma3", "mixtral"])
@pytest.mark.parametrize("precision", DTYPES)
def test_dtypes_of_weights_gradients_computation_and_buffers(
    precision: str, name: str, load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    held, computed = DTYPES[precision]
    model = load(tiny_model_folder(name), precision=precision)
    inputs = torch.arange(8)[None]
    seen: list[torch.dtype] = []
    model.hf.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    output = model(inputs, inputs + 1)
    output.loss_sum.backward()
    assert seen == [computed]
    assert output.loss_sum.dtype == output.token_losses.dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {held}
    assert {parameter.grad.dtype for parameter in model.parameters() if parameter.grad is not None} == {held}
    buffers = {key: value.dtype for key, value in model.hf.named_buffers() if "inv_freq" in key}
    assert set(buffers.values()) == {torch.float32}


def test_bf16_loss_is_close_to_fp32s(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    inputs, targets = torch.arange(16)[None], torch.arange(3, 19)[None]
    losses = {
        name: load(tiny_model_folder("mistral"), precision=name)(inputs, targets).loss_sum.item() for name in PRESETS
    }
    for name, loss in losses.items():
        assert loss == pytest.approx(losses["fp32"], rel=0.02), name


def test_the_plain_path_computes_the_softmax_of_bf16_logits_in_fp32(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    inputs, targets = torch.arange(16)[None], torch.arange(3, 19)[None]
    model = load(tiny_model_folder("mistral"), precision="fp32-master")
    model.transform = None
    with torch.no_grad():
        logits, output = model.logits(inputs), model(inputs, targets)
    assert logits.dtype == torch.bfloat16
    expected = -logits.double().log_softmax(-1)[0, torch.arange(16), targets[0]]
    torch.testing.assert_close(output.token_losses[0].double(), expected, rtol=1e-6, atol=1e-6)


def test_unknown_preset_names_those_that_exist() -> None:
    with pytest.raises(RecipeError, match="fp32-master"):
        get_precision("fp16")


def test_hybrid_mesh_that_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"parallel\.replicas"):
        make_mesh("hybrid", 2)
    assert make_mesh("none").shape == (1, 1)
