"""Updates against AdamW written out naively, refused steps bitwise, freezing, decay groups, rounding."""

import math

import pytest
import torch
from torch import nn

from tsugiki.errors import RecipeError
from tsugiki.recipe import TrainingSection
from tsugiki.training.optimizer import Optimizer, no_decay_names, round_stochastically


def training(**keys) -> TrainingSection:
    base = {
        "max_steps": 100, "global_batch_size": 8, "micro_batch_size": 2, "learning_rate": 1.0, "save_steps": 50, "precision": "fp32",
    }  # fmt: skip
    return TrainingSection.model_validate(base | keys)


def naive_adamw(weight, gradients, *, lr, decay, beta1=0.9, beta2=0.95, epsilon=1e-8):
    """AdamW in Python floats, one weight at a time (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2)."""
    out = []
    for start, series in zip(weight.tolist(), torch.stack(gradients).T.tolist(), strict=True):
        value, m, v = start, 0.0, 0.0
        for t, gradient in enumerate(series, start=1):
            m = beta1 * m + (1 - beta1) * gradient
            v = beta2 * v + (1 - beta2) * gradient * gradient
            value -= lr * decay * value
            value -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon)
        out.append(value)
    return torch.tensor(out)


def finite():
    return torch.tensor(0.0)


def test_updates_equal_naive_adamw():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6))
    start, gradients = weight.detach().clone(), [torch.randn(6) for _ in range(5)]
    optimizer = Optimizer({"w": weight}, [], training(weight_decay=0.1), seed=0)
    for step, gradient in enumerate(gradients, start=1):
        weight.grad = gradient.clone()
        optimizer.step(step, 1e-2, not_finite=finite())
    torch.testing.assert_close(weight.detach(), naive_adamw(start, gradients, lr=1e-2, decay=0.1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16-stochastic"])
def test_a_refused_step_changes_no_bit(precision):
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16-stochastic" else torch.float32
    weight = nn.Parameter(torch.randn(64, 8).to(dtype))
    optimizer = Optimizer({"w": weight}, [], training(precision=precision), seed=0)
    weight.grad = torch.randn_like(weight)
    optimizer.step(1, 1e-2, not_finite=finite())
    before = {name: tensor.clone() for name, tensor in (optimizer.tensors() | {"w": weight.detach()}).items()}
    for bad in (float("nan"), float("inf")):
        weight.grad = torch.full_like(weight, bad)
        optimizer.step(2, 1e-2, not_finite=torch.tensor(1.0))
    after = optimizer.tensors() | {"w": weight.detach()}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stochastic_rounding_is_unbiased_and_lands_on_neighbours():
    value = torch.full((200_000,), 1.0 + 2**-9 + 2**-11)  # 5/16 of the way from 1 to 1 + 2**-7
    rounded = round_stochastically(value, torch.Generator().manual_seed(1)).float()
    assert set(rounded.tolist()) == {1.0, 1.0 + 2**-7}
    assert rounded.mean().item() == pytest.approx(value[0].item(), abs=3e-5)


def test_bf16_weights_move_by_steps_that_nearest_rounding_would_lose():
    weight = nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    optimizer = Optimizer({"w": weight}, [], training(precision="bf16-stochastic", weight_decay=0.0), seed=0)
    for step in range(1, 51):
        weight.grad = torch.ones_like(weight)
        optimizer.step(step, 1e-4, not_finite=finite())
    assert weight.float().mean().item() == pytest.approx(1 - 50 * 1e-4, abs=5e-4)  # nearest: exactly 1


def test_stochastic_rounding_repeats_and_draws_anew_for_each_seed_step_and_parameter():
    def rounded(seed: int = 1, step: int = 1, name: str = "w") -> torch.Tensor:
        weight = nn.Parameter(torch.ones(256, dtype=torch.bfloat16))
        optimizer = Optimizer({name: weight}, [], training(precision="bf16-stochastic"), seed=seed)
        weight.grad = torch.ones_like(weight)
        optimizer.step(step, 1e-3, not_finite=finite())  # the same update of the same weights, whatever the step
        return weight.detach()

    assert torch.equal(rounded(), rounded())
    for other in ({"seed": 2}, {"step": 2}, {"name": "v"}):
        assert not torch.equal(rounded(), rounded(**other))


def test_frozen_parameters_keep_their_bits_until_their_step():
    body, embedding = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    settings = training(freeze=[{"parameters": ["model.layers.*"], "until_step": 2}])
    optimizer = Optimizer({"model.layers.0.w": body, "model.embed.weight": embedding}, [], settings, seed=0)
    moved = []
    for step in (1, 2, 3):
        before = body.detach().clone()
        body.grad, embedding.grad = torch.ones(4), torch.ones(4)
        optimizer.drop_frozen_gradients(step)
        optimizer.step(step, 1e-2, not_finite=finite())
        moved.append(not torch.equal(before, body.detach()))
    assert moved == [False, False, True]


def test_a_freeze_pattern_that_matches_nothing_is_refused_with_the_nearest_name():
    settings = training(freeze=[{"parameters": ["model.layers.*", "model.embed_token.weight"]}])
    parameters = {name: nn.Parameter(torch.ones(1)) for name in ("model.layers.0.w", "model.embed_tokens.weight")}
    with pytest.raises(RecipeError, match=r"'model\.embed_token\.weight' matches no .* is model\.embed_tokens\.weight"):
        Optimizer(parameters, [], settings, seed=0)


def test_norms_and_biases_are_not_decayed_and_embeddings_by_choice():
    model = nn.Sequential()
    model.embed, model.linear, model.norm = nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3)
    assert no_decay_names(model, decay_embeddings=True) == {"linear.bias", "norm.weight", "norm.bias"}
    assert "embed.weight" in no_decay_names(model, decay_embeddings=False)


def test_moments_exist_before_the_first_step():
    weight = nn.Parameter(torch.ones(3))
    tensors = Optimizer({"w": weight}, [], training(), seed=0).tensors()
    assert set(tensors) == {"w.exp_avg", "w.exp_avg_sq", "w.step"}
    assert all(not tensor.any() for tensor in tensors.values())
