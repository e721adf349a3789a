"""What a person sees while models are evaluated: which task, how far, how long still.

On a terminal a bar for the task at hand; elsewhere (a log file, a pipe) a line now and then. Work is counted in tokens,
since requests differ a hundredfold in length.
"""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SILENCE_SECONDS = 20.0
"""Between two lines where there is no terminal."""


class EvaluationProgress:
    """Draws what `evaluation.run` reports. A context manager, so that a bar never outlives its work."""

    def __init__(self, console: Console):
        self.console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._total = self._tokens = self._requests = self._done = 0
        self._started = self._spoke = 0.0

    def __enter__(self) -> "EvaluationProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def begin(self, what: str, requests: int, tokens: int) -> None:
        """`requests` requests of `tokens` tokens are to be answered; `what` names them."""
        self._close()
        self._what, self._requests, self._total = what, requests, tokens
        self._tokens = self._done = 0
        self._started = self._spoke = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("evaluate   {task.fields[what]}", markup=False), BarColumn(),
                TextColumn("{task.fields[done]} of {task.fields[requests]}"), TimeRemainingColumn(),
                console=self.console, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("", total=tokens, what=what, done="0", requests=f"{requests:,}")

    def advance(self, tokens: int) -> None:
        """One more request, of `tokens` tokens, has been answered."""
        self._tokens += tokens
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=tokens, done=f"{self._done:,}")
            if self._done >= self._requests:
                self._close()
        elif time.monotonic() - self._spoke >= SILENCE_SECONDS:
            self._spoke = time.monotonic()
            left = (self._total - self._tokens) * (self._spoke - self._started) / max(self._tokens, 1)
            self.console.print(
                f"evaluate   {self._what}: {self._done:,} of {self._requests:,} requests, {left:,.0f} s left",
                markup=False, highlight=False,
            )  # fmt: skip

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
