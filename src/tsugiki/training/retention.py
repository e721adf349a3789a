"""Which checkpoints a newer one makes superfluous, and how they are deleted.

A checkpoint knows its ancestors: those that the run continued from or wrote before it. The newest `keep_last` of
that line stay, and for ever those whose step is a multiple of `keep_every`. A checkpoint off the line (one that was
found damaged and passed over, so that the run wrote that step again) stays until the line has passed its step.
Checkpoints of another lineage, and whatever has no readable manifest, are never touched: it is not ours to judge.
"""

import contextlib
import shutil
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path

from tsugiki.checkpoint_files import Name, list_names, list_temporary, list_trash, read_manifest
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


def remove(directory: Path, entry: str) -> None:
    """Delete a directory entry: first its name goes, durably, then its content. Raises OSError."""
    trash = directory / (entry if entry.startswith(".trash-") else f".trash-{entry}-{uuid.uuid4().hex[:12]}")
    if not entry.startswith(".trash-"):
        (directory / entry).rename(trash)
        fsync_directory(directory)
    shutil.rmtree(trash)


def own_names(directory: Path, lineage: str) -> list[Name]:
    """The checkpoints of a lineage that have a sound manifest."""
    own = []
    for name in list_names(directory):
        with contextlib.suppress(StorageError):
            if read_manifest(directory / str(name))["lineage"] == lineage:
                own.append(name)
    return own


def clean(directory: Path, names: Iterable[Name], *, spare: str | None = None) -> list[str]:
    """Delete these checkpoints and what crashed saves and deletions left (but not the entry `spare`).

    Returns what could not be deleted, in words: a failure here must not stop a run whose checkpoint is good.
    """
    problems = []
    left = [entry for entry in list_temporary(directory) if entry != spare] + list_trash(directory)
    for entry in [*left, *map(str, names)]:
        try:
            remove(directory, entry)
        except OSError as error:
            problems.append(f"could not delete {directory / entry}: {error.strerror or error}")
    return problems
