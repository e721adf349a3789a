"""Which checkpoints a newer one makes superfluous, and how they are deleted: first the name, then the bytes.

A checkpoint knows its ancestors: those that the run continued from or wrote before it. The newest `keep_last` of
that line stay, and for ever those whose step is a multiple of `keep_every`. A checkpoint off the line (one that was
found damaged and passed over, so that the run wrote that step again) stays until the line has passed its step.
Checkpoints of another lineage, and whatever has no readable manifest, are never touched: it is not ours to judge.
"""

import contextlib
import shutil
import threading
import uuid
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from tsugiki.checkpoint_files import Name, list_names, list_temporary, list_trash, parse_name, read_manifest
from tsugiki.errors import StorageError
from tsugiki.files import fsync_directory


def superseded(
    own: Iterable[Name], newest: Name, ancestors: Collection[Name], keep_last: int | None, keep_every: int | None
) -> list[Name]:
    """The names to delete once `newest` has been verified and committed, oldest first.

    `own`: every checkpoint of this lineage in the directory. keep_last None keeps all. `newest` is always kept,
    whatever keep_last says, and so is all that is not older than it.
    """
    if keep_last is None:
        return []
    line = sorted({newest} | {name for name in own if name in ancestors}, reverse=True)
    kept = set(line[: max(1, keep_last)]) | {newest}
    return sorted(
        name for name in own if name < newest and name not in kept and not (keep_every and name.step % keep_every == 0)
    )


def due(
    directory: Path, lineage: str, line: Sequence[str], keep_last: int | None, keep_every: int | None
) -> list[Name]:
    """The names to delete in a directory, oldest first; `line` has that of the newest checkpoint, which has been
    committed, and those of its ancestors. Raises StorageError if the directory is unreadable."""
    newest, *ancestors = [name for text in line if (name := parse_name(text))]
    return superseded(own_names(directory, lineage), newest, ancestors, keep_last, keep_every)


def own_names(directory: Path, lineage: str) -> list[Name]:
    """The checkpoints of a lineage that have a sound manifest."""
    own = []
    for name in list_names(directory):
        with contextlib.suppress(StorageError):
            if read_manifest(directory / str(name))["lineage"] == lineage:
                own.append(name)
    return own


def set_aside(directory: Path, names: Iterable[Name]) -> list[str]:
    """Take the names of these checkpoints and of saves that were cut off, durably; quick, whatever their size.

    From here on they do not exist, and `sweep` frees their bytes. Not to be called while a save is in progress.
    Returns what could not be done, in words: a failure here must not stop a run whose new checkpoint is good.
    """
    problems = []
    entries = [*list_temporary(directory), *map(str, names)]
    for entry in entries:
        try:
            (directory / entry).rename(directory / f".trash-{entry}-{uuid.uuid4().hex[:12]}")
        except OSError as error:
            problems.append(f"could not delete {directory / entry}: {error.strerror or error}")
    if entries:
        try:
            fsync_directory(directory)
        except OSError as error:
            problems.append(f"could not flush {directory}: {error.strerror or error}")
    return problems


def sweep(directory: Path) -> list[str]:
    """Free the bytes of all that was set aside, by this run or one that was cut off; takes its time.

    Returns what could not be done, in words.
    """
    problems = []
    try:
        for entry in list_trash(directory):
            shutil.rmtree(directory / entry)
    except OSError as error:
        problems.append(f"could not delete {error.filename or directory}: {error.strerror or error}")
    except StorageError as error:
        problems.append(str(error))
    return problems


class Disposal:
    """Deletes checkpoints of one directory: they are gone at once, and a thread frees their bytes while training goes
    on. What could not be done is added to `warnings`."""

    def __init__(self, directory: Path, warnings: list[str]) -> None:
        self._directory, self._warnings = directory, warnings
        self._sweeper: threading.Thread | None = None

    def delete(self, names: Iterable[Name]) -> None:
        """Delete these, and saves that were cut off. Not to be called while a save is in progress."""
        self.finish()
        self._warnings += set_aside(self._directory, names)
        self.sweep()

    def sweep(self) -> None:
        """Begin to free the bytes of all that was set aside."""
        self.finish()
        self._sweeper = threading.Thread(target=lambda: self._warnings.extend(sweep(self._directory)), name="sweep")
        self._sweeper.start()

    def finish(self) -> None:
        """Wait until the bytes are free."""
        if self._sweeper is not None:
            self._sweeper.join()
            self._sweeper = None
