"""Durable storage: the one module that makes a file exist or not exist across a crash.

A file written here is either the old one or the whole new one, also after `kill -9` or a power cut: the bytes go
to a temporary name in the same directory, are flushed to the disk, take their name by one rename, and the
directory that holds the name is flushed as well (without that last step the rename itself may be lost). The temporary
name is always the same, so that what a killed process left is written over by the next; a lock keeps two writers apart.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, overload

import xxhash

from tsugiki.errors import StorageError
from tsugiki.shapes import parse_json

T = TypeVar("T")

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""What a file system without locks answers (for Lustre, one mounted without `flock`)."""
_HASH_BLOCK = 8 << 20  # bytes read at a time: large enough that the disk, not Python, sets the pace


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` (text is stored as UTF-8), durably and as a whole.

    Raises StorageError, naming the file and what to do, if the disk refuses; the old file is then untouched.
    """
    with written_atomically(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """An empty file to write, which replaces `path` durably when the block ends. Raises as `write_atomically` does."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with hold_file(temporary) as file:
            try:
                file.truncate(0)
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        fsync_directory(path.parent)
    except OSError as error:
        raise StorageError(explain_os_error(error, path)) from error


def hold_file(path: Path, *, wait: bool = True) -> BinaryIO:
    """Open a file for writing, made if it is not there, and hold its lock until it is closed. A killed process leaves
    no lock. On a file system without locks the file is opened all the same.

    Whoever holds it may remove or rename it: others that wait then open what has the name next. Raises OSError, with
    wait=False BlockingIOError where another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            _lock(descriptor, wait)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return os.fdopen(descriptor, "wb")
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def lock_at_once(file: BinaryIO | int, path: Path) -> bool:
    """Lock an open file until it is closed, or say at once (False) that another process has done so.

    Warns, and goes on, on a file system without locks. Raises StorageError.
    """
    try:
        if not _lock(file, wait=False):
            warnings.warn(
                f"the file system of {path.parent} has no locks (for Lustre: mount option flock): see to it yourself "
                "that nothing else writes there",
                stacklevel=3,
            )
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "lock")) from error
    return True


def _lock(file: BinaryIO | int, wait: bool) -> bool:
    """Whether the file system has locks. Raises OSError, without `wait` BlockingIOError where the lock is taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, durably and as a whole; NaN and infinity are refused (ValueError)."""
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


@overload
def read_json(path: Path) -> dict[str, Any]: ...
@overload
def read_json(path: Path, shape: type[T]) -> T: ...
def read_json(path: Path, shape: Any = dict[str, Any]) -> Any:
    """The object stored in a JSON file, of the shape that is asked for (see `shapes`).

    Raises StorageError if the file cannot be read, and DataError if it is not JSON or of another shape, naming it.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
    return parse_json(content, shape, str(path))


def fsync_file(path: Path) -> None:
    """Flush what was written to a file to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk, so that a rename in it survives a power cut.

    File systems that cannot flush a directory (some network ones) answer EINVAL or ENOTSUP: nothing more can be
    done there, so that is accepted. Raises OSError otherwise.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def xxh3_file(path: Path) -> str:
    """Digest (xxh3, 128 bits, hexadecimal) of a file's content, in constant memory. Raises OSError.

    It finds damage and change (several GB/s); it is not meant to resist someone who forges a file.
    """
    digest = xxhash.xxh3_128()
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where `path` lies, or will lie (its nearest existing parent)."""
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def explain_os_error(error: OSError, path: Path | str, action: str = "write") -> str:
    """One sentence that says what the operating system refused and what to do about it."""
    known = {
        errno.ENOSPC: "the disk is full. Free some space, or choose another place, and run the same command again",
        errno.EDQUOT: "your disk quota is used up. Free some space or ask for more, and run the same command again",
        errno.EFBIG: "the file would pass the file-size limit of this shell (`ulimit -f`) or file system. "
        "Raise the limit and run the same command again",
        errno.EACCES: "permission denied. Check the owner and mode of the file and of the directories above it",
        errno.EPERM: "permission denied. Check the owner and mode of the file and of the directories above it",
        errno.EROFS: "the file system is read-only. Choose another place",
        errno.ENOENT: "there is no such file or directory",
        errno.ENOTDIR: "a part of this path is a file, not a directory",
        errno.EEXIST: "a file of this name is in the way",
        errno.EISDIR: "it is a directory, and a file was expected",
        errno.EMFILE: "too many files are open in this process. Raise the limit (`ulimit -n`)",
        errno.EIO: "the disk reported an input/output error: the device or the network mount may be failing",
        errno.ESTALE: "the network mount lost this file (stale handle). Mount it again",
        errno.ENAMETOOLONG: "the file name is too long for this file system",
    }
    reason = known.get(error.errno or 0, error.strerror or str(error))
    return f"Cannot {action} {path}: {reason}."
