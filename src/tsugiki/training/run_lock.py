"""One run directory, one run: a lock of the operating system, which dies with its holder.

The lock is `flock` on `<run_dir>/.lock`; the file stays, and says who holds or last held it. A killed run leaves no
lock behind. Nor do its children: a forked data worker that outlives its parent would keep the lock through the
descriptor it inherited, so children close it.
"""

import contextlib
import fcntl
import json
import os
import platform
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tsugiki.errors import StorageError
from tsugiki.files import NO_LOCKS, explain_os_error

LOCK_FILE = ".lock"

_held: set[int] = set()  # descriptors that a forked child must not keep


def _close_in_child() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)  # the parent's own descriptor keeps the lock
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold the run directory (made if it is not there) while the block runs. Of several processes, the first does.

    Raises StorageError, naming the holder's process and host, if another run writes there.
    """
    path = Path(run_dir) / LOCK_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(explain_os_error(error, path)) from error
    try:
        _lock(descriptor, path)
        _held.add(descriptor)
        owner = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        with contextlib.suppress(OSError):  # it is for people; on a full disk the first save says so
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(
            f"another run writes into {path.parent}: {_holder(descriptor)}. Wait for it or stop it, or give this run "
            "another run_dir"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise StorageError(explain_os_error(error, path, "lock")) from error
        warnings.warn(
            f"the file system of {path.parent} has no locks (for Lustre: mount option flock): see to it yourself "
            "that no second run writes there",
            stacklevel=3,
        )


def _holder(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said which"
