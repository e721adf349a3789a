"""The quickstart on the user's own files: which sources there are, and how large a model fits into the minutes.

Speed is measured by a few real steps on the prepared text; from it follow the model's size and the number of steps.
What was decided is kept in `plan.json`: the same command continues the same run, on another day's machine as well.
"""

import math
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from tsugiki.errors import RecipeError
from tsugiki.files import read_json, write_atomically, write_json
from tsugiki.plots import read_metrics
from tsugiki.progress import PrepareProgress
from tsugiki.quickstart.base import write_tokenizer
from tsugiki.quickstart.corpora import Corpus, find_corpora
from tsugiki.quickstart.recipes import Plan, recipe_text
from tsugiki.quickstart.threads import choose_threads

Say = Callable[[str], None]

WIDTHS = ((128, 4), (192, 4), (256, 5), (320, 6), (384, 8), (512, 8), (768, 12))
"""Hidden size and layers that are considered."""
HEAD_SIZE = 32
SEQUENCE_LENGTH = 512
TOKENS_PER_PARAMETER = 4.0
"""What fits best when time is short: compute-optimal training takes 20 tokens a parameter, but with so few tokens
much of the model is its embeddings, which cost little, and the text is read many times."""
SHARES = {"base": 0.25, "continued": 0.62, "without-replay": 0.13}
"""Of the training time."""
EVALUATION_SHARE = 0.08
"""Of all time, for the five validations."""
FIXED_SECONDS = 75.0
"""Three starts, their checks before step 1, and their exports."""
YARDSTICK_SECONDS_PER_MEGABYTE = 2.0
CALIBRATION_STEPS = 8
BYTES_PER_TOKEN = 3.0


def own_corpora_and_plan(
    directory: Path, folder: Path, minutes: float, console: Console, say: Say
) -> tuple[list[Corpus], Plan]:
    """The sources of `folder` and the plan for `minutes`, found now or read from `plan.json`.

    Raises RecipeError when the directory holds a quickstart on something else, or the minutes are too few.
    """
    begun = time.perf_counter()
    path = directory / "plan.json"
    question = {"corpora": str(folder), "minutes": minutes}
    if path.exists():
        kept = read_json(path)
        if kept["question"] != question:
            raise RecipeError(
                f"{directory} holds a quickstart on {kept['question']['corpora']} "
                f"of {kept['question']['minutes']:g} minutes; "
                "give another --run-dir, or the same --corpora and --minutes to continue it"
            )
        return [Corpus(**corpus) for corpus in kept["corpora"]], Plan(**kept["plan"])
    if (directory / "base.yaml").exists():
        raise RecipeError(f"{directory} holds another quickstart; give another --run-dir")
    found = find_corpora(folder)
    for reason in found.left_out:
        say(f"left out   {reason}")
    directory.mkdir(parents=True, exist_ok=True)
    first = _first_guess(minutes)
    write_tokenizer(
        directory / "tokenizer", found.corpora, first.vocabulary, say,
        limits={"target": first.tokenizer_target_bytes, "replay": first.tokenizer_replay_bytes},
    )  # fmt: skip
    speed = _calibrate(directory, found.corpora, first, console, say)
    spent = time.perf_counter() - begun
    plan = make_plan(found.corpora, first, speed, 60 * minutes - spent - FIXED_SECONDS)
    write_json(path, {"question": question, "corpora": [asdict(c) for c in found.corpora], "plan": asdict(plan)})
    say(
        f"plan       hidden size {plan.hidden_size}, {plan.layers} layers, {plan.vocabulary:,} pieces; "
        f"{plan.base_steps:,} + {plan.continued_steps:,} + {plan.without_replay_steps:,} steps of "
        f"{plan.batch * plan.sequence_length:,} tokens ({speed:,.0f} tokens/s measured on the smallest model)"
    )
    return found.corpora, plan


def _first_guess(minutes: float) -> Plan:
    """The smallest model, with all that does not depend on speed as it will be."""
    width, layers = WIDTHS[0]
    return Plan(
        vocabulary=4096 if minutes < 8 else 8192 if minutes < 90 else 16384, hidden_size=width, layers=layers,
        heads=width // HEAD_SIZE, sequence_length=SEQUENCE_LENGTH, batch=8, micro_batch=8,
        base_steps=CALIBRATION_STEPS, continued_steps=1, without_replay_steps=1, base_rate=4e-3, continued_rate=3e-3,
        eval_documents=1, tokenizer_target_bytes=4_000_000, tokenizer_replay_bytes=2_000_000, base_target=3,
    )  # fmt: skip


def _calibrate(directory: Path, corpora: Sequence[Corpus], plan: Plan, console: Console, say: Say) -> float:
    """Prepare the text (which the three runs share) and make a few steps; returns trained tokens a second."""
    from tsugiki.pipeline import run_prepare, run_training
    from tsugiki.recipe_file import load_recipe
    from tsugiki.training.preflight import PROBES

    skip = ", ".join(probe.name for probe in PROBES)
    path = directory / "calibration.yaml"
    write_atomically(path, recipe_text(directory, "calibration", corpora, plan))
    shutil.rmtree(directory / "calibration", ignore_errors=True)  # of a start that was cut off
    recipe = load_recipe(path, [f"training.preflight.skip=[{skip}]", "training.logging_steps=1"])
    with PrepareProgress(console) as progress:
        run_prepare(recipe, progress)
    choose_threads()
    run_training(recipe, lambda _text: None)
    steps, _ = read_metrics(recipe.run_dir / "metrics.jsonl")
    return statistics.median(step["tokens_per_second"] for step in steps[2:])


def make_plan(corpora: Sequence[Corpus], first: Plan, speed: float, seconds: float) -> Plan:
    """Size, steps and held-out documents for `seconds` of work at `speed` tokens a second on the model of `first`.

    Other sizes are taken to reach the same FLOP/s, which errs on the careful side: larger products run faster.
    Raises RecipeError when too little time is left for a run that shows anything.
    """
    flops = speed * flops_per_token(first)
    # The yardsticks compress as much text as is trained on.
    compressing = YARDSTICK_SECONDS_PER_MEGABYTE * BYTES_PER_TOKEN * speed / 1e6  # seconds a second of training
    training = seconds * (1 - EVALUATION_SHARE) / (1 + compressing)
    chosen = first
    for width, layers in WIDTHS:
        candidate = replace(first, hidden_size=width, layers=layers, heads=width // HEAD_SIZE)
        tokens = training * flops / flops_per_token(candidate)
        if tokens >= TOKENS_PER_PARAMETER * parameters(candidate):
            chosen = candidate
    tokens_a_second = flops / flops_per_token(chosen)
    steps = {
        run: int(share * training * tokens_a_second / (chosen.batch * chosen.sequence_length))
        for run, share in SHARES.items()
    }
    if steps["without-replay"] < 20:
        raise RecipeError(
            f"{seconds / 60:.0f} minutes are left after reading and tokenising the text: "
            f"too few at {speed:,.0f} tokens/s; "
            "give --minutes more, or a folder with less text"
        )
    scale = WIDTHS[0][0] / chosen.hidden_size  # larger models take smaller steps
    return replace(
        chosen, base_steps=steps["base"], continued_steps=steps["continued"],
        without_replay_steps=steps["without-replay"],
        base_rate=float(f"{first.base_rate * scale:.2g}"), continued_rate=float(f"{first.continued_rate * scale:.2g}"),
        eval_documents=_evaluation_documents(corpora, EVALUATION_SHARE * seconds, tokens_a_second),
    )  # fmt: skip


def _evaluation_documents(corpora: Sequence[Corpus], seconds: float, tokens_a_second: float) -> int:
    """Held-out documents a source that five validations can score in `seconds` (a forward pass is three times as fast
    as training, and windows overlap by half), at least 4 and at most 200."""
    size = sum(corpus.size / corpus.documents for corpus in corpora)
    seconds_a_round = size / BYTES_PER_TOKEN * 2 / (3 * tokens_a_second)
    return max(4, min(200, math.floor(seconds / 5 / seconds_a_round)))


def parameters(plan: Plan) -> int:
    """Weights of a model: 12 d² a layer with three times the width in the middle and half as many key heads; tied
    embeddings."""
    return 12 * plan.layers * plan.hidden_size**2 + plan.vocabulary * plan.hidden_size


def flops_per_token(plan: Plan) -> float:
    """As `training.flops` counts: 6 a weight, and attention."""
    return 6.0 * parameters(plan) + 12.0 * plan.layers * plan.hidden_size * plan.sequence_length
