"""What the model answered, appended line by line as soon as it is known: resuming rests on this file.

One JSON object a line, keyed by task, item, request of the item and a digest of all that decides the answer (the
prompt, the continuation or stop strings, the budget, backend and dtype). What changes in a task changes the digest, so
that an old answer is never taken for a new question. The line that a killed process left half-written is cut off at the
next start; a line in the middle that cannot be read is an error, since what stands in the file is evidence.

The folder belongs to one model (see `models.py`), so that the key needs no model.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import xxhash

from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error, lock_at_once


class Key(NamedTuple):
    """Which request an answer belongs to."""

    task: str
    item: str
    part: int
    """Number of the request within its item: an item with five choices makes five."""
    digest: str


def digest_of(*parts: Any) -> str:
    """A digest of what decides an answer: strings, numbers, lists and objects of them."""
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())


class Journal:
    """The answers of one model; a context manager that holds the file, and refuses when another process does."""

    def __init__(self, path: Path):
        """Read what is there. Raises StorageError for a damaged line, or when another evaluation writes the file."""
        self.path = path
        self._answers: dict[Key, dict[str, Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
        except OSError as error:
            raise StorageError(explain_os_error(error, path)) from None
        try:
            if not lock_at_once(self._file, path):
                raise StorageError(
                    f"{path}: another evaluation of this model is writing there; wait for it, or give another --output"
                )
            self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break  # cut off by a kill: that request is asked again
            try:
                entry = json.loads(line)
                key = Key(entry.pop("task"), entry.pop("item"), entry.pop("part"), entry.pop("digest"))
                if [type(part) for part in key] != [str, str, int, str]:
                    raise TypeError(key)
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
                raise StorageError(
                    f"{self.path}, line {number}: not a line of this journal; delete that line (its request will be "
                    "asked again), or the whole file to begin anew"
                ) from None
            self._answers[key] = entry
            end += len(line)
        self._file.truncate(end)

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Key) -> dict[str, Any] | None:
        """The recorded answer, or None."""
        return self._answers.get(key)

    def add(self, key: Key, answer: Mapping[str, Any]) -> None:
        """Record an answer; on the disk's way when this returns, so that a kill of the process loses nothing."""
        self._answers[key] = dict(answer)
        line = json.dumps({**key._asdict(), **answer}, ensure_ascii=False) + "\n"
        try:
            self._file.write(line.encode(errors="surrogatepass"))
            self._file.flush()
        except OSError as error:
            raise StorageError(explain_os_error(error, self.path)) from None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as refused:
            if error is None:
                raise StorageError(explain_os_error(refused, self.path)) from None
        finally:
            with suppress(OSError):  # what a full disk has refused is offered to it once more; `add` has said so
                self._file.close()
