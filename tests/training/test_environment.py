"""What a start ran on is recorded, start after start, and a damaged record ends nothing."""

import json
import platform

import torch

from tsugiki.training.environment import FILE, MOST_STARTS, describe_start, record_start
from tsugiki.training.flops import flops_per_token


def test_a_start_names_hardware_versions_and_size(open_tiny):
    run = open_tiny()
    found = describe_start(run)
    assert found["versions"]["torch"] == torch.__version__
    assert found["parameters"] == sum(p.numel() for p in run.model.hf.parameters())
    assert found["flops_per_token"] == flops_per_token(run.model.hf, run.recipe.data.sequence_length)
    assert (found["device"], found["devices"], found["peak_tflops"]) == ("CPU", 1, None)
    assert found["cpu"]
    assert found["memory_gb"] > 0.1
    assert found["system"] == platform.platform()


def test_starts_add_up_and_a_damaged_file_begins_anew(open_tiny):
    run = open_tiny()
    path = run.recipe.run_dir / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    record_start(run)
    run.step = 4
    record_start(run)
    assert [start["step"] for start in json.loads(path.read_text())] == [0, 4]
    path.write_text("[{")
    record_start(run)
    assert [start["step"] for start in json.loads(path.read_text())] == [4]
    path.write_text(json.dumps([{"step": step} for step in range(MOST_STARTS)]))
    record_start(run)
    assert len(json.loads(path.read_text())) == MOST_STARTS
