"""Strikes a process at one of its file calls: an error, a full disk, half a write, `kill -9`, or a signal that asks to stop.

Calls are seen from outside the code under test and counted below one folder: by Python's audit events (opening, making,
renaming and removing), by wrapped functions of `os`, and by files that pass through `open`, whose every write to the
system is a call. What a library in another language writes is not seen, but for safetensors' `save_file`, which counts
as one write.

A call is known by its kind, the text of the trace without numbers and random parts, and by how many of the kind came
before: threads may mix calls of different kinds in another order each time.
"""

import builtins
import errno
import io
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

READS = ("open-read", "scandir", "listdir")
EVENTS = {
    "os.mkdir": "mkdir", "os.rename": "rename", "os.remove": "remove", "os.rmdir": "rmdir", "os.truncate": "truncate",
    "os.chmod": "chmod", "os.link": "link", "os.symlink": "symlink", "os.scandir": "scandir", "os.listdir": "listdir",
}  # fmt: skip
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
MOVED = "moved-away"
GROWING = ("open", "write", "mkdir", "fsync", "rename", "link", "symlink", "truncate")
"""What a full disk may refuse."""


def strikes_of(operation: str) -> Sequence[str]:
    """The ways in which a call of the trace can be struck, besides by signals."""
    kind = operation.split()[0]
    if kind in READS:
        return ("EIO",)
    return ("kill", "EIO", *(("full",) if kind in GROWING else ()), *(("torn",) if kind == "write" else ()))


class Strike(NamedTuple):
    """The call of a kind that is struck, counted from 1, and how: "kill" (before the call), "torn" (half of a write is
    stored, then kill), "EIO" (this call fails), "full" (from this call on whatever grows the disk fails; half of the
    write is stored), "moved" (before the call, the folder that it is in is called MOVED), or a signal's name."""

    kind: str
    number: int
    how: str


def kind_of(call: str) -> str:
    """A call of the trace without what differs from step to step and from run to run."""
    return re.sub(r"(?<=[-_.])[0-9a-f]{8,}|\d+", "#", call)


def top_of(call: str) -> str:
    """The folder below the root that a call of the trace is about."""
    return call.split()[1].split("/")[0]


@dataclass
class FileCalls:
    """Counts file calls below `root`; one may be struck. `install` once in a process."""

    root: str
    strike: Strike | None = None
    trace: list[str] = field(default_factory=list)
    active: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    is_full: bool = False

    def install(self) -> None:
        """Begin to count."""
        self._lock = threading.RLock()
        sys.addaudithook(self._audit)
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._of_descriptor("fsync", getattr(os, name)))
        for name in ("write", "pwrite"):
            setattr(os, name, self._of_descriptor("write", getattr(os, name)))
        os.sendfile = self._of_descriptor("write", os.sendfile)
        builtins.open = io.open = self._opener(io.open)
        try:
            import safetensors.torch
        except ImportError:
            return
        save = safetensors.torch.save_file

        def save_file(tensors: Any, filename: Any, *arguments: Any, **named: Any) -> None:
            half = lambda: Path(filename).write_bytes(b"\0" * 64)  # noqa: E731
            self.see("write", os.fsdecode(filename), half=half, calls=False)
            save(tensors, filename, *arguments, **named)

        safetensors.torch.save_file = save_file
        for module in list(sys.modules.values()):
            if getattr(module, "safe_save_file", None) is save:  # as transformers calls it
                module.safe_save_file = save_file  # type: ignore[attr-defined]

    def see(self, kind: str, *paths: str, half: Callable[[], Any] | None = None, calls: bool = True) -> None:
        """Count a call, and strike. `half`: stores a part of a write."""
        if not self.active or not any(self._is_ours(path) for path in paths):
            return
        with self._lock:
            self.trace.append(" ".join([kind, *(path.removeprefix(self.root + "/") for path in paths)]))
            call = kind_of(self.trace[-1])
            self.counts[call] += 1
            number = self.counts[call]
        if self.strike is None:
            return
        how, struck = self.strike.how, (call, number) == self.strike[:2]
        self.is_full = self.is_full or (struck and how == "full")
        full = self.is_full and kind in GROWING
        if not struck and not full:
            return
        if struck and half is not None and how in ("torn", "full"):
            self._silently(half)
        if how in SIGNALS:
            os.kill(os.getpid(), signal.Signals[how])
            return
        if how == "moved":
            self._silently(lambda: Path(self.root, top_of(call)).rename(Path(self.root, MOVED)))
            return
        if how in ("kill", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        code = errno.ENOSPC if full else errno.EIO
        named = () if kind in ("write", "fsync") else paths[:1]
        raise OSError(code, os.strerror(code), *named)

    def _silently(self, work: Callable[[], Any]) -> None:
        self.active = False
        try:
            work()
        finally:
            self.active = True

    def _is_ours(self, path: str) -> bool:
        # Names relative to an open directory (as rmtree has them) or to the working directory, which is ours.
        return path.startswith(self.root) or not path.startswith("/")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes):
                writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                self.see("open" if writes else "open-read", os.fsdecode(path))
        elif event in EVENTS:
            named = [_name(part) for part in arguments[:2] if isinstance(part, str | bytes | os.PathLike | int)]
            count = 2 if event in ("os.rename", "os.link", "os.symlink") else 1
            self.see(EVENTS[event], *[name for name in named[:count] if name])

    def _of_descriptor(self, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(descriptor: int, *arguments: Any, **named: Any) -> Any:
            self.see(kind, _name(descriptor))
            return call(descriptor, *arguments, **named)

        return counted

    def _opener(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        calls = self

        class CountedFile(io.FileIO):
            def write(self, data: Any) -> int:
                view = memoryview(data).cast("B")
                half = lambda: super(CountedFile, self).write(view[: len(view) // 2])  # noqa: E731
                calls.see("write", _name(self.fileno()), half=half)
                return super().write(data)

        def counted_open(
            file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
            newline: Any = None, closefd: bool = True, opener: Any = None,
        ) -> Any:  # fmt: skip
            if not calls.active or not set(mode) & set("wxa+") or not calls._is_ours(_name(file)):
                return plain(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = CountedFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
            buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw, size)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)

        return counted_open


def _name(file: Any) -> str:
    """The path of a descriptor or path; "" where it has none."""
    try:
        return os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else os.fsdecode(file)  # noqa: PTH115
    except OSError:
        return ""
