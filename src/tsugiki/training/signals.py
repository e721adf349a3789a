"""Stopping on request without losing work: signals, and the end of a Slurm job.

In training a signal only raises a flag. The flag travels with the reduction of the next step's target count, so
that all ranks stop after the same step, save and leave with exit code 75. A peer's death also arrives as SIGTERM
(torchrun passes it on), hence nothing is saved inside a handler: the next collective fails fast instead. A second
SIGINT or SIGTERM, two seconds or more after the first, ends the process at once.

Everywhere else a signal ends the work at hand as an error does: what is half made is put away, locks and helping
processes go.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

# A terminal and torchrun both pass Ctrl-C on: what arrives together is one request, what comes later is a second.
IMPATIENCE_SECONDS = 2.0


class Interrupted(BaseException):
    """A signal has asked to stop. No KeyboardInterrupt: the parser of arguments would end that without a word."""

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """While the block runs, a signal that asks to stop raises Interrupted in it, unless the process was started with
    that signal ignored (`nohup`, `&` of a script). What comes within two seconds of one that was raised is the same
    request; what comes later raises again, as an exception that arises in a callback of a library may be lost."""
    asked = float("-inf")

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        now = time.monotonic()
        if now - asked > IMPATIENCE_SECONDS:
            asked = now
            raise Interrupted(number)

    former = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class StopRequest:
    """Whether this process was asked to stop, by a signal or by the end of its Slurm allocation.

    Use as a context manager: the former handlers come back at the end.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._asked = 0.0
        self._former: dict[signal.Signals, Any] = {}
        self._deadline = _slurm_end_time()
        self._was_due = False

    def __enter__(self) -> "StopRequest":
        for number in STOP_SIGNALS:
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._asked = signal.Signals(number), now
        elif number in (signal.SIGINT, signal.SIGTERM) and now - self._asked > IMPATIENCE_SECONDS:
            os._exit(128 + number)  # asked twice: end now, the last checkpoint stands

    def requested(self, reserve_seconds: float = 0.0) -> bool:
        """Whether to stop now. `reserve_seconds`: the time that saving needs before a Slurm job's end."""
        due = self._deadline is not None and time.time() + reserve_seconds >= self._deadline
        self._was_due |= due
        return self.signal is not None or due

    @property
    def reason(self) -> str | None:
        """Why this process was asked to stop; None where it was not."""
        if self.signal is not None:
            return self.signal.name
        return "end of the Slurm job" if self._was_due else None


def _slurm_end_time() -> float | None:
    """SLURM_JOB_END_TIME (Unix seconds, set by Slurm 22.05 and later), or None."""
    text = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(text) if text.isdigit() else None
