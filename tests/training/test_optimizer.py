"""Updates against AdamW written out naively, refused steps bitwise, freezing, decay and rate groups, rounding."""

import math

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tsugiki.errors import RecipeError
from tsugiki.recipe_training import TrainingSection
from tsugiki.training.optimizer import Optimizer, no_decay_names, vocabulary_names
from tsugiki.training.stochastic_rounding import round_stochastically


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


ODD = {"weight_decay": 0.3, "adam_beta1": 0.8, "adam_beta2": 0.97, "adam_epsilon": 0.05}
"""Settings of which none is a default, so that one that is passed over shows."""


def naive_odd(start: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    return naive_adamw(start, gradients, lr=1e-2, decay=0.3, beta1=0.8, beta2=0.97, epsilon=0.05)


def test_updates_equal_naive_adamw():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6))
    start, gradients = weight.detach().clone(), [torch.randn(6) for _ in range(5)]
    optimizer = Optimizer({"w": weight}, [], training(**ODD), seed=0)
    for step, gradient in enumerate(gradients, start=1):
        weight.grad = gradient.clone()
        optimizer.step(step, 1e-2, skip=finite())
    torch.testing.assert_close(weight.detach(), naive_odd(start, gradients), rtol=1e-5, atol=1e-6)


def test_updates_of_bf16_weights_equal_naive_adamw_on_average():
    """20,000 copies of each weight, rounded each for itself."""
    torch.manual_seed(0)
    start = torch.randn(6).bfloat16()
    weight = nn.Parameter(start.repeat(20_000, 1))
    gradients = [torch.randn(6).bfloat16() for _ in range(5)]
    optimizer = Optimizer({"w": weight}, [], training(precision="bf16-stochastic", **ODD), seed=0)
    for step, gradient in enumerate(gradients, start=1):
        weight.grad = gradient.repeat(20_000, 1)
        optimizer.step(step, 1e-2, skip=finite())
    expected = naive_odd(start.float(), [gradient.float() for gradient in gradients])
    torch.testing.assert_close(weight.detach().float().mean(0), expected, rtol=0, atol=2e-4)
    moments = optimizer.tensors()
    assert {moments[f"w.{key}"].dtype for key in ("exp_avg", "exp_avg_sq")} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "bf16-stochastic"])
def test_a_refused_step_changes_no_bit(precision):
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16-stochastic" else torch.float32
    weight = nn.Parameter(torch.randn(64, 8).to(dtype))
    optimizer = Optimizer({"w": weight}, [], training(precision=precision), seed=0)
    weight.grad = torch.randn_like(weight)
    optimizer.step(1, 1e-2, skip=finite())
    before = {name: tensor.clone() for name, tensor in (optimizer.tensors() | {"w": weight.detach()}).items()}
    for bad in (float("nan"), float("inf")):
        weight.grad = torch.full_like(weight, bad)
        optimizer.step(2, 1e-2, skip=torch.tensor(1.0))
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
        optimizer.step(step, 1e-4, skip=finite())
    assert weight.float().mean().item() == pytest.approx(1 - 50 * 1e-4, abs=5e-4)  # nearest: exactly 1


def test_stochastic_rounding_repeats_and_draws_anew_for_each_seed_step_and_parameter():
    def rounded(seed: int = 1, step: int = 1, name: str = "w") -> torch.Tensor:
        weight = nn.Parameter(torch.ones(256, dtype=torch.bfloat16))
        optimizer = Optimizer({name: weight}, [], training(precision="bf16-stochastic"), seed=seed)
        weight.grad = torch.ones_like(weight)
        optimizer.step(step, 1e-3, skip=finite())  # the same update of the same weights, whatever the step
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
        optimizer.step(step, 1e-2, skip=finite())
        moved.append(not torch.equal(before, body.detach()))
    assert moved == [False, False, True]


def test_a_freeze_pattern_that_matches_nothing_is_refused_with_the_nearest_name():
    settings = training(freeze=[{"parameters": ["model.layers.*", "model.embed_token.weight"]}])
    parameters = {name: nn.Parameter(torch.ones(1)) for name in ("model.layers.0.w", "model.embed_tokens.weight")}
    with pytest.raises(RecipeError, match=r"'model\.embed_token\.weight' matches no .* is model\.embed_tokens\.weight"):
        Optimizer(parameters, [], settings, seed=0)


def test_moments_exist_before_the_first_step():
    weight = nn.Parameter(torch.ones(3))
    tensors = Optimizer({"w": weight}, [], training(), seed=0).tensors()
    assert set(tensors) == {"w.exp_avg", "w.exp_avg_sq", "w.step"}
    assert all(not tensor.any() for tensor in tensors.values())


# --- embeddings -----------------------------------------------------------------------------------


def plain_model(architecture):
    values = dict(architecture)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values))


ENDS = ("model.embed_tokens.weight", "lm_head.weight")
VOCABULARY = {
    "mistral": ENDS, "mistral-tied": ENDS[:1], "llama": ENDS, "qwen3": ENDS[:1], "gemma2": ENDS[:1], "gemma3": ENDS[:1],
    "gemma3-multimodal": ("model.language_model.embed_tokens.weight",), "phi3": ENDS,
    "gpt_neox": ("gpt_neox.embed_in.weight", "lm_head.weight"), "granite": ENDS, "phi": (*ENDS, "lm_head.bias"),
    "mixtral": ENDS, "qwen3_moe": ENDS, "deepseek_v3": ENDS,
}  # fmt: skip


def test_the_vocabularys_matrices_are_found_in_every_architecture(tiny_config, tiny_names):
    found = {name: vocabulary_names(plain_model(tiny_config(name))) for name in tiny_names}
    assert found == {name: set(expected) for name, expected in VOCABULARY.items()}


def test_a_model_that_names_no_output_layer_has_its_input_embeddings_alone(tiny_config):
    model = plain_model(tiny_config("mistral"))
    model.get_output_embeddings = lambda: None
    assert vocabulary_names(model) == {"model.embed_tokens.weight"}


@pytest.mark.parametrize("name", ["mistral", "mistral-tied", "phi", "gpt_neox"])
def test_norms_and_biases_are_not_decayed_and_embeddings_and_output_layer_by_choice(tiny_config, name):
    model = plain_model(tiny_config(name))
    parameters = dict(model.named_parameters())
    vectors = {name for name, parameter in parameters.items() if parameter.ndim == 1}
    for decay_embeddings, expected in ((True, vectors), (False, vectors | set(VOCABULARY[name]))):
        assert no_decay_names(model, decay_embeddings=decay_embeddings) & parameters.keys() == expected


def ends_and_body():
    """A model's parts by name, each of its own: [4, 2] matrices and a norm [2]."""
    torch.manual_seed(0)
    shapes = {"embed": (4, 2), "body": (4, 2), "norm": (2,), "head": (4, 2), "head.bias": (4,)}
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def build(parameters, **keys):
    return Optimizer(
        parameters, ["norm", "head.bias"], training(**keys), seed=0, vocabulary=["embed", "head", "head.bias"]
    )


def take_steps(optimizer, parameters, gradients, *, first=1, rate=1e-2):
    for step, given in enumerate(gradients, start=first):
        for name, gradient in given.items():
            parameters[name].grad = gradient.clone().to(parameters[name].dtype)
        optimizer.drop_frozen_gradients(step)
        optimizer.step(step, rate, skip=finite())


def draw_gradients(parameters, steps):
    generator = torch.Generator().manual_seed(1)
    return [{name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()} for _ in range(steps)]


def test_updates_with_a_factor_and_a_warm_up_equal_naive_adamw():
    """Each parameter by itself: its own rate for the update and its decay, and a count of its own updates."""
    parameters = ends_and_body()
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    gradients = draw_gradients(parameters, 5)
    optimizer = build(parameters, embedding_lr_factor=3.0, embedding_warmup_steps=2)
    take_steps(optimizer, parameters, gradients)
    for name, first, rate, decay in (
        ("embed", 0, 3e-2, 0.1), ("head", 0, 3e-2, 0.1), ("head.bias", 0, 3e-2, 0.0), ("body", 2, 1e-2, 0.1),
        ("norm", 2, 1e-2, 0.0),
    ):  # fmt: skip
        seen = [given[name].flatten() for given in gradients[first:]]
        expected = naive_adamw(start[name].flatten(), seen, lr=rate, decay=decay)
        torch.testing.assert_close(parameters[name].detach().flatten(), expected, rtol=1e-5, atol=1e-6, msg=name)
        assert optimizer.tensors()[f"{name}.step"] == 5 - first


def test_groups_are_those_of_equal_decay_and_factor():
    assert build(ends_and_body()).groups() == [(0.1, 1.0, 3, 24), (0.0, 1.0, 2, 6)]
    assert build(ends_and_body(), embedding_lr_factor=3.0).groups() == [
        (0.1, 3.0, 2, 16), (0.1, 1.0, 1, 8), (0.0, 3.0, 1, 4), (0.0, 1.0, 1, 2),
    ]  # fmt: skip


def test_a_rounded_weight_takes_its_own_rate():
    weights = {name: nn.Parameter(torch.ones(4096, dtype=torch.bfloat16)) for name in ("embed", "body")}
    settings = training(precision="bf16-stochastic", weight_decay=0.0, embedding_lr_factor=4.0)
    optimizer = Optimizer(weights, [], settings, seed=0, vocabulary=["embed"])
    ones = {name: torch.ones(4096) for name in weights}
    take_steps(optimizer, weights, [ones] * 50, rate=1e-4)
    moved = {name: 1 - weight.float().mean().item() for name, weight in weights.items()}
    assert moved == pytest.approx({"embed": 50 * 4e-4, "body": 50 * 1e-4}, abs=5e-4)


def test_the_warm_up_and_the_rules_freeze_what_either_does():
    rules = [
        {"parameters": ["head*"], "until_step": 1},
        {"parameters": ["norm"]},
        {"parameters": ["body"], "until_step": 4},
    ]
    optimizer = build(ends_and_body(), embedding_warmup_steps=2, freeze=rules)
    assert [sorted(optimizer.frozen(step)) for step in (1, 2, 3, 4, 5)] == [
        ["body", "head", "head.bias", "norm"], ["body", "norm"], ["body", "norm"], ["body", "norm"], ["norm"],
    ]  # fmt: skip


@pytest.mark.parametrize("until", [1, 2, 9, None])
def test_a_warm_up_in_which_the_rules_let_nothing_move_is_refused(until):
    rules = [{"parameters": ["embed"], "until_step": until}, {"parameters": ["head*"]}]
    with pytest.raises(
        RecipeError, match=r"embedding_warmup_steps: training\.freeze holds all .*embed, head, head\.bias"
    ):
        build(ends_and_body(), embedding_warmup_steps=2, freeze=rules)
    build(ends_and_body(), freeze=rules)
    build(ends_and_body(), embedding_warmup_steps=2, freeze=rules[:1])


@pytest.mark.parametrize("precision", ["fp32", "bf16-stochastic"])
def test_the_state_is_found_by_name_whatever_the_groups(precision):
    """Saved from four groups, it goes on alike in the one group of another order."""
    layouts = {"saved": ends_and_body(), "loaded": dict(reversed(ends_and_body().items()))}
    if precision == "bf16-stochastic":
        layouts = {key: {n: nn.Parameter(p.detach().bfloat16()) for n, p in ps.items()} for key, ps in layouts.items()}
    gradients = draw_gradients(layouts["saved"], 4)
    saved = build(layouts["saved"], embedding_lr_factor=3.0, embedding_warmup_steps=1, precision=precision)
    loaded = build(layouts["loaded"], weight_decay=0.0, precision=precision)
    assert [len(optimizer.groups()) for optimizer in (saved, loaded)] == [4, 1]
    take_steps(saved, layouts["saved"], gradients[:3])
    for name, tensor in loaded.tensors().items():
        tensor.copy_(saved.tensors()[name])
    with torch.no_grad():
        for name, parameter in layouts["loaded"].items():
            parameter.copy_(layouts["saved"][name])
    for group in saved.torch.param_groups:  # as in the other, from here on
        group["weight_decay"], group["lr_factor"] = 0.0, 1.0
    take_steps(saved, layouts["saved"], gradients[3:], first=4)
    take_steps(loaded, layouts["loaded"], gradients[3:], first=4)
    for name, parameter in layouts["saved"].items():
        assert torch.equal(parameter, layouts["loaded"][name]), name
    assert loaded.tensors().keys() == saved.tensors().keys()
    assert all(torch.equal(tensor, saved.tensors()[name]) for name, tensor in loaded.tensors().items())
