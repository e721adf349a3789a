"""What a spike is: a step whose loss or gradient norm stands far above those of the steps before it.

The limits of a step follow from the last `WINDOW` steps that were applied and from how much its targets of each
source weigh in the loss (of text: how many there are), so they are known before it begins, and the device can refuse
its update without the host having to look:

    loss:           what is expected + threshold × spread
    gradient norm:  the same of its logarithm, since norms vary by factors

Sources differ by nats, and a batch of a few windows holds now more of one and now of another: its mixture is known and
no news. So the loss that is expected is the mean, over the targets of a step as weighted, of the usual losses of
their sources, each the median over the latest steps that hold the source. The norm that is expected is the largest of
the medians over the latest steps that hold a source of the step: a rare and hard one brings a large norm each time. The
spread is that of what the steps had beyond what was expected of them. Where all steps have the same mixture, all this
comes to the median of the latest steps, and the spread of their losses and norms.

The spread is the median step from one value to the next, times 1.4826 / √2 (of independent values of a normal
distribution that is the standard deviation): a loss that falls through the window does not widen it, as it would widen
a distance from the median. A mean and a standard deviation are moved by one outlier and hide the next; medians bear
that a quarter of the window are outliers. A running estimate would need a rate of its own and forget no outlier whole;
the window is a few kB a source of a checkpoint's JSON, where a resumed run finds the very same limits. What is not
finite is a spike at any time.

The first steps, those after another stage of the mixture has begun, and those with a source that the window hardly
holds are not judged: nobody knows what loss to expect.
"""

import math
import operator
import statistics
import sys
from collections.abc import Mapping, Sequence
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
FEW = 4
"""Steps of the window that must hold a source before a step with targets of it is judged."""
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
    weights: tuple[tuple[float, ...], ...] = ()
    """[steps, sources]: of the targets in the loss; their count, where all are 1."""
    nats: tuple[tuple[float, ...], ...] = ()
    """[steps, sources]: weight × nats of the targets, summed."""
    norms: tuple[float, ...] = ()
    spikes_in_a_row: int = 0
    """Up to the last step, whatever was done about them."""

    @property
    def losses(self) -> list[float]:
        """[steps]: nats a target."""
        return [sum(nats) / sum(weights) for nats, weights in zip(self.nats, self.weights, strict=True)]

    def limits(self, stage: int, source_weights: Sequence[float], threshold: float) -> Limits:
        """Of the next step, which lies in this stage and whose targets of each source weigh so much; the threshold
        counts spreads."""
        if stage != self.stage or len(self.norms) < LATEST:
            return Limits(stage)
        sources = range(len(source_weights))
        holding = [[step for step, held in enumerate(self.weights) if held[source]] for source in sources]
        seen = [steps for steps, weight in zip(holding, source_weights, strict=True) if weight]
        if not seen or any(len(steps) < FEW for steps in seen):
            return Limits(stage)
        judged = (holding, source_weights, threshold)
        return Limits(stage, self._loss_limit(*judged), self._norm_limit(*judged))

    def _loss_limit(self, holding: Sequence[Sequence[int]], source_weights: Sequence[float], threshold: float) -> float:
        """`holding`: for each source the steps that hold it."""
        usual = [
            _middle([self.nats[step][source] / self.weights[step][source] for step in steps])
            for source, steps in enumerate(holding)
        ]

        def expected(weights: Sequence[float]) -> float:
            return sum(map(operator.mul, weights, usual)) / sum(weights)

        left = [loss - expected(weights) for loss, weights in zip(self.losses, self.weights, strict=True)]
        loss = expected(source_weights)
        return loss + threshold * max(_spread(left), _LEAST_LOSS_SPREAD * abs(loss))

    def _norm_limit(self, holding: Sequence[Sequence[int]], source_weights: Sequence[float], threshold: float) -> float:
        """The same of the gradient norm."""
        logs = [math.log(max(norm, sys.float_info.min)) for norm in self.norms]
        usual = [_middle([logs[step] for step in steps]) for steps in holding]

        def expected(weights: Sequence[float]) -> float:
            return max(usual[source] for source, weight in enumerate(weights) if weight)

        left = [log - expected(weights) for log, weights in zip(logs, self.weights, strict=True)]
        return _exp(expected(source_weights) + threshold * max(_spread(left), _LEAST_NORM_SPREAD))

    def after(self, record: "StepRecord") -> "Recent":
        """With a step behind it. What was not applied has left no trace in the weights, and leaves none here."""
        in_a_row = self.spikes_in_a_row + 1 if record.spike else 0
        if not record.applied:
            return replace(self, spikes_in_a_row=in_a_row)
        stage = record.limits.stage
        former = self if stage == self.stage else Recent()
        return Recent(
            stage,
            (*former.weights, tuple(record.source_weights))[-WINDOW:],
            (*former.nats, tuple(record.source_nats))[-WINDOW:],
            (*former.norms, record.grad_norm)[-WINDOW:],
            in_a_row,
        )

    def as_json(self, sources: Sequence[str]) -> dict[str, Any]:
        """For a checkpoint; Python writes and reads floats to the last bit. `sources`: their names. (The weights are
        called targets there: checkpoints are older than weights that differ from a count.)"""
        return {
            "stage": self.stage, "sources": list(sources), "targets": list(map(list, self.weights)),
            "nats": list(map(list, self.nats)), "norms": list(self.norms), "spikes_in_a_row": self.spikes_in_a_row,
        }  # fmt: skip

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], sources: Sequence[str]) -> "Recent":
        """What `as_json` gave, for these sources, of which some may be new; nothing of a checkpoint that was written
        without, or before sources were told apart."""
        if "nats" not in kept:
            return cls()
        places = {name: place for place, name in enumerate(kept["sources"])}

        def in_order(steps: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
            return tuple(tuple(step[places[name]] if name in places else 0 for name in sources) for step in steps)

        weights, nats = in_order(kept["targets"]), in_order(kept["nats"])
        return cls(kept["stage"], weights, nats, tuple(kept["norms"]), kept["spikes_in_a_row"])


def _middle(values: Sequence[float]) -> float:
    """Median of the latest values; 0 of none, for a source that no step holds."""
    return statistics.median(values[-LATEST:]) if values else 0.0


def _spread(values: Sequence[float]) -> float:
    """The noise of values, oldest first, in units of a normal distribution's standard deviation."""
    return _TO_SIGMA * statistics.median(abs(value - former) for former, value in pairwise(values))


def _exp(value: float) -> float:
    return math.exp(value) if value < math.log(NEVER) else NEVER
