"""Freed memory is taken again without a page fault: counted in a process of its own, since the setting is for good."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from tsugiki.training.host_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2 ** 24)  # 64 MiB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults(), faults()  # fills gaps that earlier tensors left
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted as Linux counts them")
def test_a_step_takes_again_what_the_step_before_freed() -> None:
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    before, after = map(int, out.stdout.split())
    assert after * 10 < before
