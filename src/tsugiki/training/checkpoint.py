"""Checkpoints: saved while training goes on, whole or not there, loaded on any number of processes.

The life of one, each line on every rank at the same step:

    checkpointer.begin(step, tensors, state)     returns at once; threads copy the tensors and write the copy
    checkpointer.wait_copied()                   before the next update: from here on the tensors may change
    checkpointer.local_done()                    asked every step; costs nothing
    checkpointer.commit()                        all agree; rank 0 writes the manifest and renames the directory

Until the rename there is no checkpoint (`checkpoint_files.py` has the layout). What one rank cannot do, no rank does:
every method that can fail does so on all ranks, with the same text. torch's own failures need care: its
CheckpointException is no Exception, and a failed background save is silent until asked.
"""

import json
import logging
import os
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.logging_handlers import DCP_LOGGER_NAME
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse

from tsugiki.checkpoint_files import (
    FORMAT,
    MANIFEST,
    STATE,
    Manifest,
    Name,
    check_disk_space,
    digest_problems,
    free_name,
    list_names,
    list_temporary,
    list_trash,
    newest_name,
    parse_name,
    read_manifest,
    render_manifest,
    size_problems,
    tensor_differences,
    verify,
)
from tsugiki.checkpoint_tensors import TensorReader, explain_failure, read_tensors
from tsugiki.errors import StorageError, TsugikiError
from tsugiki.files import explain_os_error, free_bytes, fsync_directory, read_json, write_atomically
from tsugiki.training.checkpoint_writer import ShardWriter, Stager, describe_tensors
from tsugiki.training.retention import own_names, set_aside, superseded, sweep

__all__ = ["Checkpointer", "Found", "check_disk_space", "newest_name", "size_estimate", "verify"]

warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # said when used without, as asked
# torch makes two records for each tensor of a save, for nobody: half of the time that training stands still for one.
logging.getLogger(f"c10d-NullHandler-{DCP_LOGGER_NAME}").setLevel(logging.WARNING)

_SLOW_DISK = 200e6
"""Bytes a second that a process is taken to write before a save has been timed."""
_LONGEST_LINE = 1000  # ancestors recorded in a manifest


@dataclass(frozen=True)
class Found:
    """A checkpoint whose every byte has been verified, and what was passed over to find it."""

    path: Path
    step: int
    state: dict[str, Any]
    manifest: Manifest
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Flight:
    """A save between begin() and commit()."""

    name: Name
    temporary: Path
    writer: ShardWriter
    tensors: dict[str, dict[str, Any]]
    done: Future[Any]


def size_estimate(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of a checkpoint of these tensors (full sizes of sharded ones), but for a few kB of headers."""
    return sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors.values())


class Checkpointer:
    """Saves to and loads from one directory. Every rank has one and calls its methods at the same points.

    control_group, io_group: gloo groups of their own (a background save that shared a group with training would
    hang it); None for one process. `lineage` identifies the run through all its continuations; it must be
    set before the first begin(), and once it is, checkpoints of other lineages are not considered.
    keep_last, keep_every: see `retention.py`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rank: int = 0,
        world: int = 1,
        control_group: dist.ProcessGroup | None = None,
        io_group: dist.ProcessGroup | None = None,
        lineage: str | None = None,
        keep_last: int | None = 3,
        keep_every: int | None = None,
    ) -> None:
        if world > 1 and (control_group is None or io_group is None):
            raise ValueError("several processes need a control_group and an io_group of the checkpointer's own")
        self.directory = Path(directory)
        self.rank, self.world = rank, world
        self.lineage = lineage
        self.keep_last, self.keep_every = keep_last, keep_every
        self.warnings: list[str] = []
        """What newest_whole() passed over, and what retention could not delete."""
        self._longest_save: float | None = None
        self._control, self._io = (control_group if world > 1 else None), io_group
        self._stager = Stager(self._agree)
        self._flight: _Flight | None = None
        self._sweeper: threading.Thread | None = None
        self._line: list[str] = []  # names, newest first, that this run continues from or has written

    # Saving

    def begin(self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Start saving. Collective, one in flight. The tensors must not change before `wait_copied` has returned.

        tensors: plain or sharded (DTensor), by name; a plain tensor must be the same on every rank.
        state: what is not a tensor, as JSON values; rank 0's is stored.
        Raises StorageError on every rank if the save cannot start (no space, no permission, no memory).
        """
        if self._flight is not None:
            raise RuntimeError("a checkpoint is in flight: commit it before the next begins")
        if self.lineage is None:
            raise RuntimeError("Checkpointer.lineage must be set before the first save")
        wrong = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
        if wrong:
            raise TypeError(f"not a tensor, so it belongs into state: {', '.join(wrong)}")
        content: bytes | None = None
        plan: tuple[str, str] | None = None
        failure = None
        if self.rank == 0:
            try:
                content = (json.dumps(state, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
                plan = self._make_room(step, size_estimate(tensors))
            except OSError as error:
                failure = explain_os_error(error, self.directory)
            except Exception as error:  # whatever it is, the other ranks wait for an answer
                failure = str(error) if isinstance(error, TsugikiError) else repr(error)
        failure, plan = self._from_first((failure, plan))
        if failure is not None or plan is None:
            raise StorageError(f"cannot save a checkpoint of step {step:,}: {failure}")
        name, temporary = parse_name(plan[0]), self.directory / plan[1]
        assert name is not None
        started = time.perf_counter()
        writer = ShardWriter(temporary, self.rank, {STATE: content} if content is not None else None)
        try:
            begun = dcp.async_save(
                dict(tensors), storage_writer=writer, process_group=self._io, async_stager=self._stager,
                no_dist=self._io is None,
            )  # fmt: skip
        except StorageError:  # agreed on by all ranks in Stager.stage
            self._discard(temporary)
            raise
        assert isinstance(begun, AsyncSaveResponse)  # as the stager returns a future
        begun.upload_completion.add_done_callback(lambda _: self._note_seconds(time.perf_counter() - started))
        self._flight = _Flight(name, temporary, writer, describe_tensors(dict(tensors)), begun.upload_completion)

    def _note_seconds(self, seconds: float) -> None:
        self._longest_save = max(self._longest_save or 0.0, seconds)

    def save_seconds(self, size: int) -> float:
        """From begin() to the last byte on the disk: the longest so far, or a guess for `size` bytes."""
        return size / self.world / _SLOW_DISK if self._longest_save is None else self._longest_save

    def wait_copied(self) -> None:
        """Block until the tensors of the save in flight may be changed. Local; at once where nothing is copied."""
        self._stager.synchronize_staging()

    def local_done(self) -> bool:
        """Whether a save is in flight and its writing has ended here, well or badly. Never blocks, never raises."""
        return self._flight is not None and self._flight.done.done()

    def commit(self) -> str | None:
        """Make the checkpoint in flight exist, then delete what it supersedes; returns its name. Collective.

        Waits for this rank's writing if it has not ended. None when no save is in flight.
        Raises StorageError on every rank, with the first cause, if any rank failed; older checkpoints stay.
        """
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        failure = None
        try:
            flight.done.result()
        except (Exception, CheckpointException) as error:
            failure = self._explain(error, flight.temporary)
        reports = self._gather((failure, flight.writer.written, flight.writer.elements))
        failures = [text for text, _, _ in reports if text]
        if not failures and self.rank == 0:
            try:
                self._publish(flight, [(written, elements) for _, written, elements in reports])
            except (Exception, CheckpointException) as error:
                failure = self._explain(error, flight.temporary)
        failure = self._from_first(failures[0] if failures else failure)
        if failure is not None:
            self._discard(flight.temporary)
            standing = f"the last one is {self._line[0]}" if self._line else "there is none yet"
            raise StorageError(f"checkpoint {flight.name} was not saved: {failure} ({standing})")
        self._line = [str(flight.name), *self._line][:_LONGEST_LINE]
        if self.rank == 0:
            self._retain(flight.name)
        return str(flight.name)

    def wait_and_commit(self) -> str | None:
        """commit(), for callers that have nothing better to do than wait: what it deletes is gone on return."""
        name = self.commit()
        self._finish_deleting()
        return name

    def newest_name(self) -> str | None:
        """The checkpoint that a continuation would start from, as far as this process knows."""
        return self._line[0] if self._line else None

    def _make_room(self, step: int, size: int) -> tuple[str, str]:
        """Rank 0: a fresh temporary directory; returns the final name and the temporary one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._finish_deleting()
        if free_bytes(self.directory) < size:
            self._delete([])  # what crashed saves left may be all that is in the way
            self._finish_deleting()
        free = free_bytes(self.directory)
        if free < size:
            raise StorageError(
                f"the disk is full: {size / 1e9:,.3f} GB are needed in {self.directory} and {free / 1e9:,.3f} GB are "
                "free. Free some space and run the same command again"
            )
        name = free_name(self.directory, step)
        temporary = f"{name}.tmp-{uuid.uuid4().hex[:12]}"
        (self.directory / temporary).mkdir()
        return str(name), temporary

    def _publish(self, flight: _Flight, reports: list[tuple[dict[str, Any], dict[str, int]]]) -> None:
        """Rank 0: check that the ranks' shards make up every tensor, write the manifest, rename. Durable."""
        elements: dict[str, int] = {}
        files: dict[str, dict[str, Any]] = {}
        for written, counts in reports:
            files |= written
            for name, count in counts.items():
                elements[name] = elements.get(name, 0) + count
        for name, entry in flight.tensors.items():
            if elements.get(name, 0) != torch.Size(entry["shape"]).numel():
                raise StorageError(
                    f"{name} has shape {entry['shape']} but {elements.get(name, 0):,} elements were written: "
                    "it is sharded without being a DTensor, or ranks disagree on its shape"
                )
        manifest = {
            "format": FORMAT,
            "step": flight.name.step,
            "lineage": self.lineage,
            "parent": self._line[0] if self._line else None,
            "ancestors": self._line,
            "world_size": self.world,
            "versions": {"torch": torch.__version__, "safetensors": safetensors.__version__},
            "bytes": sum(entry["size"] for entry in files.values()),
            "files": dict(sorted(files.items())),
            "tensors": flight.tensors,
        }
        write_atomically(flight.temporary / MANIFEST, render_manifest(manifest))
        problems = size_problems(flight.temporary, read_manifest(flight.temporary))
        if problems:
            raise StorageError("; ".join(problems))
        final = self.directory / str(flight.name)
        if os.path.lexists(final):
            raise StorageError(f"{final} has appeared meanwhile: something else writes into {self.directory}")
        flight.temporary.rename(final)
        fsync_directory(self.directory)

    def _retain(self, newest: Name) -> None:
        """Rank 0: delete what the committed checkpoint supersedes. Failures are warnings."""
        assert self.lineage is not None
        try:
            own = own_names(self.directory, self.lineage)
            ancestors = {name for text in self._line if (name := parse_name(text))}
            names = superseded(own, newest, ancestors, self.keep_last, self.keep_every)
            self._delete(names)
        except StorageError as error:
            self.warnings.append(str(error))

    def _discard(self, temporary: Path) -> None:
        if self.rank == 0 and temporary.exists():
            self._delete([])
            self._finish_deleting()

    def _delete(self, names: list[Name]) -> None:
        """Rank 0: these checkpoints are gone at once; a thread frees their bytes while training goes on."""
        self._finish_deleting()
        self.warnings += set_aside(self.directory, names)
        self._sweep()

    def _sweep(self) -> None:
        self._sweeper = threading.Thread(target=lambda: self.warnings.extend(sweep(self.directory)), name="sweep")
        self._sweeper.start()

    def _finish_deleting(self) -> None:
        if self._sweeper is not None:
            self._sweeper.join()
            self._sweeper = None

    # Loading

    def newest_whole(self) -> Found | None:
        """The newest checkpoint that is whole, all its digests verified. Collective: rank 0 chooses, all verify.

        What is damaged or was cut off is passed over and named, with the cause, in `warnings` (of this object and
        of the result). None if no checkpoint is whole.
        """
        self.warnings = []
        names, failure = self._from_first(self._list_names() if self.rank == 0 else None)
        if failure:
            raise StorageError(failure)
        for name in names:
            path = self.directory / name
            manifest, problems = self._from_first(self._look_at(path) if self.rank == 0 else None)
            if manifest is not None:
                sizes = {file: entry["size"] for file, entry in manifest["files"].items()}
                mine = sorted(sizes, key=lambda file: (-sizes[file], file))[self.rank :: self.world]
                problems = [text for texts in self._gather(digest_problems(path, manifest, mine)) for text in texts]
                if not problems:
                    state, failure = self._from_first(self._read_state(path) if self.rank == 0 else None)
                    if failure is None:
                        return Found(path, manifest["step"], state, manifest, list(self.warnings))
                    problems = [failure]
            self.warnings.append(f"checkpoint {name} is passed over: {'; '.join(problems)}")
        return None

    def load(self, found: Found, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill the given tensors (plain or sharded, on any number of ranks) with those of the checkpoint.

        Raises StorageError on every rank, before any tensor is touched, unless both sides have the same names,
        dtypes and shapes (torch would cast another dtype without a word).
        """
        stored, asked = found.manifest["tensors"], describe_tensors(dict(tensors))
        self._agree(tensor_differences(found.path, stored, asked))
        with self._on_all():
            reader = TensorReader(found.path)
        with self._on_all():
            read_tensors(reader, tensors, self._io)
        self._line = [found.path.name, *found.manifest["ancestors"]][:_LONGEST_LINE]

    def _list_names(self) -> tuple[list[str], str | None]:
        """Rank 0: what there is, newest first, or why that cannot be said; what was being deleted goes."""
        try:
            for entry in list_temporary(self.directory):
                self.warnings.append(f"{entry} is a save that was cut off; it is removed after the next good one")
            if list_trash(self.directory):  # of a run that was killed at its end, and saves no more
                self._finish_deleting()
                self._sweep()
            return [str(name) for name in list_names(self.directory)], None
        except StorageError as error:
            return [], str(error)

    def _look_at(self, path: Path) -> tuple[Manifest | None, list[str]]:
        """Manifest of a checkpoint that looks whole from outside, or None and what is wrong."""
        try:
            manifest = read_manifest(path)
        except StorageError as error:
            return None, [str(error)]
        if self.lineage is not None and manifest["lineage"] != self.lineage:
            return None, [f"it belongs to another run ({manifest['lineage']}, not {self.lineage})"]
        problems = size_problems(path, manifest)
        return (None, problems) if problems else (manifest, [])

    @staticmethod
    def _read_state(path: Path) -> tuple[dict[str, Any], str | None]:
        try:
            return read_json(path / STATE), None
        except TsugikiError as error:
            return {}, str(error)

    # Agreement between ranks

    def _gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank."""
        if self._control is None:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self._control)
        return values

    def _from_first(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self._control is None:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0, group=self._control)
        return holder[0]

    def _agree(self, failure: str | None) -> None:
        """Raise StorageError on every rank if any has a failure."""
        failures = [text for text in self._gather(failure) if text]
        if failures:
            raise StorageError(failures[0])

    @contextmanager
    def _on_all(self) -> Iterator[None]:
        """A StorageError of the block, on whichever rank, is raised on every rank."""
        failure = None
        try:
            yield
        except StorageError as error:
            failure = str(error)
        self._agree(failure)

    # Failures in words

    def _explain(self, error: BaseException, place: Path) -> str:
        """Why a save failed. A full disk shows up in odd ways (quotas, Lustre's full targets), so it is asked for."""
        text = explain_failure(error)
        free = free_bytes(place)
        if "disk" not in text and "limit" not in text and free < 64 << 20:
            text += f" (is the disk full? {free / 1e6:,.0f} MB are free there)"
        return text
