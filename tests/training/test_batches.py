"""Which samples a rank reads, and what the thread that reads ahead does when it fails or is no longer needed."""

import shutil
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tsugiki.corpus.open_files import RawFile
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.windows import IGNORE, READERS, WindowReader
from tsugiki.errors import DataError
from tsugiki.training.batches import AHEAD, Cut, Prefetcher, read_step

CUT = Cut(global_batch=6, micro_batch=2, rank=0, world=1, device=torch.device("cpu"))


class FailingReader:
    """The reader of a run, except that samples from `bad` on cannot be read."""

    def __init__(self, reader: WindowReader, bad: int):
        self.reader, self.mixture, self.bad = reader, reader.mixture, bad
        self.reads = 0

    def read(self, samples, pool=None):
        self.reads += 1
        if max(samples) >= self.bad:
            raise OSError(5, "Input/output error")
        return self.reader.read(samples, pool)


@pytest.fixture
def reader(open_tiny) -> WindowReader:
    return open_tiny(**{"data.isolate_documents": "true"}).reader


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("batches", "windows"))]


def test_ranks_read_the_steps_samples_between_them_in_order():
    assert CUT.places(1).tolist() == [0, 1, 2, 3, 4, 5]
    ranks = [replace(CUT, rank=rank, world=3) for rank in range(3)]
    assert [cut.places(3).tolist() for cut in ranks] == [[12, 13], [14, 15], [16, 17]]


def test_a_steps_micro_batches_hold_its_windows_and_count_their_targets(reader):
    batch = read_step(reader, 2, CUT)
    windows = reader.read(np.arange(6, 12))
    assert np.array_equal(torch.cat([micro.inputs for micro in batch.micro_batches]).numpy(), windows.inputs)
    assert np.array_equal(torch.cat([micro.targets for micro in batch.micro_batches]).numpy(), windows.targets)
    assert np.array_equal(torch.cat([micro.positions for micro in batch.micro_batches]).numpy(), windows.positions)
    counts = (windows.targets != IGNORE).sum(1)
    assert [micro.target_count for micro in batch.micro_batches] == counts.reshape(3, 2).sum(1).tolist()
    assert batch.source_weights.tolist() == [counts[windows.source == source].sum() for source in (0, 1)]
    assert batch.target_count == counts.sum()


def test_windows_that_micro_batches_do_not_divide_end_in_a_smaller_one(reader):
    batch = read_step(reader, 2, replace(CUT, micro_batch=4))
    assert [len(micro.inputs) for micro in batch.micro_batches] == [4, 2]
    inputs = torch.cat([micro.inputs for micro in batch.micro_batches])
    assert np.array_equal(inputs.numpy(), reader.read(np.arange(6, 12)).inputs)


def test_steps_come_in_order_and_the_thread_ends_with_the_last(reader):
    batches = Prefetcher(reader, CUT, 3, 6)
    assert [batch.step for batch in batches] == [3, 4, 5, 6]
    batches.close()
    assert reading_threads() == []


def test_an_error_of_the_thread_is_raised_at_its_step(reader):
    batches = Prefetcher(FailingReader(reader, bad=2 * 6), CUT, 1, 9)  # the first sample of step 3
    coming = iter(batches)
    assert [next(coming).step for _ in range(2)] == [1, 2]
    with pytest.raises(OSError, match="Input/output error"):
        next(coming)
    batches.close()
    assert reading_threads() == []


def test_no_more_is_read_ahead_than_has_room_and_closing_ends_the_wait(reader):
    counted = FailingReader(reader, bad=10**9)
    batches = Prefetcher(counted, CUT, 1, 20)
    thread = next(thread for thread in reading_threads() if thread.name == "batches")
    thread.join(0.3)  # would be over: a step is read in a millisecond
    assert thread.is_alive()
    assert counted.reads <= AHEAD + 1  # the steps in the queue and the one that waits
    batches.close()
    assert reading_threads() == []


def slow(monkeypatch, seconds):
    """Every read of tokens takes so long, as from a store of objects over a network."""
    read = RawFile.read

    def late(file, start, count):
        time.sleep(seconds)
        return read(file, start, count)

    monkeypatch.setattr(RawFile, "read", late)


@pytest.mark.parametrize("micro_batch", [1, 4, 32])
def test_storage_that_answers_late_is_waited_for_once_and_not_by_the_loop(reader, monkeypatch, micro_batch):
    """32 windows a step at 10 ms each are 320 ms one after another, and a step computes for 100 ms."""
    slow(monkeypatch, 0.01)
    batches = Prefetcher(reader, replace(CUT, global_batch=32, micro_batch=micro_batch), 1, 6)
    waits = []
    for batch in batches:
        waits.append(batch.wait_seconds)
        time.sleep(0.1)
    batches.close()
    assert waits[0] < 0.3
    assert statistics.median(waits[1:]) < 0.03


def test_windows_read_by_many_threads_are_those_read_by_one(reader, monkeypatch):
    slow(monkeypatch, 0.001)
    with ThreadPoolExecutor(READERS) as pool:
        many = read_step(reader, 3, replace(CUT, global_batch=30, micro_batch=4), pool)
    one = read_step(reader, 3, replace(CUT, global_batch=30, micro_batch=4))
    for mine, theirs in zip(many.micro_batches, one.micro_batches, strict=True):
        assert torch.equal(mine.inputs, theirs.inputs)
        assert torch.equal(mine.targets, theirs.targets)
        assert torch.equal(mine.positions, theirs.positions)


def cut_short(path):
    with path.open("r+b") as file:
        file.truncate(10)


@pytest.mark.parametrize(("change", "said"), [(Path.unlink, "No such file"), (cut_short, "10 bytes, but its index")])
def test_a_store_that_vanishes_while_training_is_named_with_its_source(reader, tmp_path, change, said):
    """A copy of the stores, of which one goes before it is first read."""
    sources = {}
    for name, source in reader.sources.items():
        folder = shutil.copytree(source.train.prefix.parent, tmp_path / name)
        sources[name] = replace(source, train=TokenStore(folder / "train", source.train.index))
    copied = WindowReader(sources, reader.mixture, reader.sequence_length, isolate_documents=False)
    change(next((tmp_path / "en").glob("train-*.bin")))
    batches = Prefetcher(copied, CUT, 1, 3)
    with pytest.raises(DataError, match=rf"source en: .*/en/train-00000\.bin: {said}"):
        list(batches)
    batches.close()
