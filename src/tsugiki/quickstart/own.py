"""The quickstart on the user's own files: which sources there are, and how large a model fits into the minutes.

The number format is chosen by measurement, speed is measured by a few real steps on the prepared text; from it follow
the model's size and the number of steps.
What was decided is kept in `plan.json`: the same command continues the same run, on another day's machine as well.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from tsugiki.corpus.store import TokenStore
from tsugiki.errors import RecipeError
from tsugiki.files import read_json, write_atomically, write_json
from tsugiki.metrics_file import read_metrics
from tsugiki.progress import PrepareProgress
from tsugiki.quickstart.base import write_tokenizer
from tsugiki.quickstart.corpora import Corpus, find_corpora
from tsugiki.quickstart.machine import choose_precision, choose_threads
from tsugiki.quickstart.recipes import Plan, can_extend, recipe_text, target_language
from tsugiki.vocabulary.stage import MULTIPLE

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
SHARES_EXTENDED = {"base": 0.25, "continued": 0.31, "without-extension": 0.31, "without-replay": 0.13}
"""The same where the vocabulary grows: what it brings is seen beside a run of as many steps."""
EVALUATION_SHARE = 0.08
"""Of all time, for the validations; more where a single document a source takes more, up to `MOST_EVALUATION`."""
MOST_EVALUATION = 1 / 3
VALIDATIONS = {"continued": 3, "without-extension": 2, "without-replay": 2}
MOST_DOCUMENTS = 200
"""Held-out documents a source at each validation."""
START_SECONDS = 25.0
"""Of a run: its start, its checks before step 1, and its export."""
EXTENSION_SECONDS = 30.0
"""To learn, prove and report new pieces on `SAMPLE_CHARACTERS` of the new language and as many of the other sources."""
SAMPLE_CHARACTERS = 2_000_000
BYTES_PER_PIECE = 100
"""Of text of the new language for each new piece, or it does not hold so many."""
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
        try:
            if kept["question"] != question:
                raise RecipeError(
                    f"{directory} holds a quickstart on {kept['question']['corpora']} "
                    f"of {kept['question']['minutes']:g} minutes; "
                    "give another --run-dir, or the same --corpora and --minutes to continue it"
                )
            return [Corpus(**corpus) for corpus in kept["corpora"]], Plan(**kept["plan"])
        except (KeyError, TypeError):
            raise RecipeError(
                f"{path} is not what this version writes: remove {directory}, or give another --run-dir"
            ) from None
    if (directory / "base.yaml").exists():
        raise RecipeError(f"{directory} holds another quickstart; give another --run-dir")
    found = find_corpora(folder)
    for reason in found.left_out:
        say(f"left out   {reason}")
    directory.mkdir(parents=True, exist_ok=True)
    first = _first_guess(minutes, found.corpora)
    if not first.added:
        say(
            f"vocabulary stays the base's: {target_language(found.corpora)} is no language here with a script of its "
            "own, for which pieces could be added"
        )
    write_tokenizer(
        directory / "tokenizer", found.corpora, first.vocabulary, say,
        limits={"target": first.tokenizer_target_bytes, "replay": first.tokenizer_replay_bytes},
    )  # fmt: skip
    first, speed, preparing = _calibrate(directory, found.corpora, first, console)
    held_out = [held_out_lengths(directory, corpus) for corpus in found.corpora]
    ahead = START_SECONDS * len(first.steps) + (EXTENSION_SECONDS + preparing if first.added else 0.0)
    plan = make_plan(held_out, first, speed, 60 * minutes - (time.perf_counter() - begun) - ahead)
    write_json(path, {"question": question, "corpora": [asdict(c) for c in found.corpora], "plan": asdict(plan)})
    say(
        f"plan       hidden size {plan.hidden_size}, {plan.layers} layers, {plan.vocabulary:,} pieces"
        f"{f' and {plan.added:,} more' if plan.added else ''}; "
        f"{' + '.join(f'{steps:,}' for steps in plan.steps.values())} steps of "
        f"{plan.batch * plan.sequence_length:,} tokens in {plan.precision} "
        f"({speed:,.0f} tokens/s measured on the smallest model)"
    )
    return found.corpora, plan


def _first_guess(minutes: float, corpora: Sequence[Corpus]) -> Plan:
    """The smallest model, with all that does not depend on speed as it will be.

    Where the vocabulary can grow, the base's tokenizer sees as little of the new language as those of real bases."""
    width, layers = WIDTHS[0]
    vocabulary = 4096 if minutes < 8 else 8192 if minutes < 90 else 16384
    text = sum(corpus.size for corpus in corpora if corpus.role == "target")
    added = min(vocabulary // 2, text // BYTES_PER_PIECE // MULTIPLE * MULTIPLE) if can_extend(corpora) else 0
    return Plan(
        vocabulary=vocabulary, hidden_size=width, layers=layers,
        heads=width // HEAD_SIZE, sequence_length=SEQUENCE_LENGTH, batch=8, micro_batch=8,
        base_steps=CALIBRATION_STEPS, continued_steps=1, without_replay_steps=1, base_rate=4e-3, continued_rate=3e-3,
        eval_documents=1, tokenizer_target_bytes=15_000 if added else 4_000_000, tokenizer_replay_bytes=2_000_000,
        base_target=3, added=added, sample_characters=SAMPLE_CHARACTERS,
    )  # fmt: skip


def _calibrate(
    directory: Path, corpora: Sequence[Corpus], first: Plan, console: Console
) -> tuple[Plan, float, float]:  # fmt: skip
    """Prepare the text with the base's tokenizer, choose threads and precision, and make a few steps; returns `first`
    in that precision, trained tokens a second, and the seconds of preparing."""
    from tsugiki.pipeline import run_prepare, run_training
    from tsugiki.recipe_file import load_recipe
    from tsugiki.training.preflight import PROBES

    skip = ", ".join(probe.name for probe in PROBES)
    path = directory / "calibration.yaml"
    write_atomically(path, recipe_text(directory, "calibration", corpora, first))
    shutil.rmtree(directory / "calibration", ignore_errors=True)  # of a start that was cut off
    begun = time.perf_counter()
    with PrepareProgress(console) as progress:
        run_prepare(load_recipe(path), progress)
    preparing = time.perf_counter() - begun
    choose_threads()
    first = replace(first, precision=choose_precision())
    write_atomically(path, recipe_text(directory, "calibration", corpora, first))
    recipe = load_recipe(path, [f"training.preflight.skip=[{skip}]", "training.logging_steps=1"])
    run_training(recipe, lambda _text: None)
    steps = read_metrics(recipe.run_dir / "metrics.jsonl").steps
    return first, statistics.median(step["tokens_per_second"] for step in steps[2:]), preparing


def held_out_lengths(directory: Path, corpus: Corpus) -> np.ndarray:
    """Tokens of a source's held-out documents, in the order in which validation takes them."""
    starts = TokenStore(directory / "data" / "base" / corpus.name / "held_out").document_starts
    return np.diff(starts[: MOST_DOCUMENTS + 1])


def make_plan(held_out: Sequence[np.ndarray], first: Plan, speed: float, seconds: float) -> Plan:
    """Size, steps and held-out documents for `seconds` of work at `speed` tokens a second on the model of `first`.

    `held_out` are the lengths of each source's held-out documents. Other sizes are taken to reach the same FLOP/s,
    which errs on the careful side: larger products run faster. Raises RecipeError when too little time is left for a
    run that shows anything.
    """
    flops = speed * flops_per_token(replace(first, added=0))
    validations = sum(VALIDATIONS[run] for run in first.steps if run in VALIDATIONS)
    # The yardsticks compress as much text as is trained on.
    compressing = YARDSTICK_SECONDS_PER_MEGABYTE * BYTES_PER_TOKEN * speed / 1e6  # seconds a second of training

    def training_time(evaluating: float) -> float:
        return (seconds - max(evaluating, EVALUATION_SHARE * seconds)) / (1 + compressing)

    def evaluation(tokens_a_second: float) -> tuple[int, float]:
        return _evaluation(held_out, validations, EVALUATION_SHARE * seconds, tokens_a_second)

    tokens_a_second = flops / flops_per_token(first)
    documents, evaluating = evaluation(tokens_a_second)
    if evaluating > MOST_EVALUATION * seconds > 0:
        raise RecipeError(
            f"scoring one held-out document of each source {validations} times would take {evaluating / 60:.1f} of the "
            f"{seconds / 60:.1f} minutes that are left: the documents are too long for that. Cut them into shorter "
            "ones (JSON Lines have one a line), or give --minutes more"
        )
    chosen, training = replace(first, eval_documents=documents), training_time(evaluating)
    for width, layers in WIDTHS[1:]:
        candidate = replace(first, hidden_size=width, layers=layers, heads=width // HEAD_SIZE)
        tokens_a_second = flops / flops_per_token(candidate)
        documents, evaluating = evaluation(tokens_a_second)
        enough = training_time(evaluating) * tokens_a_second >= TOKENS_PER_PARAMETER * parameters(candidate)
        if enough and evaluating <= MOST_EVALUATION * seconds:
            chosen, training = replace(candidate, eval_documents=documents), training_time(evaluating)
    tokens_a_second = flops / flops_per_token(chosen)
    steps = {
        run: int(share * training * tokens_a_second / (chosen.batch * chosen.sequence_length))
        for run, share in (SHARES_EXTENDED if first.added else SHARES).items()
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
    )  # fmt: skip


def _evaluation(
    held_out: Sequence[np.ndarray], validations: int, seconds: float, tokens_a_second: float
) -> tuple[int, float]:
    """How many held-out documents a source all validations can score in `seconds`, at least one, and in what time.

    A forward pass is three times as fast as training, and windows overlap by half."""
    tokens = np.zeros(MOST_DOCUMENTS)
    for lengths in held_out:
        tokens[: len(lengths)] += lengths
    times = validations * np.cumsum(tokens) * 2 / (3 * tokens_a_second)
    documents = max(1, int(np.searchsorted(times, seconds, side="right")))
    return documents, float(times[documents - 1])


def parameters(plan: Plan) -> int:
    """Weights of the model with all pieces: 12 d² a layer with three times the width in the middle and half as many key
    heads; tied embeddings."""
    return 12 * plan.layers * plan.hidden_size**2 + (plan.vocabulary + plan.added) * plan.hidden_size


def flops_per_token(plan: Plan) -> float:
    """As `training.flops` counts: 6 a weight, and attention."""
    return 6.0 * parameters(plan) + 12.0 * plan.layers * plan.hidden_size * plan.sequence_length
