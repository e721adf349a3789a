"""Two runs cannot write one directory, and a killed run leaves no lock."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tsugiki.errors import StorageError
from tsugiki.training.run_lock import lock_run

HOLDER = """
import os, sys, time, pathlib
from tsugiki.training.run_lock import lock_run
with lock_run(pathlib.Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork() == 0:
        os.write(1, f"{os.getpid()}\\n".encode())
        time.sleep(600)
    os.write(1, b"held\\n")
    time.sleep(600)
"""


def start_holder(run_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run_dir), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    return holder


def test_the_second_run_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "one"
    holder = start_holder(run_dir)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError) as caught, lock_run(run_dir):
            pass
        assert f"another run writes into {run_dir}: process {holder.pid} on " in str(caught.value)
        with lock_run(tmp_path / "runs" / "two"):
            pass
    finally:
        holder.kill()
        holder.wait()
    with lock_run(run_dir):
        pass


def test_a_killed_run_leaves_no_lock_even_when_its_children_live_on(tmp_path: Path) -> None:
    holder = start_holder(tmp_path, "fork")
    lines = [holder.stdout.readline().strip() for _ in range(2)]
    child = int(next(line for line in lines if line != "held"))
    try:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)  # the child is alive
        with lock_run(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_lock_is_released_at_the_end_of_the_block_also_by_an_error(tmp_path: Path) -> None:
    def hold_and_fail() -> None:
        with lock_run(tmp_path):
            with pytest.raises(StorageError, match=f"process {os.getpid()} on"), lock_run(tmp_path):
                pass
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            hold_and_fail()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match=r"file/run/\.lock: a part of this path is a file"),
        lock_run(tmp_path / "file" / "run"),
    ):
        pass
