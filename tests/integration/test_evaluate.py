"""`training.evaluate` on two processes: the same answers as on one, and a run that is bitwise the same as without it."""

import json

import pytest
from whole_runs import LONG_PROBES


def answers(run_dir):
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {record["step"]: record["probes"] for record in records if record["kind"] == "evaluation"}


def shards(run_dir):
    return {path.name: path.read_bytes() for path in (run_dir / "checkpoints/step_00000004").glob("*.safetensors")}


def test_asking_on_two_processes_gives_the_answers_of_one_and_changes_no_bit(prepared, launch, tmp_path):
    names = {"asked-1": 1, "asked-2": 2, "plain-2": 2}
    for name, world in names.items():
        recipe = prepared.write(
            f"{name}.yaml", run_dir=str(tmp_path / name),
            **{
                "training.max_steps": 4, "training.save_steps": 4, "training.eval_steps": None,
                "training.global_batch_size": 48, "training.micro_batch_size": 24,  # batches of questions are as large
                "training.preflight.skip": LONG_PROBES, "training.evaluate": {"every": 3} if name.startswith("asked") else None,
            },
        )  # fmt: skip
        running = launch("train", recipe, world=world)
        assert running.wait() == [0] * world, running.output()
    one, two = answers(tmp_path / "asked-1"), answers(tmp_path / "asked-2")
    assert list(one) == list(two) == [0, 3, 4]
    for step, probes in one.items():
        assert list(probes) == list(two[step])
        for name, figures in probes.items():
            assert two[step][name]["bits_per_byte"] == pytest.approx(figures["bits_per_byte"], rel=1e-4)
            assert two[step][name]["accuracy"] == pytest.approx(figures["accuracy"], abs=2.01 / 120)  # near ties
    assert answers(tmp_path / "plain-2") == {}
    found, expected = shards(tmp_path / "asked-2"), shards(tmp_path / "plain-2")
    assert len(expected) >= 2
    assert found == expected
    assert shards(tmp_path / "asked-1") != expected
