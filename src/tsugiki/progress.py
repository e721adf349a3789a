"""What a person sees while corpora are prepared or models evaluated: how far, how fast, how long still.

On a terminal a bar for the work at hand; elsewhere (a log file, a pipe) a line now and then. Corpora are counted in
bytes of the files as they lie on disk, since nothing else is known before the end; evaluation in tokens, since requests
differ a hundredfold in length.
"""

import time
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from tsugiki.corpus.conversation_figures import describe_chat
from tsugiki.corpus.filters.figures import describe_filters
from tsugiki.printable import one_line
from tsugiki.terminal import plain

SILENCE_SECONDS = 20.0
"""Between two lines of long work where there is no terminal."""


class _Drawn:
    """A bar or lines for one piece of work after another. A context manager, so that a bar never outlives its work."""

    def __init__(self, console: Console):
        self.console = console
        self._bar: Progress | None = None
        self._started = self._spoke = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _open(self, what: str, total: int, *columns: ProgressColumn) -> None:
        """Work begins, of `total` units (0: nobody knows)."""
        self._close()
        self._started = self._spoke = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[what]}", markup=False), BarColumn(), TextColumn("{task.fields[done]}"),
                *columns, TimeRemainingColumn(), console=self.console, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._bar.add_task("", total=total or None, what=what, done="")

    def _advance(self, units: int, done: str, line: Callable[[float], str]) -> None:
        """`units` more are done, `done` of it beside the bar; `line` says so by the seconds since the beginning."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=units, done=done)
        elif time.monotonic() - self._spoke >= SILENCE_SECONDS:
            self._spoke = time.monotonic()
            self._say(line(self._spoke - self._started))

    def _say(self, text: str) -> None:
        self.console.print(plain(text))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


class PrepareProgress(_Drawn):
    """Draws what `corpus.prepare` reports (`corpus.inputs.Progress`)."""

    def start(self, source: str, total_bytes: int) -> None:
        """A source begins; `total_bytes` is 0 where its size is not known."""
        self._source, self._total, self._bytes, self._documents = source, total_bytes, 0, 0
        self._open(f"prepare    {source}", total_bytes, TransferSpeedColumn())

    def advance(self, read_bytes: int, documents: int) -> None:
        """`read_bytes` more bytes and `documents` more documents have been read."""
        self._bytes += read_bytes
        self._documents += documents
        self._advance(read_bytes, f"{self._documents:,} documents", self._so_far)

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

    def _so_far(self, seconds: float) -> str:
        text = f"prepare    {self._source}: {self._documents:,} documents, {size(self._bytes)}"
        rate = self._bytes / max(seconds, 1e-3)
        if self._total and rate:
            left = max(self._total - self._bytes, 0) / rate
            text += f" of {size(self._total)} ({size(rate)}/s, {left:.0f} s left)"
        return text


class EvaluationProgress(_Drawn):
    """Draws what `evaluation.run` reports."""

    def begin(self, what: str, requests: int, tokens: int) -> None:
        """`requests` requests of `tokens` tokens are to be answered; `what` names them."""
        self._what, self._requests, self._total, self._tokens, self._done = what, requests, tokens, 0, 0
        self._open(f"evaluate   {what}", tokens)

    def advance(self, tokens: int) -> None:
        """One more request, of `tokens` tokens, has been answered."""
        self._tokens += tokens
        self._done += 1
        if self._done >= self._requests:
            self._close()  # what was answered is said by others
        else:
            self._advance(tokens, f"{self._done:,} of {self._requests:,}", self._so_far)

    def _so_far(self, seconds: float) -> str:
        left = (self._total - self._tokens) * seconds / max(self._tokens, 1)
        return f"evaluate   {self._what}: {self._done:,} of {self._requests:,} requests, {left:,.0f} s left"


def describe_manifest(name: str, manifest: Any) -> str:
    """One line on a prepared source (a `corpus.prepared.SourceManifest`): what is there, and what could not be used;
    more lines on a chat source."""
    train, held = manifest.train, manifest.held_out
    around = [token for token, added in (("BOS", manifest.add_bos), ("EOS", manifest.add_eos)) if added]
    if manifest.foreign is not None:
        text = f"prepared   {name}: {train.documents:,} documents, {train.tokens:,} tokens, made {manifest.library}; "
        text += f"{held.documents:,} documents held out\n           it begins: {one_line(manifest.foreign.text)}"
    elif manifest.chat is None:
        text = (
            f"prepared   {name}: {train.documents:,} documents, {train.tokens:,} tokens, {size(train.bytes)} to train "
            f"on ({train.bytes / max(train.tokens, 1):.2f} bytes a token, "
            f"{' and '.join(around) or 'no control tokens'} added); "
            f"{held.documents:,} documents, {size(held.bytes)} held out"
        )
    else:
        text = f"prepared   {name}: {manifest.packing}; {held.documents:,} conversations, {size(held.bytes)} held out"
    if manifest.text is not None:  # it is packed
        text += f"; in {manifest.text.windows:,} packs of {manifest.text.sequence_length:,}: {manifest.text}"
    if manifest.bad:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(manifest.bad.items()))
        text += f"; left out: {kinds}, first at {manifest.bad_examples[0]}"
    if manifest.split_documents:
        text += f"; {manifest.split_documents:,} long texts split into {manifest.split_into:,} documents"
    if manifest.replaced_surrogates:
        text += f"; lone surrogates replaced in {manifest.replaced_surrogates:,}"
    lines = [text, *(describe_chat(manifest.chat) if manifest.chat is not None else ())]
    if manifest.filtered is not None:
        lines += describe_filters(manifest.filtered, train.documents + held.documents)
    return "\n           ".join(lines)


def size(count: float) -> str:
    """Bytes for people, three digits, decimal units: `812 B`, `58.3 MB`."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * limit:
            value = count / limit
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"
    return f"{count:.0f} B"
