"""What models do between their output layer and the softmax, in forms that the chunked loss can compute by parts.

Which of them a model does is asked of its values, not of its name or configuration: known numbers from -100 to 100
are put in the output layer's place (`loss.TrainingModel.probe_head`), each kind proposes itself from what the model
makes of them, and is believed only where it gives the same values, with slopes that belong to them. (On random weights
Gemma 2's cap moves logits by 7.5e-5 only: comparing a random model's logits would miss it.) A model that does something
else computes its own logits, all at once. How to add a kind: docs/extending.md.
"""

import math
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor


class Transform(Protocol):
    """A function from the output layer's values to the logits, row by row."""

    @classmethod
    def fit(cls, given: Tensor, returned: Tensor) -> Self | None:
        """The one of this kind that may have turned `given` into `returned`, or None. Both [rows, vocabulary] float64,
        `given` rising from -100 to 100; columns that the model cut off are -inf. Need not be sure: it is tried out."""
        ...

    def apply_(self, logits: Tensor, with_slope: bool) -> Tensor | float | None:
        """Turns logits [rows, vocabulary] in place. Returns the derivative of each, as such a tensor or one number;
        None for 1 everywhere, or without `with_slope`."""
        ...

    def __str__(self) -> str:
        """For the start of a run; empty where nothing is changed."""
        ...


class Scale(NamedTuple):
    """`factor * z`: Granite, Cohere, and with 1 most models."""

    factor: float = 1.0

    @classmethod
    def fit(cls, given: Tensor, returned: Tensor) -> Self | None:
        if torch.equal(given, returned):
            return cls()
        return cls(float((given * returned).sum() / given.square().sum()))

    def apply_(self, logits: Tensor, with_slope: bool) -> float | None:
        if self.factor == 1.0:
            return None
        logits.mul_(self.factor)
        return self.factor

    def __str__(self) -> str:
        return "" if self.factor == 1.0 else f"scale {self.factor:g}"


class SoftCap(NamedTuple):
    """`cap * tanh(scale * z / cap)`: Gemma 2, and others under other names."""

    cap: float
    scale: float = 1.0

    @classmethod
    def fit(cls, given: Tensor, returned: Tensor) -> Self | None:
        small = given.abs().argmin()
        z, low = float(given.flatten()[small]), float(returned.flatten()[small])
        top, high = float(given.max()), float(returned.max())
        if z == 0.0 or not 0.0 < high < math.inf or low / z <= 0.0:
            return None
        cap, scale = 0.0, low / z
        for _ in range(20):  # each from the other: the cap where it acts most, the scale where the cap hardly acts
            cap = _cap_of(high, scale * top)
            if not abs(low) < cap:
                return None
            scale = cap * math.atanh(low / cap) / z
        return cls(_round_number(cap), _round_number(scale))

    def apply_(self, logits: Tensor, with_slope: bool) -> Tensor | None:
        logits.mul_(self.scale / self.cap).tanh_()
        slope = (1.0 - logits.square()).mul_(self.scale) if with_slope else None
        logits.mul_(self.cap)
        return slope

    def __str__(self) -> str:
        return f"soft cap {self.cap:g}" + ("" if self.scale == 1.0 else f", scale {self.scale:g}")


TRANSFORMS: list[type[Transform]] = [
    Scale,
    SoftCap,
]
"""The kinds that are known, in the order in which they are tried."""


def probe_values(tokens: int, vocabulary: int, device: torch.device) -> Tensor:
    """[1, tokens, vocabulary] of fp32: every entry another number between -100 and 100."""
    return torch.linspace(-100.0, 100.0, tokens * vocabulary, device=device).reshape(1, tokens, vocabulary)


def recognise_transform(given: Tensor, returned: Tensor) -> Transform | str:
    """What lies between output layer and logits, from `probe_values` given and logits returned (both [1, tokens,
    vocabulary] fp32; fewer columns where the model cuts padding off); or in words why it is unknown."""
    narrower = given.shape[-1] - returned.shape[-1]
    reshaped = f"it turns {list(given.shape)} outputs into {list(returned.shape)} logits"
    if returned.shape[:-1] != given.shape[:-1] or narrower < 0:
        return reshaped
    returned = torch.nn.functional.pad(returned, (0, narrower), value=-math.inf)
    given, returned = given.double()[0], returned.double()[0]
    for kind in TRANSFORMS:
        found = kind.fit(given, returned)
        if found is not None and _gives(found, given, returned):
            return found
    if narrower:
        return reshaped
    infinite = "" if bool(torch.isfinite(returned).all()) else ", some to infinity or NaN"
    return f"it changes the outputs of that layer in an unknown way{infinite}"


def _gives(transform: Transform, given: Tensor, returned: Tensor) -> bool:
    """Whether a transform turns `given` into `returned`, and its slopes are those of its values."""
    values = given.clone()
    slope = transform.apply_(values, True)
    finite = torch.isfinite(returned)
    largest = float(returned.where(finite, 0.0).abs().max())
    if not torch.allclose(values, returned, rtol=1e-5, atol=1e-6 * largest):
        return False
    above, below = given + 1e-3, given - 1e-3
    transform.apply_(above, False)
    transform.apply_(below, False)
    measured = ((above - below) / 2e-3)[finite]
    claimed = torch.ones_like(returned).mul_(1.0 if slope is None else slope)[finite]
    return torch.allclose(claimed, measured, rtol=1e-3, atol=1e-4 * float(measured.abs().amax()))


def _cap_of(high: float, argument: float) -> float:
    """The cap whose `cap * tanh(argument / cap)` is `high`, by halving; 0 where there is none."""
    low, upper = high, 1e6 * high
    if not high < argument or upper * math.tanh(argument / upper) < high:
        return 0.0
    for _ in range(200):
        middle = (low + upper) / 2
        low, upper = (middle, upper) if middle * math.tanh(argument / middle) < high else (low, middle)
    return upper


def _round_number(value: float) -> float:
    """The number that somebody chose, where it differs by no more than what fp32 adds to it."""
    chosen = float(f"{value:.4g}")
    return chosen if abs(chosen - value) <= 1e-5 * abs(value) else value
