"""What runs take: bytes of disk and memory by precision, and the rate at which one was seen to train."""

from collections.abc import Iterable
from pathlib import Path
from statistics import median

from tsugiki.metrics_file import read_metrics
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps

CHECKPOINT_BYTES = {"fp32-master": 12, "fp32": 12, "bf16-stochastic": 10, "pure-bf16": 6}
"""A parameter's weight and moments as a checkpoint stores them, by precision."""
MEMORY_BYTES = {"fp32-master": 16, "fp32": 16, "bf16-stochastic": 12, "pure-bf16": 8}
"""A parameter's weight, gradient and moments over all processes that share them, by precision."""
EXPORTED_BYTES = 2
"""A parameter of an exported model (bf16)."""


def disk_bytes(recipe: Recipe, steps: int, parameters: int) -> int:
    """Checkpoints and export of a run of which `steps` steps are trained, at their most: one more checkpoint while it
    is written."""
    training = recipe.training
    saves = -(-steps // training.save_steps)
    kept = min(saves, training.save_total_limit) + (steps // training.keep_every if training.keep_every else 0)
    exported = EXPORTED_BYTES * parameters if steps == total_steps(recipe) else 0
    return CHECKPOINT_BYTES[training.precision] * parameters * (kept + 1) + exported


def measured_rate(folders: Iterable[Path]) -> tuple[float, Path] | None:
    """Tokens a second at which the first run that has trained in one of `folders` did, and where."""
    for folder in folders:
        rates = [line["tokens_per_second"] for line in read_metrics(folder / "metrics.jsonl").steps
                 if line.get("tokens_per_second")]  # fmt: skip
        if rates:
            return median(rates), folder
    return None
