"""A folder that is made anew: the old one, or the whole new one, whatever happens.

    .NAME.lock     held by the process that makes the folder; gone when it is done
    .NAME.new      what it fills
    .NAME.old      the former folder, while the new one takes its name

A process that is killed leaves these beside the folder; the next one that makes or looks for it puts things right. Long
work that can be gone on with says so by a file UNFINISHED in the new folder: then that stays until it is finished. A
link to a folder stands for the folder: where it lies is where the new one is made.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error, fsync_directory, fsync_file, hold_file

UNFINISHED = "unfinished.json"
"""Of what is in a new folder that is to be kept for the next process; whoever makes it removes it at the end."""


@contextlib.contextmanager
def only_one(target: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder that is made anew, waiting for another process that makes it (and saying so to Python's
    logging); what a killed one left is put right first. A killed process leaves no lock.

    Raises StorageError where the place cannot be written, and with wait=False where another holds the lock.
    """
    target = target.resolve()
    lock = _beside(target, "lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = _hold(lock, target, wait)
    except OSError as error:
        raise StorageError(explain_os_error(error, error.filename or lock)) from error
    with file:
        try:
            _put_right(target)
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


def _hold(lock: Path, target: Path, wait: bool) -> BinaryIO:
    try:
        return hold_file(lock, wait=False)
    except BlockingIOError:
        if not wait:
            raise
    logging.getLogger(__name__).warning("waiting for another process, which is making %s", target)
    return hold_file(lock)


def tidy(target: Path) -> None:
    """Put right what a killed process left, where there is such a thing, nobody is at work, and this user may."""
    target = target.resolve()
    if any(os.path.lexists(_beside(target, ending)) for ending in ("new", "old", "lock")):
        with contextlib.suppress(StorageError), only_one(target, wait=False):
            return


@contextlib.contextmanager
def made_anew(target: Path) -> Iterator[Path]:
    """A folder to fill: empty, but for what was left UNFINISHED. When the block ends well, all of it is brought to disk
    and it becomes `target`, in the place of what had the name; when not, `target` is as it was. To be used inside
    `only_one(target)`.

    Raises StorageError, naming the file, where the disk refuses, also for an OSError of the block.
    """
    target = target.resolve()
    new, old = _beside(target, "new"), _beside(target, "old")
    try:
        new.mkdir(exist_ok=(new / UNFINISHED).exists())
        yield new
        for path in sorted(new.rglob("*"), reverse=True):
            (fsync_directory if path.is_dir() else fsync_file)(path)
        fsync_directory(new)
        if target.exists():
            target.rename(old)
        new.rename(target)
        fsync_directory(target.parent)
    except OSError as error:
        raise StorageError(explain_os_error(error, error.filename or target)) from error
    finally:
        _put_right(target)


@contextlib.contextmanager
def worked_beside(target: Path) -> Iterator[Path]:
    """An empty folder on the disk of `target`, for what is to be moved into it; gone after the block, or where that was
    killed, when the next process looks. To be used inside `only_one(target)`."""
    new = _beside(target.resolve(), "new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
        yield new
    except OSError as error:
        raise StorageError(explain_os_error(error, error.filename or new)) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_right(target: Path) -> None:
    new, old = _beside(target, "new"), _beside(target, "old")
    with contextlib.suppress(OSError):  # what stays now goes next time
        if old.exists() and not target.exists():
            old.rename(target)
    # Where the name could not be given back, the former folder is all that there is.
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    if not (new / UNFINISHED).exists():
        shutil.rmtree(new, ignore_errors=True)


def empty(folder: Path) -> None:
    """Remove all that a folder holds. Raises OSError."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def drop_unfinished(target: Path) -> None:
    """Remove what was left unfinished beside a folder that is as it should be, where nobody is at work on it."""
    new = _beside(target.resolve(), "new")
    if (new / UNFINISHED).exists():
        with contextlib.suppress(OSError, StorageError), only_one(target, wait=False):
            (new / UNFINISHED).unlink()
            _put_right(target.resolve())


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{ending}")
