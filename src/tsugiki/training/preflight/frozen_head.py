"""dL/dlogits where the output layer is not trained, read off what reaches the hidden states.

Of a frozen weight W there is no gradient, but of its inputs there is: with every logit near the layer's bias, the
probabilities p are known, and the hidden state before target t gets s (sum of p_v W_v - W_t), s being dL/dlogit over
1 - p_t. The row of W that lies in that direction from the mean row is the token that is asked for.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tsugiki.model.adapters import NAME
from tsugiki.model.shard import inner_layer, local

CHUNK = 8192
"""Rows that are compared at a time."""


def gradient_of_logits(pull: Tensor, head: nn.Module, bias: Tensor) -> Tensor:
    """dL/dlogits [vocabulary, tokens] at the token that each position asks for; 0 elsewhere. Collective.

    pull: -dL/dhidden [tokens, hidden] over all processes, fp32 on the CPU. bias: [vocabulary], on the CPU.
    """
    weight = inner_layer(head).weight
    first, rows = first_row(weight), _rows(head).cpu()
    probabilities = bias.softmax(0)
    mean = probabilities[first : first + len(rows)] @ rows
    dist.all_reduce(mean)
    mean /= _copies(weight)
    best, token, size = torch.full((3, len(pull)), -2.0).unbind()
    strength = pull.norm(dim=1)
    for start in range(0, len(rows), CHUNK):
        away = rows[start : start + CHUNK] - mean
        dots, norms = away @ pull.T, away.norm(dim=1, keepdim=True)  # [rows, tokens], [rows, 1]
        cosines = (dots / (norms * strength)).nan_to_num(-2.0, -2.0, -2.0)
        found, place = cosines.max(dim=0)
        better = found > best
        best = torch.where(better, found, best)
        token = torch.where(better, first + start + place.double(), token)
        size = torch.where(better, (dots / norms.square()).gather(0, place[None])[0], size)
    everybody = [torch.empty(3, len(pull), dtype=torch.float64) for _ in range(dist.get_world_size())]
    dist.all_gather(everybody, torch.stack([best.double(), token.double(), size.double()]))
    together = torch.stack(everybody)  # [processes, 3, tokens]
    _, token, size = together.gather(0, together[:, :1].argmax(dim=0, keepdim=True).expand(1, 3, -1))[0]
    asked, positions = token.long().clamp(min=0), torch.arange(len(pull))
    gradient = torch.zeros(len(bias), len(pull))
    gradient[asked, positions] = -(size * (1 - probabilities[asked])).nan_to_num().float()
    return gradient


def first_row(parameter: Tensor) -> int:
    """Where this rank's rows of a tensor begin: rows are cut into equal chunks, rounded up."""
    if not isinstance(parameter, DTensor):
        return 0
    for dimension, placement in enumerate(parameter.placements):
        if placement.is_shard(0):
            chunk = -(-parameter.shape[0] // parameter.device_mesh.size(dimension))
            return min(chunk * parameter.device_mesh.get_local_rank(dimension), parameter.shape[0])
    return 0


def _copies(weight: Tensor) -> float:
    """On how many processes each row lies."""
    held = torch.tensor(float(len(local(weight))))
    dist.all_reduce(held)
    return float(held) / len(weight)


def _rows(head: Any) -> Tensor:
    """This rank's rows of the output layer as it computes now, adapters and trained rows included, fp32. Collective."""
    weight = inner_layer(head).weight
    first, rows = first_row(weight), local(weight.detach()).to(torch.float32, copy=True)
    if hasattr(head, "lora_A"):
        first_part, last_part = head.lora_A[NAME].weight, head.lora_B[NAME].weight
        whole = first_part.full_tensor() if isinstance(first_part, DTensor) else first_part
        rows += head.scaling[NAME] * local(last_part.detach()) @ whole.detach()
    if hasattr(head, "token_adapter"):
        trained = head.token_adapter.trainable_tokens_delta[NAME]
        values = trained.full_tensor() if isinstance(trained, DTensor) else trained
        for token, value in zip(head.token_adapter.token_indices[NAME], values.detach(), strict=True):
            if first <= token < first + len(rows):
                rows[token - first] = value
    return rows
