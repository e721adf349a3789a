"""Tensors and figures of which every rank has a part, put together or reduced by arithmetic of the probes' own."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tsugiki.model.shard import local

STRIDED = 4096
"""Elements of a tensor that stand for all."""


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together (collective); any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_norms(parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """Norm of this rank's part of each gradient, by name."""
    found = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    return {name: float(local(gradient).norm(dtype=torch.float32)) for name, gradient in found.items()}


def global_norm(norms: Mapping[str, float], parameters: Mapping[str, nn.Parameter]) -> float:
    """The norm of all gradients over all ranks, from their local norms, by squares added up here. Collective."""
    total = sum(norm * norm / copies(parameters[name]) for name, norm in norms.items())
    return float(over_ranks(torch.tensor(total, dtype=torch.float64)).sqrt())


def copies(tensor: Tensor) -> int:
    """On how many ranks each element of a tensor lies."""
    if not isinstance(tensor, DTensor):
        return dist.get_world_size()
    sizes = [tensor.device_mesh.size(i) for i, place in enumerate(tensor.placements) if place.is_replicate()]
    return int(np.prod(sizes)) if sizes else 1


def over_ranks(total: Tensor) -> Tensor:
    """The sum of a CPU tensor over all ranks."""
    dist.all_reduce(total)
    return total


def strided(tensor: Tensor) -> Tensor:
    """A copy of up to STRIDED elements spread evenly over this rank's part of a tensor, fp32 on the CPU."""
    flat = local(tensor.detach()).flatten()
    return flat[:: max(1, len(flat) // STRIDED)][:STRIDED].to("cpu", torch.float32, copy=True)
