"""What a forked test process runs: the command line, with its output in a file. (A module that forks can import.)"""

import os
import signal
import sys
from pathlib import Path

from file_faults import FileCalls


def run_command_line(
    arguments: list[str],
    environment: dict[str, str],
    log: str,
    folder: str | None = None,
    strike: tuple[int, str | None] | None = None,
) -> None:
    """Run `tsugiki ARGUMENTS` in this process, with `environment` on top and both outputs appended to `log`.

    folder: the working directory. strike: number and manner of a strike at the file calls below it (see `file_faults`);
    what calls there were is written to `log` with the ending .calls.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would we
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, {signal.SIGINT}
    )  # preparing in the tests' process has the server block it
    os.environ.update(environment)
    stream = open(log, "a", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115 - must outlive this function
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    sys.argv = ["tsugiki", *arguments]
    import torch

    torch.set_num_threads(1)
    from tsugiki.cli import main

    if folder is not None:
        os.chdir(folder)
    if folder is None or strike is None:
        main()
        return
    calls = FileCalls(folder, *strike)
    calls.install()
    try:
        main()
    finally:
        calls.active = False
        Path(log + ".calls").write_text("\n".join(calls.trace), encoding="utf-8")
