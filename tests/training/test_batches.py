"""Which samples a rank reads, and what the thread that reads ahead does when it fails or is no longer needed."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from tsugiki.corpus.windows import IGNORE, WindowReader
from tsugiki.training.batches import AHEAD, Cut, Prefetcher, read_step

CUT = Cut(global_batch=6, micro_batch=2, rank=0, world=1, device=torch.device("cpu"))


class FailingReader:
    """The reader of a run, except that samples from `bad` on cannot be read."""

    def __init__(self, reader: WindowReader, bad: int):
        self.reader, self.mixture, self.bad = reader, reader.mixture, bad
        self.reads = 0

    def read(self, samples):
        self.reads += 1
        if max(samples) >= self.bad:
            raise OSError(5, "Input/output error")
        return self.reader.read(samples)


@pytest.fixture
def reader(open_tiny) -> WindowReader:
    return open_tiny(**{"data.isolate_documents": "true"}).reader


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


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
    (thread,) = reading_threads()
    thread.join(0.3)  # would be over: a step is read in a millisecond
    assert thread.is_alive()
    assert counted.reads <= 3 * (AHEAD + 1)  # micro-batches of the steps in the queue and of the one that waits
    batches.close()
    assert reading_threads() == []
