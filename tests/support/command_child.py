"""What a forked test process runs: the command line, with its output in a file or in a terminal. (A module that forks can
import.)"""

import faulthandler
import os
import signal
import sys
from pathlib import Path

from file_faults import FileCalls, Strike
from shorter_strings import SHORTER

from tsugiki.corpus.adversarial import STRINGS
from tsugiki.samples import SETTINGS


def run_command_line(
    arguments: list[str],
    environment: dict[str, str],
    log: str,
    folder: str | None = None,
    strike: Strike | None = None,
) -> None:
    """Run `tsugiki ARGUMENTS` in this process, with `environment` on top and both outputs appended to `log`. Vocabularies
    are proved by shorter strings, and samples are short.

    folder: the working directory, whose file calls are counted; the list of them is written to `log` with the ending
    .calls, what was imported to that with .modules. strike: one of the calls, and how it is struck (see `file_faults`).
    """
    _begin(arguments, environment)
    stream = open(log, "a", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115 - must outlive this function
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    faulthandler.enable(stream)
    STRINGS.update(SHORTER)
    SETTINGS["max_new_tokens"] = 8
    from tsugiki.cli import main

    if folder is None:
        main()
        return
    os.chdir(folder)
    calls = FileCalls(folder, strike and Strike(*strike))
    calls.install()
    try:
        main()
    finally:
        calls.active = False
        Path(log + ".calls").write_text("\n".join(calls.trace), encoding="utf-8")
        Path(log + ".modules").write_text("\n".join(sys.modules), encoding="utf-8")


def run_in_terminal(arguments: list[str], environment: dict[str, str], terminal: str) -> None:
    """Run `tsugiki ARGUMENTS` in this process, with `environment` on top, as if typed into the terminal of that name."""
    _begin(arguments, environment)
    os.login_tty(os.open(terminal, os.O_RDWR | os.O_NOCTTY))
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - until the end
    from tsugiki.cli import main

    main()


def _begin(arguments: list[str], environment: dict[str, str]) -> None:
    """Signals, variables, threads and arguments as a shell would give them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would we
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, {signal.SIGINT}
    )  # preparing in the tests' process has the server block it
    os.environ.update(environment)
    sys.argv = ["tsugiki", *arguments]
    import torch

    torch.set_num_threads(1)
