"""The learning rate as a pure function of the step number.

Nothing is stepped, so nothing can be stepped twice (once a rank, once a micro-batch: the slips of other
trainers), and a resumed run needs no scheduler state. Step numbers count optimiser steps from 1; the rate of
step `s` is the one with which update `s` is made. The last step has exactly `min_lr`.

Shapes, with W warm-up steps, T steps in all, peak P and minimum M:
  warm-up   P · s / W                                  for s <= W
  cosine    M + (P − M) · (1 + cos(π · x)) / 2         x = (s − W) / (T − W)
  linear    P + (M − P) · x
  wsd       P until T − D, then linear to M over the last D = decay_steps steps (warm-up, stable, decay)
  constant  P
"""

import math
from collections.abc import Callable

from tsugiki.recipe import TrainingSection

Schedule = Callable[[int], float]


def make_schedule(training: TrainingSection, total_steps: int) -> Schedule:
    """The learning rate of each step, 1 to `total_steps`.

    Beyond `total_steps` the last value holds. The function is pure: equal arguments give equal rates.
    """
    peak, minimum = training.learning_rate, training.min_lr
    warmup, shape = training.warmup_steps, training.lr_scheduler
    decay_start = total_steps - (training.decay_steps or 0) if shape == "wsd" else warmup

    def learning_rate(step: int) -> float:
        step = min(step, total_steps)
        if step <= warmup:
            return peak * step / warmup
        if shape == "constant" or step <= decay_start:
            return peak
        done = (step - decay_start) / (total_steps - decay_start)
        if shape == "cosine":
            return minimum + (peak - minimum) * (1 + math.cos(math.pi * done)) / 2
        return peak + (minimum - peak) * done

    return learning_rate


def schedule_table(training: TrainingSection, total_steps: int) -> list[tuple[int, float]]:
    """(step, learning rate) at the steps that show the shape, for the table printed at start."""
    schedule = make_schedule(training, total_steps)
    marks = {1, training.warmup_steps, training.warmup_steps + 1, total_steps // 2, total_steps - 1, total_steps}
    if training.lr_scheduler == "wsd":
        marks |= {total_steps - (training.decay_steps or 0), total_steps - (training.decay_steps or 0) + 1}
    return [(step, schedule(step)) for step in sorted(marks) if 1 <= step <= total_steps]
