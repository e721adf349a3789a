"""AdamW on bf16 weights with fp32 moments; the updated weight is rounded up or down at random.

Rounding to nearest loses every update under half of bf16's spacing (2^-8 of the weight), which freezes most of a model
at small learning rates. Adding 16 random bits to the low half of the fp32 value before cutting it off keeps the
expected update exact (arXiv 2010.06192). The bits come from a generator seeded with (seed, parameter name, shard,
step), so that a resumed run rounds as an uninterrupted one and replicas of a shard round alike.
"""

from typing import Any

import torch
import xxhash
from torch.distributed.tensor import DTensor

from tsugiki.model.shard import local


class StochasticRoundingAdamW(torch.optim.Optimizer):
    """Groups hold `names` beside `params`, and in `step` the number of the update; `Optimizer` makes the state."""

    def __init__(self, groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float, seed: int):
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.seed = seed
        self.found_inf: torch.Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if parameter.grad is not None:
                    self._update(name, parameter, parameter.grad, group)

    def _update(self, name: str, parameter: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        state = self.state[parameter]
        weight, gradient = local(parameter), local(grad).float()
        average, square, step = local(state["exp_avg"]), local(state["exp_avg_sq"]), state["step"]
        keep = self.found_inf == 0 if self.found_inf is not None else torch.ones((), dtype=torch.bool)
        gradient = torch.where(keep, gradient, torch.zeros_like(gradient))
        new_step = step + 1
        new_average = average.lerp(gradient, 1 - beta1)
        new_square = square.lerp(gradient.square(), 1 - beta2)
        scale = (new_square / (1 - beta2**new_step)).sqrt_().add_(group["eps"])
        master = weight.float() * (1 - group["lr"] * group["weight_decay"])
        master -= group["lr"] * (new_average / (1 - beta1**new_step)) / scale
        generator = torch.Generator(device=weight.device)
        key = f"{self.seed}/{name}/{shard_of(parameter)}/{group['step']}"
        generator.manual_seed(xxhash.xxh3_64_intdigest(key.encode()) >> 1)
        for old, new in ((weight, round_stochastically(master, generator)), (average, new_average),
                         (square, new_square), (step, new_step)):  # fmt: skip
            old.copy_(torch.where(keep, new, old))


def round_stochastically(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """fp32 `values` as bf16, each rounded to one of its two neighbours with probability by nearness."""
    noise = torch.randint(0, 1 << 16, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    bits = (values.view(torch.int32) + noise) & -65536
    return torch.where(values.isfinite(), bits.view(torch.float32), values).to(torch.bfloat16)


def shard_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Which part of a sharded tensor this rank holds: equal on replicas, () for a whole tensor."""
    if not isinstance(tensor, DTensor):
        return ()
    place: list[int] = list(tensor.device_mesh.get_coordinate() or [])
    return tuple(index for index, placement in zip(place, tensor.placements, strict=True) if placement.is_shard())
