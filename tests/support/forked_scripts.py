"""A script run as each of several processes, forked from one that has imported what all of them need."""

import faulthandler
import os
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 240  # seconds until the processes are given up


class Ranks:
    """Runs scripts by a fork server's context. `ranks(script, [[arguments of rank 0], …])` gives what each has printed;
    all must end with 0."""

    def __init__(self, context, folder: Callable[[str], Path]):
        self._context, self._folder = context, folder

    def __call__(self, script: Path, arguments: Sequence[Sequence[object]]) -> list[str]:
        logs = [self._folder("ranks") / f"{rank}.txt" for rank in range(len(arguments))]
        processes = [
            self._context.Process(target=run_script, args=(str(script), [str(one) for one in own], str(log)))
            for own, log in zip(arguments, logs, strict=True)
        ]
        try:
            for process in processes:
                process.start()
            deadline = time.monotonic() + PATIENCE
            for process in processes:
                process.join(max(0.1, deadline - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
                process.join()
        outputs = [log.read_text("utf-8") if log.exists() else "" for log in logs]
        assert [process.exitcode for process in processes] == [0] * len(processes), "\n".join(outputs)
        return outputs


def run_script(script: str, arguments: list[str], log: str) -> None:
    """In this process, with both outputs in `log`."""
    stream = open(log, "a", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115 - must outlive this function
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    faulthandler.enable(stream)  # where a process stood that the C library aborts
    import torch

    torch.set_num_threads(1)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
