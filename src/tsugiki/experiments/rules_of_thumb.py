"""What can be said of learning rates before anything runs: measured on the user's own base, beside what is known.

    weights moved      share of weights that one step at the peak rate changes in the format that holds them
    update to weight   the peak rate over the root mean square of the matrices: Adam's update is about the rate
    tokens             of a trial and of the whole run, for each parameter
    replay             share of tokens in other languages than the one that most of the text is in

Read from a sample of each tensor in the base's files; no model is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.experiments.trials import Plan, Trial
from tsugiki.model.weight_files import StoredTensor, read_headers
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps
from tsugiki.sweep_results import Rule

BLOCKS, BLOCK = 64, 256
"""Runs of neighbouring elements that are read of each tensor, and their length: a read for each element would touch
every page of the file, all 14 GB of a model of seven billion."""
HELD_IN_BF16 = {"bf16-stochastic", "pure-bf16"}
"""Precisions whose weights are bf16; others hold them in fp32."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """A sample of a model's weights."""

    parameters: int
    """Of the files; a tied matrix that is stored twice counts twice."""
    matrices: list[tuple[int, Floats]]
    """Elements of a tensor, and those that were read of it."""
    vectors: list[tuple[int, Floats]]
    """The same of norms and biases."""

    @property
    def root_mean_square(self) -> float:
        """Of the matrices' elements."""
        squares = sum(size * float(np.square(part, dtype=np.float64).mean()) for size, part in self.matrices)
        return (squares / max(1, sum(size for size, _ in self.matrices))) ** 0.5

    def moved(self, step: float, held: Callable[[Floats], Floats]) -> tuple[float, float]:
        """Shares of the elements of matrices, and of vectors, that change when `step` is taken off and the rest is held
        as `held` rounds it."""

        def share(parts: list[tuple[int, Floats]]) -> float:
            changed = 0.0
            for size, part in parts:
                before = held(part)
                changed += size * float((held(before - np.float32(step)) != before).mean())
            return changed / max(1, sum(size for size, _ in parts))

        return share(self.matrices), share(self.vectors)


def read_weights(folder: Path) -> Weights:
    """Sample the safetensors files of a model. Raises ModelError or StorageError for files that cannot be read."""
    found = Weights(0, [], [])
    parameters = 0
    for name, header in read_headers(folder).items():
        for tensor in header.tensors.values():
            part = _elements(folder / name, header.start, tensor)
            if part is None or not len(part):
                continue
            size = int(np.prod(tensor.shape))
            parameters += size
            (found.matrices if len(tensor.shape) > 1 else found.vectors).append((size, part))
    return Weights(parameters, found.matrices, found.vectors)


def _elements(path: Path, start: int, tensor: StoredTensor) -> Floats | None:
    """Blocks of elements spread evenly over a stored tensor; None for one that holds no weights."""
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    if tensor.dtype not in kinds:
        return None
    size = int(np.prod(tensor.shape))
    if not size:
        return None
    stored = np.memmap(path, kinds[tensor.dtype], "r", start + tensor.begin, (size,))
    if size > BLOCKS * BLOCK:
        starts = np.linspace(0, size - BLOCK, BLOCKS, dtype=np.int64)
        part = stored[(starts[:, None] + np.arange(BLOCK)).ravel()]
    else:
        part = np.array(stored)
    if tensor.dtype == "BF16":
        return (part.astype(np.uint32) << 16).view(np.float32)
    return part.astype(np.float32)


def bfloat16(values: Floats) -> Floats:
    """Rounded to the nearest bf16, to even where two are as near."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def rules_of_thumb(plan: Plan, weights: Weights) -> list[Rule]:
    """What holds for each trial, by its name."""
    trials = list({trial.name: trial for trial in plan.trials}.values())
    rms = weights.root_mean_square
    return [
        Rule(
            "weights moved in a step", {one.name: _moved(one, weights) for one in trials},
            "In bf16, steps far below a weight's size are rounded away: of weights around 0.02 a step of 1e-6 moves "
            "about 2 %, 2e-5 30 %, 6e-5 57 %, 1e-4 88 %; norms near 1 never move. A rate then also sets how much of "
            "the network trains. fp32 weights all move.",
        ),
        Rule(
            "update to weight", {one.name: f"{_peak(one) / rms:.1e}" for one in trials},
            f"Peak rate over the matrices' root mean square ({rms:.3g}). Swallow's four rates on weights around 0.02 "
            "were 5e-5, 1e-3, 3e-3 and 5e-3 a step: at 1e-3 (2e-5) English held, at 3e-3 and 5e-3 it fell within 2,000 "
            "steps. Smaller models take larger steps.",
        ),
        Rule(
            "tokens a parameter", {one.name: _tokens(one, weights.parameters) for one in trials},
            "Of the trial, and of the whole run. Swallow's probe had 1.2 (8.4 B on 7 B), its run 14. What is forgotten "
            "shows within the first few hundredths of a run.",
        ),
        Rule(
            "replay", {one.name: _replay(one.recipe) for one in trials},
            "Share of other languages than the main one. 1 % already cuts forgetting, 5 % served a weak shift and 25 % "
            "a new language (arXiv 2403.08763, 405 M and 10 B); without any, loss falls on while the old language is "
            "lost.",
        ),
        Rule(
            "warm-up", {one.name: _warmup(one) for one in trials},
            "Of the trial. In warm-up a rate has not been tried yet: 1,000 of Swallow's 2,000 steps. Adam's second "
            "moment settles over 1/(1 − adam_beta2) steps.",
        ),
    ]  # fmt: skip


def _peak(trial: Trial) -> float:
    return trial.recipe.training.learning_rate


def _moved(trial: Trial, weights: Weights) -> str:
    precision = trial.recipe.training.precision
    held = bfloat16 if precision in HELD_IN_BF16 else lambda values: values
    matrices, vectors = weights.moved(_peak(trial), held)
    text = f"{matrices:.0%} of matrices" + (f", {vectors:.0%} of norms" if weights.vectors else "")
    return text + (" (all of them on average, rounded at random)" if precision == "bf16-stochastic" else "")


def _tokens(trial: Trial, parameters: int) -> str:
    a_step = trial.recipe.training.global_batch_size * trial.recipe.data.sequence_length
    here, whole = (steps * a_step / max(1, parameters) for steps in (trial.steps, total_steps(trial.recipe)))
    return f"{here:.2g}" if here == whole else f"{here:.2g} of {whole:.2g}"


def _replay(recipe: Recipe) -> str:
    shares: dict[str, float] = {}
    for name, source in recipe.data.sources.items():
        shares[source.language or name] = shares.get(source.language or name, 0.0) + source.weight
    main = max(shares, key=lambda language: shares[language])
    others = {name: share for name, share in shares.items() if share and name != main}
    total = sum(shares.values())
    if len(others) < 2:
        return f"{sum(others.values()) / total:.0%} {next(iter(others), '')}".rstrip()
    named = ", ".join(f"{name} {share / total:.0%}" for name, share in others.items())
    return f"{sum(others.values()) / total:.0%} ({named})"


def _warmup(trial: Trial) -> str:
    return f"{min(1.0, trial.recipe.training.warmup_steps / trial.steps):.0%}"
