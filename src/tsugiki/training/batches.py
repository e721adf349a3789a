"""The batch of a step, cut for this rank and read before it is needed.

Which samples make up a step depends on the step number alone; rank and micro-batch only decide who reads which.
A background thread keeps `AHEAD` steps ready, of which READERS windows are read at a time; the time that the loop waits
for it is measured and logged.
"""

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from tsugiki.corpus.windows import IGNORE, READERS, WindowReader
from tsugiki.model.loss import pinned, to_device

AHEAD = 2


@dataclass(frozen=True)
class MicroBatch:
    """Windows of one forward pass. Inputs, weights and sources are on the training device; targets and positions are in
    host memory (pinned for a GPU), where rows are chosen and documents counted without waiting for the device."""

    inputs: torch.Tensor  # [micro_batch, sequence] int64
    targets: torch.Tensor  # [micro_batch, sequence] int64, IGNORE where nothing is predicted
    positions: torch.Tensor | None  # [micro_batch, sequence] int64 when documents are isolated
    source: torch.Tensor  # [micro_batch] int64, index into the mixture's names
    target_count: int
    weights: torch.Tensor | None = None  # [micro_batch, sequence] float32 of each target in the loss; None: all 1


@dataclass(frozen=True)
class StepBatch:
    """This rank's part of an optimiser step."""

    step: int
    micro_batches: list[MicroBatch]
    target_count: int  # of this rank
    source_weights: np.ndarray  # [sources] float64, their weights in the loss by source: counts where all are 1
    wait_seconds: float = 0.0


@dataclass(frozen=True)
class Cut:
    """How the windows of a step are dealt out: evenly over `world` ranks, of which this one is `rank`, and there
    `micro_batch` at a time, for `device`."""

    global_batch: int
    micro_batch: int
    rank: int
    world: int
    device: torch.device

    def places(self, step: int) -> np.ndarray:
        """Places of optimiser step `step` (from 1) that this rank reads: a contiguous block. A place is a global sample
        number, but for the samples that are stepped over (`corpus/stepping.py`)."""
        share = self.global_batch // self.world
        start = (step - 1) * self.global_batch + self.rank * share
        return np.arange(start, start + share, dtype=np.int64)


def read_step(reader: WindowReader, step: int, cut: Cut, pool: ThreadPoolExecutor | None = None) -> StepBatch:
    """Read one step's windows for one rank, several at a time where there is a pool, and begin to move to the device
    what is needed there."""
    samples, device = reader.mixture.sample_numbers(cut.places(step)), cut.device
    micro_batches = []
    by_source = np.zeros(len(reader.mixture.names))
    together = -(-READERS // cut.micro_batch) * cut.micro_batch  # at least so many that all readers have one
    for start in range(0, len(samples), together):
        windows = reader.read(samples[start : start + together], pool)
        for first in range(0, len(windows.samples), cut.micro_batch):
            rows = slice(first, first + cut.micro_batch)
            counts = (windows.targets[rows] != IGNORE).sum(axis=1)
            weights = None if windows.weights is None else windows.weights[rows]
            positions = None if windows.positions is None else windows.positions[rows]
            of_source = counts if weights is None else weights.sum(axis=1, dtype=np.float64)
            np.add.at(by_source, windows.source[rows], of_source)
            micro_batches.append(
                MicroBatch(
                    inputs=to_device(_tensor(windows.inputs[rows]), device),
                    targets=pinned(_tensor(windows.targets[rows]), device),
                    positions=None if positions is None else pinned(_tensor(positions), device),
                    source=to_device(_tensor(windows.source[rows]), device),
                    target_count=int(counts.sum()),
                    weights=None if weights is None else to_device(torch.from_numpy(weights.copy()), device),
                )
            )
    return StepBatch(step, micro_batches, sum(micro.target_count for micro in micro_batches), by_source)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))


class Prefetcher:
    """Steps `first` to `last` in order, read by a thread; an error of the thread is raised at its step."""

    def __init__(self, reader: WindowReader, cut: Cut, first: int, last: int) -> None:
        self._queue: queue.Queue[StepBatch | BaseException] = queue.Queue(maxsize=AHEAD)
        self._stop = threading.Event()
        self._steps = range(first, last + 1)
        self._thread = threading.Thread(target=self._fill, args=(reader, cut), name="batches", daemon=True)
        self._thread.start()

    def _fill(self, reader: WindowReader, cut: Cut) -> None:
        if cut.device.type == "cuda":
            torch.cuda.set_device(cut.device)  # a thread begins on device 0
        with ThreadPoolExecutor(READERS, "windows") as pool:
            self._read_ahead(reader, cut, pool)

    def _read_ahead(self, reader: WindowReader, cut: Cut, pool: ThreadPoolExecutor) -> None:
        for step in self._steps:
            try:
                item: StepBatch | BaseException = read_step(reader, step, cut, pool)
            except BaseException as error:  # handed over, raised by the loop
                item = error
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stop.is_set() or isinstance(item, BaseException):
                return

    def __iter__(self) -> Iterator[StepBatch]:
        for _ in self._steps:
            start = time.perf_counter()
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield replace(item, wait_seconds=time.perf_counter() - start)

    def close(self) -> None:
        """Stop reading ahead; blocks until the thread has ended."""
        self._stop.set()
        self._thread.join()
