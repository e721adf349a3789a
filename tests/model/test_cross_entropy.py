"""The chunked cross-entropy against logits, softmax and autograd written out."""

import pytest
import torch

from tsugiki.model import cross_entropy
from tsugiki.model.cross_entropy import chunked_cross_entropy
from tsugiki.model.transforms import Scale, SoftCap, Transform

TRANSFORMS = {"identity": Scale(), "scale": Scale(0.25), "cap": SoftCap(3.0), "scale and cap": SoftCap(3.0, 2.0)}


def make(bias: bool, tokens: int = 37, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(tokens, 16, generator=generator).to(dtype)
    weight = torch.randn(101, 16, generator=generator).to(dtype)
    offset = torch.randn(101, generator=generator).to(dtype)
    targets = torch.randint(0, 101, (tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), offset.requires_grad_() if bias else None, targets


def naive(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor, t: Transform):
    logits = hidden.double() @ weight.double().T
    if bias is not None:
        logits = logits + bias.double()
    if isinstance(t, Scale):
        logits = logits * t.factor
    elif isinstance(t, SoftCap):
        logits = t.cap * torch.tanh(logits * t.scale / t.cap)
    return -logits.log_softmax(-1)[torch.arange(len(targets)), targets]


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("chunk", [1, 5, 37, 1000])
@pytest.mark.parametrize("rows", [3, 1000], ids=["three rows at a time", "a chunk at a time"])
@pytest.mark.parametrize("weighted", [False, True], ids=["all alike", "by weight"])
def test_losses_and_gradients_equal_the_written_out_ones(
    weighted: bool, rows: int, chunk: int, name: str, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "CACHED_LOGITS", 101 * rows)
    tensors = make(bias)
    weights = torch.rand(37, generator=torch.Generator().manual_seed(2)) if weighted else None
    leaves = [tensor for tensor in tensors[:3] if tensor is not None]
    losses = naive(*tensors, TRANSFORMS[name])
    summed = (losses if weights is None else losses * weights.double()).sum()
    expected = torch.autograd.grad(summed * 0.7, leaves)
    total, found = chunked_cross_entropy(*tensors, TRANSFORMS[name], chunk, weights)
    gradients = torch.autograd.grad(total.sum() * 0.7, leaves)
    torch.testing.assert_close(found.double(), losses, rtol=1e-5, atol=1e-5)
    assert total.item() == pytest.approx(float(summed.detach()), rel=1e-6)
    for gradient, value in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-4, atol=1e-5)


def test_no_targets_give_zero_loss_and_zero_gradients() -> None:
    tensors = make(bias=True, tokens=0)
    total, _ = chunked_cross_entropy(*tensors, Scale(), 8)
    total.sum().backward()
    assert total.item() == 0.0
    assert all(float(tensor.grad.abs().sum()) == 0.0 for tensor in tensors[:3])


def test_large_logits_stay_finite() -> None:
    hidden, weight, _, targets = make(bias=False)
    total, losses = chunked_cross_entropy(hidden * 300, weight * 300, None, targets, Scale(), 8)
    total.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(hidden.grad).all()


def test_without_gradient_only_losses_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = make(bias=True)
    monkeypatch.setattr(torch, "mm", None)  # the gradient's products
    monkeypatch.setattr(torch.Tensor, "addmm_", None)
    with torch.no_grad():
        total, losses = chunked_cross_entropy(*tensors, Scale(), 8)
    torch.testing.assert_close(losses.double(), naive(*tensors, Scale()).detach(), rtol=1e-5, atol=1e-5)
    assert not total.requires_grad


def test_frozen_weight_gets_no_gradient_and_hidden_still_does() -> None:
    hidden, weight, _, targets = make(bias=False)
    total, _ = chunked_cross_entropy(hidden, weight.detach(), None, targets, Scale(), 8)
    total.sum().backward()
    expected = torch.autograd.grad(naive(hidden, weight, None, targets, Scale()).sum(), [hidden])[0]
    torch.testing.assert_close(hidden.grad, expected, rtol=1e-4, atol=1e-5)


def test_bf16_softmax_is_fp32_and_the_weights_gradient_is_summed_in_fp32() -> None:
    """Summing 64 chunks in bf16 would lose the small ones; against fp32 maths of the same bf16 numbers."""
    hidden, weight, _, targets = make(bias=False, tokens=256, dtype=torch.bfloat16)
    total, losses = chunked_cross_entropy(hidden, weight, None, targets, Scale(), 4)
    total.sum().backward()
    assert losses.dtype == torch.float32
    rounded = (hidden @ weight.T).float()  # the logits are bf16: that rounding is the compute dtype's
    assert total.item() == pytest.approx(-rounded.log_softmax(-1)[range(256), targets].sum().detach().item(), rel=1e-5)
    expected = torch.autograd.grad(naive(hidden, weight, None, targets, Scale()).sum(), [weight])[0]
    error = (weight.grad.float() - expected.float()).norm() / expected.float().norm()
    assert float(error) < 0.01


def test_small_weights_lose_nothing_in_bf16() -> None:
    """A weight of 1/3,000 in a sum that is divided by the weights gives the bits of a third's, but for the exponent."""
    gradients = []
    for weight_of_all in (1.0, 2.0**-12):
        hidden, weight, _, targets = make(bias=False, dtype=torch.bfloat16)
        weights = torch.linspace(0.1, 1, 37) * weight_of_all
        total, _ = chunked_cross_entropy(hidden, weight, None, targets, Scale(), 8, weights)
        (total.sum() / weights.sum()).backward()
        gradients.append((hidden.grad, weight.grad))
    for first, second in zip(*gradients, strict=True):
        assert torch.equal(first, second)


def test_a_second_backward_is_refused() -> None:
    hidden, weight, _, targets = make(bias=False)
    total, _ = chunked_cross_entropy(hidden, weight, None, targets, Scale(), 8)
    total.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        total.sum().backward()
