"""Output layer and cross-entropy in one, by chunks of tokens, so that the logits of a batch never exist at once.

A batch of 8 x 4,096 tokens and a vocabulary of 42,880 would need 5.6 GB of fp32 logits, and as much again for
their gradient. Here each chunk's gradient is computed in the forward pass, right after its loss (what flows back
into a sum of losses is one scalar, so it can be multiplied in later): nothing is recomputed, and only one chunk's
logits live. Cost: the gradient of the output weight is held in fp32, [vocabulary, hidden], from forward to
backward.

With p = softmax(z), the gradient of -log p[t] with respect to z is p - onehot(t); where a model changes the output
layer's values before its softmax, z is what a `Transform` makes of them, and the gradient is multiplied by its slope.
So it is by the token's weight in the loss, while it is still fp32: the compute dtype rounds it relative to itself.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsugiki.model.transforms import Transform

CACHED_LOGITS = 1 << 20
"""fp32 logits (4 MB) that a CPU keeps in its cache while going over them some ten times; a GPU takes a whole chunk."""


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    transform: Transform,
    chunk_tokens: int,
    token_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of cross-entropies in nats, each times its token's weight, and each one as it is.

    hidden [tokens, hidden] and weight [vocabulary, hidden] in the compute dtype, bias [vocabulary] or None,
    targets [tokens] of int64 without ignored ones, token_weights fp32 [tokens] (None: all 1). Returns (sum: fp32
    [1, 1, 1] with gradient, shaped like the one logit of one token; losses: fp32 [tokens] without). The products are
    in the compute dtype, softmax and logarithm in fp32; the gradient of the weight is accumulated in fp32. Backward
    runs once.
    """
    total, losses = _ChunkedCrossEntropy.apply(
        hidden, weight, bias, targets, transform, chunk_tokens, token_weights, torch.is_grad_enabled()
    )
    return total, losses


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        transform: Transform,
        chunk_tokens: int,
        token_weights: Tensor | None,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        wants_hidden, wants_weight, wants_bias = (with_gradient and wanted for wanted in ctx.needs_input_grad[:3])
        losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias and bias is not None else None

        # One chunk's logits in the compute dtype, used again by every chunk (fresh memory of that size costs a page
        # fault for each 4 KiB on a CPU, and two chunks would overlap), and those of some of its rows in fp32.
        size = min(chunk_tokens, len(targets))
        products = torch.empty(size, len(weight), dtype=hidden.dtype, device=hidden.device)
        at_once = size if hidden.is_cuda else min(size, -(-CACHED_LOGITS // len(weight)))
        in_fp32 = torch.empty(at_once, len(weight), dtype=torch.float32, device=hidden.device)

        for start in range(0, len(targets), chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            part = hidden[rows]
            product = products[: len(part)]  # [chunk, vocabulary]
            if bias is None:
                torch.mm(part, weight.T, out=product)
            else:
                torch.addmm(bias, part, weight.T, out=product)
            wanted = wants_hidden or wants_weight or wants_bias
            counting = None if token_weights is None else token_weights[rows]
            _losses_and_gradient(product, in_fp32, targets[rows], losses[rows], transform, wanted, grad_bias, counting)
            if grad_hidden is not None:
                torch.mm(product, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                if product.dtype == torch.float32:
                    grad_weight.addmm_(product.T, part)
                else:
                    grad_weight += product.T @ part

        ctx.gradients = (grad_hidden, grad_weight, grad_bias)
        ctx.mark_non_differentiable(losses)
        counted = losses if token_weights is None else losses * token_weights
        return counted.reshape(1, 1, -1).sum(dim=2, keepdim=True), losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the chunked cross-entropy keeps its gradients for one backward pass only")
        factor = grad_total.sum()  # one number
        # In place: the fp32 gradient of a large output layer is too big to be copied.
        scaled = [None if gradient is None else gradient.mul_(factor) for gradient in ctx.gradients]
        ctx.gradients = None
        return (*scaled, None, None, None, None, None)


def _losses_and_gradient(
    product: Tensor, in_fp32: Tensor, targets: Tensor, losses: Tensor, transform: Transform, wanted: bool,
    grad_bias: Tensor | None, token_weights: Tensor | None,
) -> None:  # fmt: skip
    """Fills `losses` [chunk] of what the output layer gave, `product` [chunk, vocabulary]; where `wanted`, turns that
    in place into the gradient of their weighted sum, which is added to `grad_bias`. Takes as many rows at a time as
    `in_fp32` has."""
    for start in range(0, len(product), len(in_fp32)):
        rows = slice(start, start + len(in_fp32))
        part = product[rows]
        logits = part if part.dtype == torch.float32 else in_fp32[: len(part)].copy_(part)
        slope = transform.apply_(logits, wanted)
        gradient = _cross_entropy(logits, targets[rows], losses[rows])
        if not wanted:
            continue
        if slope is not None:
            gradient.mul_(slope)
        if token_weights is not None:
            gradient.mul_(token_weights[rows].unsqueeze(1))
        if grad_bias is not None:
            grad_bias += gradient.sum(0)
        if gradient is not part:
            part.copy_(gradient)


def _cross_entropy(logits: Tensor, targets: Tensor, losses: Tensor) -> Tensor:
    """Fills `losses` [rows] and turns fp32 `logits` [rows, vocabulary] in place into softmax - onehot(target)."""
    targets = targets.unsqueeze(1)
    logits -= logits.amax(dim=1, keepdim=True)
    of_target = logits.gather(1, targets)
    total = logits.exp_().sum(dim=1, keepdim=True)
    torch.sub(total.log(), of_target, out=losses.unsqueeze(1))
    logits /= total
    return logits.scatter_add_(1, targets, torch.full_like(of_target, -1.0))
