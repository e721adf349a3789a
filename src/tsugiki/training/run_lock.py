"""One run directory, one run: a lock of the operating system, which dies with its holder.

The lock is `flock` on `<run_dir>/.lock`; the file stays, and says who holds or last held it. A killed run leaves no
lock behind. Nor do its children: a forked data worker that outlives its parent would keep the lock through the
descriptor it inherited, so children close it.
"""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error, lock_at_once

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
        if not lock_at_once(descriptor, path):
            raise StorageError(
                f"another run writes into {path.parent}: {_holder(descriptor)}. Wait for it or stop it, or give this "
                "run another run_dir"
            )
        _held.add(descriptor)
        owner = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        with contextlib.suppress(OSError):  # it is for people; on a full disk the first save says so
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said which"
