"""Trials on this machine: one after another, or several at once over its GPUs or cores.

On a CPU each trial has one thread: two threads of one process beside other processes take 4 to 15 times the time of
one, while two processes of one thread each do twice the work. GPUs are dealt out by CUDA_VISIBLE_DEVICES.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import NamedTuple

from tsugiki.amounts import duration
from tsugiki.corpus.workers import usable_cores
from tsugiki.errors import RecipeError
from tsugiki.experiments.experiment_file import ExecutorSection
from tsugiki.experiments.runner import Workers, run_trial
from tsugiki.experiments.trials import Ended, Plan, Trial

SILENCE_SECONDS = 30.0
"""Between two lines on trials that run."""
Say = Callable[[str], None]


class Slots(NamedTuple):
    """What trials run on: the environment of each that runs at a time."""

    environments: tuple[dict[str, str], ...]
    words: str


def find_slots(section: ExecutorSection) -> Slots:
    """The places for trials on this machine. Raises RecipeError for more GPUs a trial than there are."""
    gpus = visible_gpus()
    cores = usable_cores()
    if not gpus:
        count, threads = section.at_once or cores, os.environ.get("OMP_NUM_THREADS", "1")
        words = f"{count} at a time on {cores} cores, {threads} thread{'s' if threads != '1' else ''} each"
        return Slots(({"OMP_NUM_THREADS": threads},) * count, words)
    each = section.gpus_per_trial
    if each > len(gpus):
        raise RecipeError(f"executor.gpus_per_trial: {each} is more than the {len(gpus)} GPUs of this machine")
    groups = [gpus[start : start + each] for start in range(0, len(gpus) - each + 1, each)]
    count = section.at_once or len(groups)
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))
    environments = tuple(
        {"CUDA_VISIBLE_DEVICES": ",".join(groups[number % len(groups)]), "OMP_NUM_THREADS": threads}
        for number in range(count)
    )
    return Slots(environments, f"{count} at a time over {len(gpus)} GPUs, {each} each")


def slow_precision(plan: Plan) -> list[str]:
    """A warning where trials compute in bf16 on this machine's CPU and it has no instructions for that: each would say
    so in its own log alone."""
    from tsugiki.model.matmul_speed import SLOW_BF16, bf16_slowness

    names = sorted({trial.name for trial in plan.trials if trial.recipe.training.precision != "fp32"})
    if not names or visible_gpus() or (times := bf16_slowness()) <= SLOW_BF16:
        return []
    return [
        f"warning    {', '.join(names)}: bf16 products, which take {times:.1f} times as long as fp32 ones on this CPU; "
        "training.precision: fp32 is faster"
    ]


def visible_gpus() -> list[str]:
    """Names of the GPUs that CUDA_VISIBLE_DEVICES leaves, or numbers of all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def run_locally(
    trials: Sequence[Trial],
    suites: Sequence[str],
    workers: Workers,
    slots: Slots,
    say: Say,
    *,
    progress: Callable[[Trial], str],
) -> list[Ended]:
    """Run every trial to its end, in their order; returns how each ended.

    `progress` tells where a trial stands. Whatever ends this early (a signal, an error that is no trial's) asks all
    processes to stop, and waits for them.
    """
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for environment in slots.environments:
        free.put(environment)
    running: dict[int, Trial] = {}

    def run(trial: Trial) -> Ended:
        environment = free.get()
        started = time.monotonic()
        try:
            running[trial.number] = trial
            say(f"begins     {trial.title}")
            ended = run_trial(trial, suites, workers, environment)
        finally:
            running.pop(trial.number, None)
            free.put(environment)
        say(f"{ended['ending']:<10} {trial.title}{_how(ended)}, {duration(time.monotonic() - started)}")
        return ended

    pool = ThreadPoolExecutor(len(slots.environments))
    futures: list[Future[Ended]] = [pool.submit(run, trial) for trial in trials]
    waiting: set[Future[Ended]] = set(futures)
    spoke = time.monotonic()
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if time.monotonic() - spoke >= SILENCE_SECONDS and running:
                spoke = time.monotonic()
                say("now        " + "; ".join(f"{one.title}: {progress(one)}" for one in list(running.values())))
    except BaseException:
        workers.stop()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def _how(ended: Ended) -> str:
    if ended["ending"] == "done":
        return f" after step {ended['step']:,}" if ended["steps"] else ""
    return f" at step {ended['step']:,}: {ended['reason']}"
