"""A process that has imported what the commands need and forks a child for each: hundreds of launches in the time of
dozens.

It is itself a fork, of the tests' fork server. A child that ends by itself tells what it has imported; that is imported
here before the next fork, so that later children find it. Nothing else is done here: no thread runs, no command's state
is left behind.
"""

import atexit
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NoReturn

from command_child import run_command_line
from file_faults import Strike

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
HANGS_AFTER = 120  # seconds; a command of the tests takes one or two


class WarmCommands:
    """Runs command lines, one after another, in forks of a process of `context`, the fork server's. Use as a context
    manager."""

    def __init__(self, context: ForkServerContext):
        self._context = context

    def __enter__(self) -> "WarmCommands":
        self._connection, theirs = self._context.Pipe()
        self._server = self._context.Process(target=_serve, args=(theirs,))
        self._server.start()
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._server.join()

    def run(self, arguments: list[str], log: Path, folder: Path, strike: Strike | None = None) -> int:
        """The exit code of `tsugiki ARGUMENTS` (see `run_command_line`); minus a signal's number that ended it."""
        self._connection.send((arguments, ENVIRONMENT, str(log), str(folder), strike))
        return self._connection.recv()


def run_fresh(arguments: list[str], log: Path, folder: Path, strike: Strike | None = None) -> int:
    """The same in a process that starts from nothing."""
    what = json.dumps([arguments, ENVIRONMENT, str(log), str(folder), strike])
    program = "import json, sys, command_child; command_child.run_command_line(*json.loads(sys.argv[1]))"
    path = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", program, what], env=os.environ | path, stdin=subprocess.DEVNULL, check=False
    ).returncode


def _serve(connection: Connection) -> None:
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        log = Path(what[2])
        assert _threads() == 1, "a fork would lose threads that an import started"
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _end_as_a_process_does(partial(run_command_line, *what))
        connection.send(_wait(child, log))
        _import_as(log)


def _threads() -> int:
    """That of pyarrow's allocator, jemalloc, is not counted: it knows forks, and does without."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sum(name != "jemalloc_bg_thd" for name in names)


def _wait(child: int, log: Path) -> int:
    deadline = time.monotonic() + HANGS_AFTER
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with log.open("a") as file:
                file.write(f"still running after {HANGS_AFTER} s\n")
            os.kill(child, signal.SIGABRT)  # faulthandler writes where it stands
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.01)


def _import_as(log: Path) -> None:
    told = Path(f"{log}.modules")
    if told.exists():
        for name in told.read_text("utf-8").splitlines():
            if name not in sys.modules:
                with contextlib.suppress(Exception):  # made by a program, not by a file
                    importlib.import_module(name)
        told.unlink()


def _end_as_a_process_does(work: Callable[[], None]) -> NoReturn:
    """Do it, and leave with the code that the interpreter would."""
    code = 0
    try:
        work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)
