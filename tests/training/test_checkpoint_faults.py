"""Crashes and disk errors at every durable operation of a save leave a whole checkpoint behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked_scripts import Ranks

WORKER = Path(__file__).with_name("fault_worker.py")


@pytest.fixture
def run_worker(ranks: Ranks, tmp_path: Path) -> Callable[..., Any]:
    """What the worker says at its end."""
    return lambda *arguments: json.loads(ranks(WORKER, [[tmp_path, *arguments]])[0].splitlines()[-1])


def position(trace: list[str], event: str, start: int = 0) -> int:
    return next(place for place, seen in enumerate(trace) if place >= start and event in seen)


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_strike_at_any_operation_leaves_a_whole_checkpoint(run_worker: Callable[..., Any], how: str) -> None:
    result = run_worker(how)
    assert len(result["trace"]) > 30
    assert set(result["survivors"]) == {1, 2, 3} if how == "die" else {2, 3}  # of two saves, one error stops one
    # What has been made durable in time, as a power cut would ask: content, names in the directory, manifest, its
    # name, the directory's name; and only then is the older one deleted.
    trace = result["trace"]
    events = [
        "os.mkdir step_00000002.tmp",
        "fsync step_00000002.tmp",  # state.json
        "open step_00000002.tmp",
        "safetensors",
        "fsync step_00000002.tmp",
        "manifest.json",
        "fsync step_00000002.tmp",
        "os.rename step_00000002.tmp",  # the manifest takes its name
        "fsync step_00000002.tmp",
        "os.rename step_00000002.tmp",  # the directory takes its name
        "fsync ",
        "os.rename step_00000001 .trash-step_00000001",
        "fsync ",
        "os.rmdir",
    ]
    place = -1
    for event in events:
        place = position(trace, event, place + 1)
    committed = position(trace, " step_00000002", position(trace, "os.rename step_00000002.tmp"))
    renames = [p for p, seen in enumerate(trace) if seen.startswith("os.rename") and seen.endswith(" step_00000002")]
    assert len(renames) == 1
    assert committed <= renames[0]
    assert trace[renames[0] + 1].startswith("fsync"), "the parent directory is flushed right after the rename"
    shard = position(trace, "open", position(trace, "safetensors"))
    assert trace[shard + 1].startswith("fsync")
    assert trace[shard + 1].endswith(".safetensors")


def test_a_strike_at_one_of_two_ranks_leaves_a_whole_checkpoint(run_worker: Callable[..., Any]) -> None:
    for result in run_worker("die", "0.2", "0.8", "0.20", "1.1", "1.3"):
        assert sorted(result["codes"]) == [3, 9]  # the peer of a dead process ends too, with an error, and soon
        assert result["seconds"] < 15


def test_an_error_on_one_rank_is_raised_on_both(run_worker: Callable[..., Any]) -> None:
    for result in run_worker("fail", "0.2", "0.8", "1.2", "1.4"):
        assert result["codes"] == [0, 0]
        assert result["reports"][0] == result["reports"][1] == [100, 3]
        assert result["found"] == 3
