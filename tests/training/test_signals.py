"""When a run is asked to stop: signals, a second one, and the end of a Slurm job with the time that a save takes."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tsugiki.training import checkpoint as checkpoint_module
from tsugiki.training import signals
from tsugiki.training.checkpoint import Checkpointer
from tsugiki.training.distributed import Place
from tsugiki.training.signals import Interrupted, StopRequest, interruptible

SOURCE = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_is_remembered_and_former_handlers_come_back(number):
    former = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()
        assert stop.reason == number.name
    assert signal.getsignal(number) is former


@pytest.mark.parametrize("number", signals.STOP_SIGNALS)
def test_a_signal_ends_the_work_at_hand_once_in_two_seconds(number, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    former = signal.getsignal(number)
    with interruptible():
        with pytest.raises(Interrupted, match=signal.Signals(number).name):
            os.kill(os.getpid(), number)
        now[0] = 102.0
        os.kill(os.getpid(), number)  # what a launcher and a terminal pass on together
        now[0] = 102.1
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is former


def test_a_signal_that_was_ignored_at_the_start_stays_so():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)


CHILD = """
import os, signal, sys, time
from tsugiki.training import signals
now = [100.0]
signals.time.monotonic = lambda: now[0]
with signals.StopRequest() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    now[0] += float(sys.argv[1])
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    print("alive", stop.requested(), stop.reason)
"""


@pytest.mark.parametrize(
    ("seconds", "second", "code", "out"),
    [
        (1.9, "SIGTERM", 0, "alive True SIGTERM\n"),  # what a launcher and a terminal pass on together is one request
        (2.1, "SIGTERM", 128 + signal.SIGTERM, ""),
        (2.1, "SIGINT", 128 + signal.SIGINT, ""),
        (2.1, "SIGUSR1", 0, "alive True SIGTERM\n"),  # a warning of a scheduler's is no impatience
    ],
)
def test_a_second_request_after_two_seconds_ends_the_process(seconds, second, code, out):
    found = subprocess.run(
        [sys.executable, "-c", CHILD, str(seconds), second], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (code, out), found.stderr


def test_a_slurm_job_stops_when_its_end_is_as_near_as_a_save(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "5000")
    now = [4000.0]
    monkeypatch.setattr(signals.time, "time", lambda: now[0])
    stop = StopRequest()
    assert not stop.requested(999.0)
    assert stop.reason is None
    assert stop.requested(1000.0)
    assert not stop.requested()
    assert stop.reason == "end of the Slurm job"  # also after the save, when the end is not quite there
    now[0] = 5000.0
    assert stop.requested()
    assert stop.reason == "end of the Slurm job"
    for absent in ("", "none"):
        monkeypatch.setenv("SLURM_JOB_END_TIME", absent)
        assert not StopRequest().requested(1e9)


def test_a_run_keeps_three_saves_and_a_step_in_reserve(open_tiny, monkeypatch):
    run = open_tiny()
    asked = []
    monkeypatch.setattr(run.stop, "requested", lambda reserve: bool(asked.append(reserve)))
    monkeypatch.setattr(run.checkpointer, "save_seconds", lambda size: {run.checkpoint_bytes: 20.0}[size])
    run.step_seconds = 7.0
    assert run.stop_requested() is False
    assert asked == [67.0]


def test_a_save_is_guessed_by_its_size_until_the_longest_was_measured(tmp_path, processes, monkeypatch):
    assert Checkpointer(tmp_path, processes).save_seconds(400_000_000_000) == 2000.0  # at 200 MB/s
    two = Checkpointer(tmp_path, replace(processes, place=Place(world=2)))
    assert two.save_seconds(400_000_000_000) == 1000.0  # each writes its part

    now, written = [0.0], []
    monkeypatch.setattr(checkpoint_module.time, "perf_counter", lambda: now[0])

    class Begun(checkpoint_module.AsyncSaveResponse):
        def __init__(self):
            self.staging_completion = self.upload_completion = Future()
            written.append(self.upload_completion)

    monkeypatch.setattr(checkpoint_module.dcp, "async_save", lambda *_, **__: Begun())
    found = Checkpointer(tmp_path, processes, lineage="x")
    for seconds, expected in ((30.0, 30.0), (50.0, 50.0), (10.0, 50.0)):
        found.begin(1, {"a": torch.ones(1)}, {})
        now[0] += seconds  # begin() has returned long before the last byte is written
        written[-1].set_result(None)
        found._flight = None
        assert found.save_seconds(400_000_000_000) == expected
