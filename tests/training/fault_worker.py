"""Saves checkpoints and is struck at the k-th durable operation, for every k; started by test_checkpoint_faults.py.

Operations are seen from outside the code under test: by Python's audit events (open for writing, mkdir, rename,
remove, rmdir) and by a wrapped os.fsync, counted below one directory. A strike comes before the operation: the process
dies as from kill -9, or the operation raises OSError. Children are forked, so that torch is imported once.
"""

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tsugiki.checkpoint_files import read_manifest
from tsugiki.errors import StorageError
from tsugiki.training.checkpoint import Checkpointer
from tsugiki.training.distributed import Place, Processes, start_processes

DEAD = 9
REFUSED = 100
EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


class Strike:
    """Counts durable operations below `root`; at number `at` (1-based) calls `how`."""

    def __init__(self, root: Path, at: int = 0, how: Callable[[str], None] | None = None) -> None:
        self.root, self.at, self.how = str(root), at, how
        self.trace: list[str] = []
        self.active = True
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            self.see("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            sync(descriptor)

        os.fsync = fsync
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.see("open", os.fsdecode(path))
        elif event in EVENTS:
            named = [part for part in arguments[:2] if isinstance(part, (str, bytes, os.PathLike))]
            self.see(event, *map(os.fsdecode, named))

    def see(self, event: str, *paths: str) -> None:
        # rmtree removes by names relative to an open directory: those count too.
        if self.active and (paths[0].startswith(self.root) or not paths[0].startswith("/")):
            self.trace.append(" ".join([event, *(path.removeprefix(self.root + "/") for path in paths)]))
            if len(self.trace) == self.at and self.how:
                self.how(self.trace[-1])


def die(_: str) -> None:
    os._exit(DEAD)


def fail(operation: str) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def tensors_of(step: int, rank: int = 0, world: int = 1) -> dict[str, torch.Tensor]:
    return {"model.a": torch.arange(64.0) * step, "optimizer.a.step": torch.tensor(float(step))}


def save(checkpointer: Checkpointer, step: int) -> None:
    checkpointer.begin(step, tensors_of(step), {"step": step})
    checkpointer.wait_and_commit()


def two_saves(root: Path, report: int, processes: Processes) -> None:
    """Continue from what is there and save twice; writes each committed step to `report` (a pipe)."""
    checkpointer = Checkpointer(root, processes, lineage="x", keep_last=1)
    found = checkpointer.newest_whole()
    assert found is not None
    loaded = tensors_of(0)
    checkpointer.load(found, loaded)
    for step in (found.step + 1, found.step + 2):
        try:
            save(checkpointer, step)
            os.write(report, bytes([step]))
        except StorageError as error:
            if "input/output error" not in str(error):
                raise AssertionError(f"the cause is not named: {error}") from error
            os.write(report, bytes([REFUSED]))


def in_child(work: Callable[[int], None]) -> tuple[int, list[int]]:
    """Run in a forked process; its exit code and the bytes it reported."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            work(writer)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reported = list(pipe.read())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), reported


def save_first(root: Path) -> None:
    """Step 1, saved by a child: this process joins no group, since its threads would not be in the children."""
    code, _ = in_child(lambda _: save(Checkpointer(root, start_processes(), lineage="x"), 1))
    assert code == 0
    read_manifest(root / "step_00000001")  # what it makes at its first call, children then have: half of their time


def check(root: Path, committed: list[int]) -> int:
    """A whole checkpoint is found, with its own bytes, not older than the last committed; its step."""

    def work(report: int) -> None:
        checkpointer = Checkpointer(root, start_processes(), lineage="x", keep_last=1)
        found = checkpointer.newest_whole()
        assert found is not None, checkpointer.warnings
        loaded = tensors_of(0)
        checkpointer.load(found, loaded)
        expected = tensors_of(found.step)
        assert all(torch.equal(loaded[name], expected[name]) for name in loaded)
        assert found.state == {"step": found.step}
        assert found.step >= max([1, *committed])
        save(checkpointer, found.step + 1)  # and the run goes on, with nothing left lying about
        assert [path.name for path in root.iterdir()] == [f"step_{found.step + 1:08d}"]
        os.write(report, bytes([found.step]))

    code, reported = in_child(work)
    assert code == 0, "no whole checkpoint"
    return reported[0]


def every_operation(base: Path, how: str) -> dict[str, Any]:
    start = base / "start"
    save_first(start)
    strike = {"die": die, "fail": fail}[how]

    def run(k: int, trace_file: Path | None = None) -> tuple[int, list[int]]:
        root = base / f"at-{k}"
        shutil.copytree(start, root)

        def work(report: int) -> None:
            seen = Strike(root, k, strike)
            two_saves(root, report, start_processes())
            seen.active = False
            if trace_file:
                trace_file.write_text(json.dumps(seen.trace))

        return in_child(work)

    code, committed = run(0, base / "trace.json")
    assert (code, committed) == (0, [2, 3])
    trace = json.loads((base / "trace.json").read_text())
    survivors = []
    for k in range(1, len(trace) + 1):
        code, reported = run(k)
        assert code == (DEAD if how == "die" else 0), (k, trace[k - 1], code)
        survivors.append(check(base / f"at-{k}", [step for step in reported if step < REFUSED]))
        shutil.rmtree(base / f"at-{k}")
    return {"trace": trace, "survivors": survivors}


def two_ranks(base: Path, how: str, rank_struck: int, k: int) -> dict[str, Any]:
    """The same with two processes, one of which is struck."""
    root = base / f"{how}-{rank_struck}-{k}"
    save_first(root)
    readers, children = [], []
    for rank in range(2):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                store = dist.FileStore(str(base / f"store-{how}-{rank_struck}-{k}"), 2)
                dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=20))
                groups = dist.new_group(backend="gloo"), dist.new_group(backend="gloo")
                processes = Processes(Place(rank, 2), torch.device("cpu"), *groups)
                if rank == rank_struck:
                    Strike(root, k, {"die": die, "fail": fail}[how])
                two_saves(root, writer, processes)
                code = 0
            except RuntimeError as error:  # the peer is gone
                code = 3 if how == "die" and rank != rank_struck else 1
                if code == 1:
                    print(error, file=sys.stderr)
            finally:
                os._exit(code)
        os.close(writer)
        readers.append(reader)
        children.append(child)
    start = time.monotonic()
    reports = []
    for reader in readers:
        with os.fdopen(reader, "rb") as pipe:
            reports.append(list(pipe.read()))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    committed = [step for report in reports for step in report if step < REFUSED]
    return {
        "codes": codes, "reports": reports, "seconds": time.monotonic() - start, "found": check(root, committed),
    }  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    base, how = Path(sys.argv[1]), sys.argv[2]
    if len(sys.argv) == 3:
        print(json.dumps(every_operation(base, how)))
    else:
        print(json.dumps([two_ranks(base, how, *map(int, case.split("."))) for case in sys.argv[3:]]))
