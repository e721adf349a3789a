"""The one call of the model in training: no shift, no leak between documents, nothing stale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tsugiki.model.loss import TrainingModel, cumulative_lengths

ARCHITECTURES = [
    "mistral", "llama", "qwen3", "gemma2", "gemma3", "gemma3-multimodal", "phi3", "gpt_neox", "granite", "phi",
    "mixtral", "qwen3_moe", "deepseek_v3",
]  # fmt: skip


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(3, 80, (rows, length), generator=torch.Generator().manual_seed(seed))


def restarting(*lengths: int) -> Tensor:
    return torch.cat([torch.arange(length) for length in lengths])


def offset_of_labels(model: TrainingModel, shift: int) -> int:
    """How far after position 7 the token lies that the loss at position 7 pulls up, by the gradient of the output
    layer's rows, when the targets are the inputs moved by `shift`. Needs no trained model."""
    window = torch.randperm(60, generator=torch.Generator().manual_seed(3))[:22] + 3
    targets = torch.full((1, 20), -100)
    targets[0, 7] = window[shift : shift + 20][7]
    model(window[None, :20], targets).loss_sum.backward()
    gradient = model.hf.get_output_embeddings().weight.grad.full_tensor()
    pulled = int(gradient.norm(dim=1).argmax())  # softmax - 1 at the target, a small softmax everywhere else
    return int((window == pulled).nonzero()) - 7


@pytest.mark.parametrize("shift", [0, 1, 2], ids=["not at all", "once", "twice"])
def test_loss_pulls_up_exactly_the_given_target(
    shift: int, load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    """Nothing below shifts: a caller who shifts twice or not at all is seen as such."""
    assert offset_of_labels(load(tiny_model_folder("llama")), shift) == shift


def test_each_token_loss_is_that_of_its_own_position(
    load: Callable[..., TrainingModel], load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    """Position i of the losses is log-softmax at input i of target i: a shift in the loss would move it."""
    model, plain = load(tiny_model_folder("llama")), load_plain(tiny_model_folder("llama"))
    window = tokens(2, 14)
    inputs, targets = window[:, :-1], window[:, 1:].clone()
    targets[0, 3] = targets[1, 0] = -100
    expected = -plain(input_ids=inputs, use_cache=False).logits.log_softmax(-1)
    expected = expected.gather(-1, targets.clamp(min=0)[..., None])[..., 0].detach()
    expected[targets == -100] = 0.0
    torch.testing.assert_close(model(inputs, targets).token_losses, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(inputs, targets).token_losses, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", ["chunked", "plain"])
def test_targets_count_by_their_weights(
    path: str,
    load: Callable[..., TrainingModel],
    load_plain: Callable[..., Any],
    tiny_model_folder: Callable[..., Path],
) -> None:
    model, plain = load(tiny_model_folder("llama"), loss_chunk_tokens=4), load_plain(tiny_model_folder("llama"))
    if path == "plain":
        model.transform = None
    window = tokens(2, 14)
    inputs, targets = window[:, :-1], window[:, 1:].clone()
    targets[0, 3] = targets[1, 0] = -100
    weights = torch.rand(targets.shape, generator=torch.Generator().manual_seed(4)) * (targets != -100)
    losses = -plain(input_ids=inputs, use_cache=False).logits.log_softmax(-1)
    losses = losses.gather(-1, targets.clamp(min=0)[..., None])[..., 0] * (targets != -100)
    (losses * weights).sum().backward()
    output = model(inputs, targets, None, weights)
    output.loss_sum.backward()
    torch.testing.assert_close(output.loss_sum.detach(), (losses * weights).sum().detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.token_losses, losses.detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_hf_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.full_tensor(), plain.get_parameter(name).grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_documents_of_a_window_are_isolated(
    name: str,
    attention: str | None,
    load: Callable[..., TrainingModel],
    load_plain: Callable[..., Any],
    tiny_model_folder: Callable[..., Path],
) -> None:
    """Logits of packed documents with restarting positions equal those of each document alone, in a batch of two."""
    model = load(tiny_model_folder(name), attn_implementation=attention)
    plain = load_plain(tiny_model_folder(name)).eval()
    model.eval()
    inputs = tokens(2, 21)
    cuts = [(5, 16), (12, 2, 7)]
    positions = torch.stack([restarting(*lengths) for lengths in cuts])
    with torch.no_grad():
        packed = model.logits(inputs, positions)
        together = model.logits(inputs)
        for row, lengths in enumerate(cuts):
            begin = 0
            for length in lengths:
                alone = plain(input_ids=inputs[row : row + 1, begin : begin + length], use_cache=False).logits[0]
                torch.testing.assert_close(packed[row, begin : begin + length], alone, rtol=1e-4, atol=1e-5)
                begin += length
    assert float((packed - together)[0, 5:].abs().max()) > 1e-3  # the test can see a leak


def test_isolated_losses_are_those_of_the_isolated_logits(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    model = load(tiny_model_folder("gemma3"))
    inputs, targets, positions = tokens(1, 12), tokens(1, 12, 1), restarting(5, 7)[None]
    with torch.no_grad():
        expected = -model.logits(inputs, positions).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        torch.testing.assert_close(model(inputs, targets, positions).token_losses, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mistral", "gemma3", "mixtral"])
def test_one_row_of_packed_documents_equals_the_batch(
    name: str, load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    """FlashAttention's way, a single row, on the CPU's attention: same losses in the same places."""
    model = load(tiny_model_folder(name))
    inputs, targets = tokens(2, 12), tokens(2, 12, 1)
    targets[0, 5] = -100
    positions = torch.stack([restarting(5, 7), restarting(12)])
    with torch.no_grad():
        expected = model(inputs, targets, positions)
        model.flattens_packed = True
        found = model(inputs, targets, positions)
        flat_logits = model.logits(inputs, positions)
    torch.testing.assert_close(found.token_losses, expected.token_losses, rtol=1e-5, atol=1e-5)
    assert flat_logits.shape[:2] == (2, 12)


def test_cumulative_lengths_start_a_document_at_every_row_and_restart() -> None:
    positions = torch.stack([restarting(5, 7), restarting(12)])
    found = cumulative_lengths(positions, torch.device("cpu"))
    assert found["cu_seq_lens_q"].tolist() == [0, 5, 12, 24]
    assert found["cu_seq_lens_q"].dtype == torch.int32
    assert found["max_length_k"] == 12


def test_model_is_called_without_cache_mask_or_labels(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    model = load(tiny_model_folder("mixtral"))
    calls = []
    model.hf.register_forward_pre_hook(lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True)
    model(tokens(1, 6), tokens(1, 6))
    model(tokens(1, 6), tokens(1, 6), torch.arange(6)[None])
    assert [sorted(call) for call in calls] == [
        ["input_ids", "output_router_logits", "use_cache"],
        ["input_ids", "output_router_logits", "position_ids", "use_cache"],
    ]
    assert not any(call["use_cache"] for call in calls)


@pytest.mark.parametrize("name", ["mistral", "mistral-tied"])
def test_ties_are_those_of_the_configuration_and_survive_a_step(
    name: str, load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    model = load(tiny_model_folder(name))
    names = [parameter for parameter, _ in model.named_hf_parameters()]
    assert model.tied == (name == "mistral-tied")
    assert ("lm_head.weight" in names) == (not model.tied)
    model(tokens(1, 6), tokens(1, 6)).loss_sum.backward()
    with torch.no_grad():
        for _, parameter in model.named_hf_parameters():
            parameter -= 0.1 * parameter.grad
    head, embedding = model.hf.get_output_embeddings().weight, model.hf.get_input_embeddings().weight
    assert torch.equal(head.full_tensor(), embedding.full_tensor()) == model.tied


def test_weights_changed_after_a_forward_without_gradient_are_used_by_the_next(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    """FSDP keeps the root's gathered weights after a forward: a checkpoint loaded then must not be missed."""
    model = load(tiny_model_folder("mistral-tied"))
    inputs, targets = tokens(1, 6), tokens(1, 6, 1)
    with torch.no_grad():
        before = model(inputs, targets).loss_sum
        assert all(hasattr(parameter, "to_local") for parameter in model.parameters())
        model.logits(inputs)
        assert all(hasattr(parameter, "to_local") for parameter in model.parameters())
        model.hf.get_input_embeddings().weight.mul_(2.0)
        after = model(inputs, targets).loss_sum
    assert float(before) != float(after)


@pytest.mark.parametrize("mode", ["blocks", "selective"])
@pytest.mark.parametrize("name", ["mistral", "gemma3", "mixtral"])
def test_activation_checkpointing_changes_no_gradient(
    name: str, mode: str, load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    gradients, calls = [], []
    for chosen in ("none", mode):
        model = load(tiny_model_folder(name), activation_checkpointing=chosen)
        count = []
        layer = next(module for module in model.modules() if "Attention" in type(module).__name__)
        layer.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        model(tokens(2, 12), tokens(2, 12, 1)).loss_sum.backward()
        calls.append(len(count))
        gradients.append({n: p.grad.full_tensor() for n, p in model.named_hf_parameters()})
    assert calls == [1, 2]  # recomputed once
    assert all(torch.equal(gradients[0][n], gradients[1][n]) for n in gradients[0])


def test_selective_checkpointing_recomputes_less_than_whole_blocks(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path]
) -> None:
    work = {}
    for mode in ("none", "selective", "blocks"):
        model = load(tiny_model_folder("mistral"), activation_checkpointing=mode)
        with FlopCounterMode(display=False) as counter:
            model(tokens(2, 12), tokens(2, 12, 1)).loss_sum.backward()
        work[mode] = counter.get_total_flops()
    assert work["none"] < work["selective"] < work["blocks"]
    assert work["blocks"] < 4 / 3 * work["none"]


def test_compiled_blocks_give_the_same_loss_and_keep_names(
    load: Callable[..., TrainingModel], tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the eager backend: what is wrapped and called, without seconds of code generation."""
    compiled = []
    original = torch.compile

    def eager(function: Any, **options: Any) -> Any:
        compiled.append(function)
        return original(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", eager)
    plain = load(tiny_model_folder("mistral"))
    model = load(tiny_model_folder("mistral"), compile=True, activation_checkpointing="blocks")
    assert len(compiled) == 2
    assert [n for n, _ in model.named_hf_parameters()] == [n for n, _ in plain.named_hf_parameters()]
    results = []
    for each in (plain, model):
        output = each(tokens(1, 9), tokens(1, 9, 1))
        output.loss_sum.backward()
        results.append((output.loss_sum.item(), each.hf.get_input_embeddings().weight.grad.full_tensor()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_router_loss_is_the_models_own_and_not_multiplied(
    load: Callable[..., TrainingModel], load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    folder = tiny_model_folder("mixtral", router_aux_loss_coef=0.25)
    model, plain = load(folder), load_plain(folder)
    inputs = tokens(2, 9)
    expected = plain(input_ids=inputs, use_cache=False, output_router_logits=True).aux_loss
    found = model(inputs, inputs).router_loss
    assert found is not None
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert model.router_coefficient == 0.25
    assert load(tiny_model_folder("mistral"))(inputs, inputs).router_loss is None
