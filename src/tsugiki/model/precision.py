"""Which number format holds weights, which computes, which adds gradients up. Named presets, nothing implicit.

| preset | weights | Adam's moments | forward and backward | gradient sum over ranks |
|---|---|---|---|---|
| `fp32-master` (default) | fp32 | fp32 | bf16 | fp32 |
| `bf16-stochastic` | bf16, rounded stochastically by the optimiser | fp32 | bf16 | fp32 |
| `pure-bf16` | bf16, rounded to nearest, as Swallow trained | bf16 | bf16 | bf16 |
| `fp32` | fp32 | fp32 | fp32 | fp32 |

With adapters (`training.lora`) the frozen base is in the format that computes, bf16 or fp32, and what is trained is
fp32: `fp32-master` and `fp32` alone then have a meaning.

In each of them the softmax of the loss is fp32, and RoPE's `inv_freq` stays fp32, as transformers computes it.
Why the default: of weights drawn from N(0, 0.02) a bf16 Adam step of 2e-5 moves about 30 %, one of 1e-6 about
2 %, and norm weights near 1 never move.
"""

from dataclasses import dataclass

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy

from tsugiki.errors import RecipeError


@dataclass(frozen=True)
class Precision:
    """One preset: number formats of the weights, of the computation and of the gradient sum."""

    name: str
    parameters: torch.dtype
    compute: torch.dtype
    reduction: torch.dtype
    stochastic_rounding: bool = False

    def policy(self) -> MixedPrecisionPolicy:
        """The same as FSDP2 wants it. Inputs are not cast: positions of RoPE and weights of the loss stay exact."""
        return MixedPrecisionPolicy(param_dtype=self.compute, reduce_dtype=self.reduction, cast_forward_inputs=False)


PRESETS = {
    preset.name: preset
    for preset in (
        Precision("fp32-master", torch.float32, torch.bfloat16, torch.float32),
        Precision("bf16-stochastic", torch.bfloat16, torch.bfloat16, torch.float32, stochastic_rounding=True),
        Precision("pure-bf16", torch.bfloat16, torch.bfloat16, torch.bfloat16),
        Precision("fp32", torch.float32, torch.float32, torch.float32),
    )
}


def get_precision(name: str) -> Precision:
    """The preset called `name`; RecipeError otherwise."""
    if name not in PRESETS:
        raise RecipeError(f"training.precision is {name!r}; it can be {', '.join(PRESETS)}")
    return PRESETS[name]
