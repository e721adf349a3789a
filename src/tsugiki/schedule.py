"""The learning rate as a pure function of the step number.

Nothing is stepped, so nothing can be stepped twice (once a rank, once a micro-batch: the slips of other
trainers), and a resumed run needs no scheduler state. Step numbers count optimiser steps from 1; the rate of
step `s` is the one with which update `s` is made. The last step has exactly `min_lr`.

With W warm-up steps, T steps in all, peak P, minimum M and D = decay_steps where a shape holds, else T − W:
  warm-up    P · s / W                      for s <= W
  then       P                              for s <= T − D
  then       M + (P − M) · fall(x)          x = (s − (T − D)) / D

`SHAPES` is the one place that knows their names: the recipe, its checks and its page, preflight and the tests read it.
How to add one: docs/extending.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tsugiki.recipe_training import TrainingSection

Schedule = Callable[[int], float]


class Shape(NamedTuple):
    """A way from the peak down to `min_lr`."""

    about: str
    """For the recipe's page."""
    fall: Callable[[float], float] | None
    """Share of the way that is done, 0 to 1 → height between the peak (1) and `min_lr` (0): begins at 1, never rises,
    ends at 0. None: the peak to the end."""
    holds: bool = False
    """Whether it stays at the peak until the last `decay_steps` steps."""


SHAPES = {
    "cosine": Shape("half a wave", lambda done: (1 + math.cos(math.pi * done)) / 2),
    "linear": Shape("a straight line", lambda done: 1 - done),
    "wsd": Shape("the peak, then a straight line over decay_steps", lambda done: 1 - done, holds=True),
    "constant": Shape("the peak to the end", None),
}
"""Names that `training.lr_scheduler` takes."""


def make_schedule(training: TrainingSection, total_steps: int) -> Schedule:
    """The learning rate of each step, 1 to `total_steps`.

    Beyond `total_steps` the last value holds. The function is pure: equal arguments give equal rates.
    """
    peak, minimum, warmup = training.learning_rate, training.min_lr, training.warmup_steps
    fall, decay_start = SHAPES[training.lr_scheduler].fall, decay_begins_after(training, total_steps)

    def learning_rate(step: int) -> float:
        step = min(step, total_steps)
        if step <= warmup:
            return peak * step / warmup
        if fall is None or step <= decay_start:
            return peak
        return minimum + (peak - minimum) * fall((step - decay_start) / (total_steps - decay_start))

    return learning_rate


def decay_begins_after(training: TrainingSection, total_steps: int) -> int:
    """The last step at the peak."""
    return total_steps - (training.decay_steps or 0) if SHAPES[training.lr_scheduler].holds else training.warmup_steps


def schedule_table(training: TrainingSection, total_steps: int) -> list[tuple[int, float]]:
    """(step, learning rate) at the steps that show the shape, for the table printed at start."""
    schedule, decay_start = make_schedule(training, total_steps), decay_begins_after(training, total_steps)
    marks = {1, training.warmup_steps, training.warmup_steps + 1, decay_start, decay_start + 1}
    marks |= {total_steps // 2, total_steps - 1, total_steps}
    return [(step, schedule(step)) for step in sorted(marks) if 1 <= step <= total_steps]
