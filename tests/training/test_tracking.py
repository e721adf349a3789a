"""What leaves the loop: the terminal's line, metrics.jsonl, TensorBoard, and what hosted trackers are told."""

import json

from tsugiki.training.tracking import validated_at


def test_validated_at_finds_the_validation_of_that_step_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert not validated_at(path, 2)
    lines = [
        {"kind": "step", "step": 4, "loss": 1.0},
        {"kind": "validation", "step": 2, "sources": {}},
        {"kind": "step", "step": 3, "loss": 1.0},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "validation", "step": 4')
    assert [step for step in range(6) if validated_at(path, step)] == [2]
