"""What a forked test process runs: the command line, with its output in a file. (A module that forks can import.)"""

import os
import signal
import sys


def run_command_line(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Run `tsugiki ARGUMENTS` in this process, with `environment` on top and both outputs appended to `log`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would we
    os.environ.update(environment)
    stream = open(log, "a", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115 - must outlive this function
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    sys.argv = ["tsugiki", *arguments]
    import torch

    torch.set_num_threads(1)
    from tsugiki.cli import main

    main()
