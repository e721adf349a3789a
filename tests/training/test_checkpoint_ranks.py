"""Checkpoints of sharded models: 2 processes -> 1 -> 3 hold the same tensors, and all ranks learn the same."""

import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).with_name("ranks_worker.py")


def test_two_one_and_three_processes_load_equal_tensors(tmp_path: Path) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    commands = [[sys.executable, str(WORKER), str(tmp_path), str(rank)] for rank in range(3)]
    ranks = [subprocess.Popen(command, text=True, **pipes) for command in commands]
    outputs = [rank.communicate(timeout=200) for rank in ranks]
    for rank, (out, err) in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, err[-4000:]
        assert out.endswith("done\n")
