"""What a person sees while corpora are prepared: how far, how fast, how long still.

On a terminal a bar for the source at hand; elsewhere (a log file, a pipe) a line now and then. Bytes are those of the
files as they lie on disk, compressed or not, since nothing else is known before the end.
"""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

SILENCE_SECONDS = 20.0
"""Between two lines of a long source where there is no terminal."""


class PrepareProgress:
    """Draws what `corpus.prepare` reports (`corpus.inputs.Progress`). A context manager, so that a bar never outlives
    its work; nothing is drawn before the first source starts or after the last one ends."""

    def __init__(self, console: Console):
        self.console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total = self._bytes = self._documents = 0
        self._started = self._spoke = 0.0

    def __enter__(self) -> "PrepareProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def start(self, source: str, total_bytes: int) -> None:
        """A source begins; `total_bytes` is 0 where its size is not known."""
        self._close()
        self._total, self._bytes, self._documents = total_bytes, 0, 0
        self._started = self._spoke = time.monotonic()
        self._source = source
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("prepare    {task.fields[source]}", markup=False), BarColumn(),
                TextColumn("{task.fields[documents]} documents"), TransferSpeedColumn(), TimeRemainingColumn(),
                console=self.console, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("", total=total_bytes or None, source=source, documents="0")

    def advance(self, read_bytes: int, documents: int) -> None:
        """`read_bytes` more bytes and `documents` more documents have been read."""
        self._bytes += read_bytes
        self._documents += documents
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=read_bytes, documents=f"{self._documents:,}")
        elif time.monotonic() - self._spoke >= SILENCE_SECONDS:
            self._spoke = time.monotonic()
            self._say(f"prepare    {self._source}: {self._so_far()}")

    def finish(self, source: str, skipped: bool) -> None:
        """A source is done, or was up to date and has been skipped."""
        self._close()
        if skipped:
            self._say(f"prepare    {source}: up to date")
        else:
            seconds = max(time.monotonic() - self._started, 1e-3)
            self._say(
                f"prepare    {source}: {self._documents:,} documents, {size(self._bytes)} in {seconds:.1f} s "
                f"({size(self._bytes / seconds)}/s)"
            )

    def _so_far(self) -> str:
        seconds = time.monotonic() - self._started
        rate = self._bytes / max(seconds, 1e-3)
        text = f"{self._documents:,} documents, {size(self._bytes)}"
        if self._total and rate:
            left = max(self._total - self._bytes, 0) / rate
            text += f" of {size(self._total)} ({size(rate)}/s, {left:.0f} s left)"
        return text

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def describe_manifest(name: str, manifest: Any) -> str:
    """One line on a prepared source (a `corpus.prepared.SourceManifest`): what is there, and what could not be used."""
    train, held = manifest.train, manifest.held_out
    around = [token for token, added in (("BOS", manifest.add_bos), ("EOS", manifest.add_eos)) if added]
    text = (
        f"{name}: {train.documents:,} documents, {train.tokens:,} tokens, {size(train.bytes)} to train on "
        f"({train.bytes / max(train.tokens, 1):.2f} bytes a token, "
        f"{' and '.join(around) or 'no control tokens'} added); "
        f"{held.documents:,} documents, {size(held.bytes)} held out"
    )
    if manifest.bad:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(manifest.bad.items()))
        text += f"; left out: {kinds}, first at {manifest.bad_examples[0]}"
    if manifest.replaced_surrogates:
        text += f"; lone surrogates replaced in {manifest.replaced_surrogates:,}"
    return text


def size(count: float) -> str:
    """Bytes for people, three digits, decimal units: `812 B`, `58.3 MB`."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * limit:
            value = count / limit
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"
    return f"{count:.0f} B"
