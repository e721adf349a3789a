"""Checkpoints of sharded models: 2 processes -> 1 -> 3 hold the same tensors, and all ranks learn the same."""

from pathlib import Path

from forked_scripts import Ranks


def test_two_one_and_three_processes_load_equal_tensors(tmp_path: Path, ranks: Ranks) -> None:
    outputs = ranks(Path(__file__).with_name("ranks_worker.py"), [[tmp_path, rank] for rank in range(3)])
    assert all(output.endswith("done\n") for output in outputs)
