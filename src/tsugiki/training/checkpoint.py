"""Checkpoints: saved while training goes on, whole or not there, loaded on any number of processes.

The life of one, each line on every rank at the same step:

    checkpointer.begin(step, tensors, state)     returns at once; threads copy the tensors and write the copy
    checkpointer.wait_copied()                   before the next update: from here on the tensors may change
    checkpointer.local_done()                    asked every step; costs nothing
    checkpointer.proceed()                       all have written; a thread of rank 0 writes the manifest and renames
    checkpointer.proceed()                       all know that it is done

Until the rename there is no checkpoint (`checkpoint_files.py` has the layout; `checkpoint_reader.py` finds and reads
one). What one rank cannot do, no rank does:
every method that can fail does so on all ranks, with the same text. torch's own failures need care: its
CheckpointException is no Exception, and a failed background save is silent until asked.
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.logging_handlers import DCP_LOGGER_NAME
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse

from tsugiki.checkpoint_files import (
    FORMAT,
    MANIFEST,
    STATE,
    Name,
    free_name,
    list_trash,
    parse_name,
    read_manifest,
    render_manifest,
    size_problems,
)
from tsugiki.checkpoint_tensors import explain_failure
from tsugiki.errors import StorageError
from tsugiki.files import free_bytes, fsync_directory, write_atomically
from tsugiki.model.ranks import on_first_rank
from tsugiki.rewinds import Rewind
from tsugiki.training.checkpoint_reader import Found, fill_tensors, newest_whole
from tsugiki.training.checkpoint_writer import ShardWriter, Stager, describe_tensors
from tsugiki.training.distributed import Processes
from tsugiki.training.retention import Disposal, due

# torch makes two records for each tensor of a save, for nobody: half of the time that training stands still for one.
logging.getLogger(f"c10d-NullHandler-{DCP_LOGGER_NAME}").setLevel(logging.WARNING)

_SLOW_DISK = 200e6
"""Bytes a second that a process is taken to write before a save has been timed."""
_LONGEST_LINE = 1000  # ancestors recorded in a manifest


@dataclass
class _Flight:
    """A save between begin() and the last proceed()."""

    name: Name
    temporary: Path
    writer: ShardWriter
    tensors: dict[str, dict[str, Any]]
    written: Future[Any]
    published: Future[None] | None = None


def size_estimate(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of a checkpoint of these tensors (full sizes of sharded ones), but for a few kB of headers."""
    return sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors.values())


class Checkpointer:
    """Saves to and loads from one directory. Every rank has one and calls its methods at the same points.

    `lineage` identifies the run through all its continuations; it must be set before the first begin(), and once it is,
    checkpoints of other lineages are not considered. keep_last, keep_every: see `retention.py`.
    """

    def __init__(
        self,
        directory: Path,
        processes: Processes,
        *,
        lineage: str | None = None,
        keep_last: int | None = 3,
        keep_every: int | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.lineage = lineage
        self.rewinds: list[Rewind] = []
        """Ways back that lie behind this run (`rewinds.py`): what they have undone is passed over."""
        self.keep_last, self.keep_every = keep_last, keep_every
        self.warnings: list[str] = []
        """What newest_whole() passed over, and what retention could not delete, until `take_warnings`."""
        self._processes = processes
        self._longest_save: float | None = None
        self._stager = Stager(processes)
        self._flight: _Flight | None = None
        self._publisher = ThreadPoolExecutor(1, "checkpoint-publish")
        self._disposal = Disposal(self.directory, self.warnings)
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
        files: dict[str, bytes] = {}  # on rank 0: what is written beside the tensors

        def make_room() -> tuple[str, str]:
            try:
                files[STATE] = (json.dumps(state, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
                return self._make_room(step, size_estimate(tensors))
            except Exception as error:
                raise StorageError(f"cannot save a checkpoint of step {step:,}: {explain_failure(error)}") from error

        final, place = on_first_rank(make_room, self._processes.control)
        name, temporary = parse_name(final), self.directory / place
        assert name is not None
        started = time.perf_counter()
        writer = ShardWriter(temporary, self._processes.rank, files)
        try:
            begun = dcp.async_save(
                dict(tensors), storage_writer=writer, process_group=self._processes.storage, async_stager=self._stager
            )
        except StorageError:  # raised on all ranks by Stager.stage
            self._discard(temporary)
            raise
        assert isinstance(begun, AsyncSaveResponse)  # as the stager returns a future
        begun.upload_completion.add_done_callback(lambda _: self._note_seconds(time.perf_counter() - started))
        self._flight = _Flight(name, temporary, writer, describe_tensors(dict(tensors)), begun.upload_completion)

    def _note_seconds(self, seconds: float) -> None:
        self._longest_save = max(self._longest_save or 0.0, seconds)

    def save_seconds(self, size: int) -> float:
        """From begin() to the last byte on the disk: the longest so far, or a guess for `size` bytes."""
        return size / self._processes.world / _SLOW_DISK if self._longest_save is None else self._longest_save

    def wait_copied(self) -> None:
        """Block until the tensors of the save in flight may be changed. Local; at once where nothing is copied."""
        self._stager.synchronize_staging()

    def local_done(self) -> bool:
        """Whether a save is in flight and the part of it that runs here in the background has ended, well or badly.
        Never blocks, never raises."""
        flight = self._flight
        return flight is not None and (flight.published or flight.written).done()

    def proceed(self) -> str | None:
        """Take the save in flight one stage on; at once, when `local_done` on every rank. Collective.

        From written to being published by a thread of rank 0 (None is returned: to flush a busy disk may take a
        fraction of a second), and from published to committed (its name is returned; what it supersedes is deleted).
        None when no save is in flight. Raises StorageError on every rank, with the first cause, if any rank failed;
        older checkpoints stay.
        """
        flight = self._flight
        if flight is None:
            return None
        try:
            if flight.published is None:
                flight.published = self._begin_to_publish(flight)
                return None
            on_first_rank(flight.published.result, self._processes.control)
        except StorageError as error:
            self._flight = None
            self._discard(flight.temporary)
            standing = f"the last one is {self._line[0]}" if self._line else "there is none yet"
            raise StorageError(f"checkpoint {flight.name} was not saved: {error} ({standing})") from error
        self._flight = None
        self._line = [str(flight.name), *self._line][:_LONGEST_LINE]
        return str(flight.name)

    def commit(self) -> str | None:
        """All stages of `proceed` that are left, waiting for each; the checkpoint's name. Collective."""
        name = None
        while self._flight is not None:
            name = self.proceed()
        return name

    def wait_and_commit(self) -> str | None:
        """commit(), for callers that have nothing better to do than wait: what it deletes is gone on return."""
        name = self.commit()
        self._disposal.finish()
        return name

    def take_warnings(self) -> list[str]:
        """What has come up since they were last taken; threads may add to it meanwhile."""
        return [self.warnings.pop(0) for _ in range(len(self.warnings))]

    def newest_name(self) -> str | None:
        """The checkpoint that a continuation would start from, as far as this process knows."""
        return self._line[0] if self._line else None

    def _make_room(self, step: int, size: int) -> tuple[str, str]:
        """Rank 0: a fresh temporary directory; returns the final name and the temporary one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._disposal.finish()
        if free_bytes(self.directory) < size:
            self._disposal.delete([])  # what crashed saves left may be all that is in the way
            self._disposal.finish()
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

    def _begin_to_publish(self, flight: _Flight) -> Future[None]:
        """Gather what the ranks have written. Raises StorageError on every rank where one has failed."""
        failure = None
        try:
            flight.written.result()
        except (Exception, CheckpointException) as error:
            failure = _explain(error, flight.temporary)
        reports = self._processes.gather((failure, flight.writer.written, flight.writer.elements))
        failure = next((text for text, _, _ in reports if text), None)
        if failure is not None:
            raise StorageError(failure)
        if self._processes.is_first:
            return self._publisher.submit(self._publish, flight, reports)
        nothing_to_do: Future[None] = Future()
        nothing_to_do.set_result(None)
        return nothing_to_do

    def _publish(self, flight: _Flight, reports: list[tuple[str | None, dict[str, Any], dict[str, int]]]) -> None:
        """Rank 0: write the manifest, rename, delete what is superseded. Durable; StorageError, whatever fails."""
        try:
            write_atomically(flight.temporary / MANIFEST, render_manifest(self._manifest(flight, reports)))
            problems = size_problems(flight.temporary, read_manifest(flight.temporary))
            if problems:
                raise StorageError("; ".join(problems))
            final = self.directory / str(flight.name)
            if os.path.lexists(final):
                raise StorageError(f"{final} has appeared meanwhile: something else writes into {self.directory}")
            flight.temporary.rename(final)
            fsync_directory(self.directory)
        except Exception as error:
            raise StorageError(_explain(error, flight.temporary)) from error
        self._retain([str(flight.name), *self._line])

    def _manifest(
        self, flight: _Flight, reports: list[tuple[str | None, dict[str, Any], dict[str, int]]]
    ) -> dict[str, Any]:
        """Raises StorageError unless the ranks' shards make up every tensor."""
        elements: dict[str, int] = {}
        files: dict[str, dict[str, Any]] = {}
        for _, written, counts in reports:
            files |= written
            for name, count in counts.items():
                elements[name] = elements.get(name, 0) + count
        for name, entry in flight.tensors.items():
            if elements.get(name, 0) != torch.Size(entry["shape"]).numel():
                raise StorageError(
                    f"{name} has shape {entry['shape']} but {elements.get(name, 0):,} elements were written: "
                    "it is sharded without being a DTensor, or ranks disagree on its shape"
                )
        return {
            "format": FORMAT,
            "step": flight.name.step,
            "lineage": self.lineage,
            "rewinds": self.rewinds,
            "parent": self._line[0] if self._line else None,
            "ancestors": self._line,
            "world_size": self._processes.world,
            "versions": {"torch": torch.__version__, "safetensors": safetensors.__version__},
            "bytes": sum(entry["size"] for entry in files.values()),
            "files": dict(sorted(files.items())),
            "tensors": flight.tensors,
        }

    def _retain(self, line: Sequence[str]) -> None:
        """Rank 0: delete what the committed checkpoint, the first of `line`, supersedes. Failures are warnings."""
        assert self.lineage is not None
        try:
            self._disposal.delete(due(self.directory, self.lineage, line, self.keep_last, self.keep_every))
        except StorageError as error:
            self.warnings.append(str(error))

    def retain_loaded(self) -> None:
        """Rank 0: delete what the checkpoint that was loaded supersedes: a run that was killed before it had done so at
        its end saves no more."""
        if self._line:
            self._retain(self._line)
            self._disposal.finish()

    def _discard(self, temporary: Path) -> None:
        if self._processes.is_first and temporary.exists():
            self._disposal.delete([])
            self._disposal.finish()

    # Loading

    def newest_whole(self, at_most: int | None = None) -> Found | None:
        """The newest checkpoint that is whole, all its digests verified. Collective.

        at_most: the latest step that it may be of. Default: any.

        What is damaged or was cut off is passed over and named, with the cause, in `warnings` (of this object and
        of the result). None if no checkpoint is whole.
        """
        self.warnings.clear()
        on_first_rank(self._sweep, self._processes.control)
        return newest_whole(self.directory, self._processes, self.lineage, self.rewinds, self.warnings, at_most)

    def _sweep(self) -> None:
        """Rank 0: what was being deleted goes."""
        if list_trash(self.directory):  # of a run that was killed at its end, and saves no more
            self._disposal.sweep()

    def load(self, found: Found, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill the given tensors with those of the checkpoint, from which this run then continues; see
        `fill_tensors`. Collective."""
        fill_tensors(found, tensors, self._processes)
        self._line = [found.path.name, *found.manifest["ancestors"]][:_LONGEST_LINE]


def _explain(error: BaseException, place: Path) -> str:
    """Why a save failed. A full disk shows up in odd ways (quotas, Lustre's full targets), so it is asked for."""
    text = explain_failure(error)
    free = free_bytes(place)
    if "disk" not in text and "limit" not in text and free < 64 << 20:
        text += f" (is the disk full? {free / 1e6:,.0f} MB are free there)"
    return text
