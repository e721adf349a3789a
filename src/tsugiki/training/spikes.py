"""What a spike is: a step whose loss or gradient norm stands far above those of the steps before it.

The limits of a step follow from the last `WINDOW` steps that were applied, so they are known before it begins, and the
device can refuse its update without the host having to look:

    loss:           median of the latest steps + threshold × spread
    gradient norm:  the same of its logarithm, since norms vary by factors

The spread is the median step from one value to the next, times 1.4826 / √2 (of independent values of a normal
distribution that is the standard deviation): a loss that falls through the window does not widen it, as it would widen
a distance from the median. A mean and a standard deviation are moved by one outlier and hide the next; medians bear
that a quarter of the window are outliers. A running estimate would need a rate of its own and forget no outlier whole;
the window is a few kB of a checkpoint's JSON, where a resumed run finds the very same limits. What is not finite is a
spike at any time.

The first steps, and those after another stage of the mixture has begun, are not judged: its loss is another.
"""

import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from tsugiki.training.metrics import StepRecord

WINDOW = 128
"""Steps that a spread rests on."""
LATEST = 32
"""Steps that a median is taken of, short against the fall of the loss; before so many nothing is judged."""
_TO_SIGMA = 1.4826 / math.sqrt(2)
_LEAST_LOSS_SPREAD = 0.01
"""Of the median loss: steps that hardly differ would make a spike of a hundredth of a nat."""
_LEAST_NORM_SPREAD = math.log(4) / 6
"""By the default threshold of 6, no norm below four times the median is a spike: clipping takes care of those."""
NEVER = sys.float_info.max
"""A limit that every finite number keeps."""


class Limits(NamedTuple):
    """What a step of a stage of the mixture must not exceed: its loss in nats a target, its gradient norm before
    clipping."""

    stage: int = 0
    loss: float = NEVER
    norm: float = NEVER

    def exceeded(self, loss: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        """Whether a step is a spike [0-dim, on the device], of its loss and norm in fp64 [0-dim]: NaN and infinity
        always are."""
        return ~((loss <= self.loss) & (norm <= self.norm))


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Recent:
    """The latest applied steps of one stage of the mixture, oldest first; a step makes a new one of it (`after`)."""

    stage: int = 0
    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    spikes_in_a_row: int = 0
    """Up to the last step, whatever was done about them."""

    def limits(self, stage: int, threshold: float) -> Limits:
        """Of the next step, which lies in this stage; the threshold counts spreads."""
        if stage != self.stage or len(self.losses) < LATEST:
            return Limits(stage)
        loss, spread = _centre_and_spread(self.losses)
        log_norm, log_spread = _centre_and_spread([math.log(max(norm, sys.float_info.min)) for norm in self.norms])
        return Limits(
            stage,
            loss + threshold * max(spread, _LEAST_LOSS_SPREAD * abs(loss)),
            _exp(log_norm + threshold * max(log_spread, _LEAST_NORM_SPREAD)),
        )

    def after(self, record: "StepRecord") -> "Recent":
        """With a step behind it. What was not applied has left no trace in the weights, and leaves none here."""
        in_a_row = self.spikes_in_a_row + 1 if record.spike else 0
        if not record.applied:
            return replace(self, spikes_in_a_row=in_a_row)
        losses, norms = (self.losses, self.norms) if record.limits.stage == self.stage else ((), ())
        return Recent(
            record.limits.stage, (*losses, record.loss)[-WINDOW:], (*norms, record.grad_norm)[-WINDOW:], in_a_row
        )

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint; Python writes and reads floats to the last bit."""
        return {
            "stage": self.stage, "losses": list(self.losses), "norms": list(self.norms),
            "spikes_in_a_row": self.spikes_in_a_row,
        }  # fmt: skip

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Recent":
        """What `as_json` gave; nothing of a checkpoint that was written without."""
        return cls(
            kept.get("stage", 0), tuple(kept.get("losses", ())), tuple(kept.get("norms", ())),
            kept.get("spikes_in_a_row", 0),
        )  # fmt: skip


def _centre_and_spread(values: list[float] | tuple[float, ...]) -> tuple[float, float]:
    """Median of the latest values, and their noise in units of a normal distribution's standard deviation."""
    return statistics.median(values[-LATEST:]), _TO_SIGMA * statistics.median(
        abs(value - former) for former, value in pairwise(values)
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < math.log(NEVER) else NEVER
