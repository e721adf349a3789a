"""Files that are opened on first use and stay open while there is room: one bounded cache for the whole process.

A mixture of a trillion tokens has more files than a process may hold open (a mapping keeps a descriptor, too), and of
most of them a step needs nothing. So the least recently used file is let go; it is closed when whoever still reads from
it has finished, hence threads may share the cache.
"""

import itertools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from tsugiki.errors import DataError

MOST_OPEN = 128
"""Files open at a time: some systems allow a process 256."""


class _Closes(Protocol):
    """What is kept: anything that closes its file when the last reference to it goes."""


T = TypeVar("T", bound=_Closes)


class OpenFiles:
    """The `limit` files that were used last, each under (owner, name)."""

    def __init__(self, limit: int = MOST_OPEN):
        self.limit = limit
        self._files: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._files)

    def owner(self, of: object) -> int:
        """A number under which an object keeps files, as long as it lives."""
        number = next(self._numbers)
        weakref.finalize(of, self.forget, number)
        return number

    def get(self, owner: int, name: str, opened: Callable[[], T]) -> T:
        """The file kept under a name, or what `opened` gives, which is kept from then on."""
        key = (owner, name)
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                found: T = self._files[key]
                return found
        file = opened()  # may take long, or raise; of two threads that do it at once, one keeps its own
        with self._lock:
            self._files[key] = file
            self._files.move_to_end(key)
            while len(self._files) > self.limit:
                self._files.popitem(last=False)
        return file

    def forget(self, owner: int) -> None:
        """Let go of all files of an owner."""
        with self._lock:
            for key in [key for key in self._files if key[0] == owner]:
                del self._files[key]


class RawFile:
    """A file to read pieces of, which closes itself. `size`: what it has to have, in bytes.

    It is read, not mapped: a mapped file that is cut short, or whose server fails, kills the process without a word.
    Raises DataError, naming the file, where it is missing, of another size, or ends early.
    """

    def __init__(self, path: str, size: int):
        self.path, self._descriptor = path, -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            found = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; run tsugiki prepare") from None
        if found != size:
            raise DataError(f"{path}: {found:,} bytes, but its index describes {size:,}; run tsugiki prepare")

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from byte `start` on."""
        parts, missing = [], count
        try:
            while missing and (part := os.pread(self._descriptor, missing, start + count - missing)):
                parts.append(part)
                missing -= len(part)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror} while reading; run the same command again") from None
        if missing:
            raise DataError(
                f"{self.path}: ends {missing:,} bytes early: it was cut short while it was read; run tsugiki prepare"
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)


FILES = OpenFiles()
"""The cache that all stores of the process share."""
