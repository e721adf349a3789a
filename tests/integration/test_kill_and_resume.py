"""A run that is killed and started again ends with the bits of one that never stopped."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from preflight_project import conversations as made_conversations
from whole_runs import LONG_PROBES, final_tensors, step_losses
from whole_runs import recipe_for as recipe_with_every_probe

from tsugiki.pipeline import run_prepare
from tsugiki.recipe_file import load_recipe

KILLS_IN_SUITE = 4  # for each world size
STEPS = {
    "training.max_steps": 32, "training.save_steps": 4, "training.micro_batch_size": 6, "training.eval_steps": None,
}  # fmt: skip
"""Two micro-batches a step alone, and some seconds of steps to kill in."""
SOAK_KILLS = int(os.environ.get("TSUGIKI_SOAK_KILLS", "0"))


def recipe_for(project, name: str, **changes: object) -> tuple[Path, Path]:
    return recipe_with_every_probe(project, name, **{"training.preflight.skip": LONG_PROBES}, **changes)


def kill_until_finished(launch, recipe: Path, run_dir: Path, world: int, kills: int, seed: int) -> int:
    """Start, kill -9 at a random moment, start again …; returns how many kills hit a living run."""
    chance, hits = random.Random(seed), 0
    for _ in range(kills):
        running = launch("train", recipe, world=world)
        running.wait_for("step ")
        time.sleep(chance.uniform(0.0, 0.6))
        victims = None if world == 1 or chance.random() < 0.5 else [chance.randrange(world)]
        alive = any(process.is_alive() for process in running.processes)
        running.signal(signal.SIGKILL, victims)
        codes = running.wait()
        hits += alive and any(code == -signal.SIGKILL for code in codes)
        if all(code == 0 for code in codes):
            shutil.rmtree(run_dir)  # it had finished before the blow: begin again
    assert launch("train", recipe, world=world).wait() == [0] * world
    return hits


@pytest.fixture(scope="module")
def conversations(prepared) -> dict[str, object]:
    """Changes of the recipe that bring in a chat source, which is prepared; two micro-batches a step on two processes."""
    lines = [json.dumps(record, ensure_ascii=False) for record in made_conversations()]
    (prepared.folder / "talk.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    talk = {"path": str(prepared.folder / "talk.jsonl"), "format": "chat", "weight": 60, "held_out": 0}
    changes = {
        "data.sources.talk": talk, "data.chat": {"template": "mistral-v1"}, "data.sequence_length": 128,
        "data.prepared_dir": str(prepared.folder / "chat-data"), "training.loss_normalization": "conversation",
        "training.micro_batch_size": 3,
    }  # fmt: skip
    run_prepare(load_recipe(prepared.write("conversations.yaml", **changes)))
    return changes


@pytest.mark.parametrize("world", [1, 2], ids=["text, alone", "conversations and text, two processes"])
def test_killed_runs_end_bitwise_as_the_uninterrupted_one(prepared, launch, conversations, world):
    steps = STEPS | (conversations if world == 2 else {})
    whole, whole_dir = recipe_for(prepared, f"whole-{world}", **steps)
    assert launch("train", whole, world=world).wait() == [0] * world
    killed, killed_dir = recipe_for(prepared, f"killed-{world}", **steps)
    hits = kill_until_finished(launch, killed, killed_dir, world, KILLS_IN_SUITE, seed=world)
    assert hits >= KILLS_IN_SUITE // 2
    assert final_tensors(killed_dir) == final_tensors(whole_dir)
    assert step_losses(killed_dir) == step_losses(whole_dir)


@pytest.mark.slow
@pytest.mark.skipif(not SOAK_KILLS, reason="set TSUGIKI_SOAK_KILLS (make soak KILLS=N)")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("world", [1, 2])
def test_soak(prepared, launch, world):
    steps = STEPS | {"training.max_steps": 60, "training.eval_steps": 10, "training.micro_batch_size": 3}
    whole, whole_dir = recipe_for(prepared, f"soak-whole-{world}", **steps)
    assert launch("train", whole, world=world).wait() == [0] * world
    for attempt in range(max(1, SOAK_KILLS // (2 * KILLS_IN_SUITE))):
        killed, killed_dir = recipe_for(prepared, f"soak-{world}", **steps)
        kill_until_finished(launch, killed, killed_dir, world, KILLS_IN_SUITE, seed=1000 + attempt)
        assert final_tensors(killed_dir) == final_tensors(whole_dir), f"attempt {attempt}"


def test_a_signal_saves_and_exits_resumable(prepared, launch):
    """Four signals, one after another, to one run."""
    whole_dir = prepared.folder / "whole-1"
    recipe, run_dir = recipe_for(prepared, "signals", **STEPS)
    for step, number in ((3, signal.SIGTERM), (7, signal.SIGINT), (11, signal.SIGUSR1), (15, signal.SIGUSR2)):
        running = launch("train", recipe)
        running.wait_for(f"step {step}/")
        running.signal(number)
        assert running.wait() == [75], running.output()
        state = json.loads((run_dir / "state.json").read_text())
        assert state["status"] == "resumable"
        assert step <= state["step"] < 32
    if whole_dir.exists():
        assert launch("train", recipe).wait() == [0]
        assert final_tensors(run_dir) == final_tensors(whole_dir)


def test_a_signal_to_one_rank_stops_both_after_the_same_step(prepared, launch):
    recipe, run_dir = recipe_for(prepared, "signal-one", **{"training.max_steps": 60, "training.save_steps": 50})
    running = launch("train", recipe, world=2)
    running.wait_for("step 3/")
    running.signal(signal.SIGUSR2, ranks=[1])
    assert running.wait() == [75, 75], running.output()
    assert json.loads((run_dir / "state.json").read_text())["status"] == "resumable"


@pytest.mark.parametrize(
    ("number", "minutes", "words"),
    [(signal.SIGKILL, 30, "has ended"), (signal.SIGSTOP, 0.05, "has not answered for 0.05 minutes")],
)
def test_a_process_that_dies_or_stops_is_named_by_the_other(prepared, launch, number, minutes, words):
    steps = {"training.max_steps": 2000, "training.save_steps": 1000, "training.eval_steps": None}
    recipe, run_dir = recipe_for(prepared, f"lost-{number}", **steps)
    running = launch("train", recipe, f"parallel.timeout_minutes={minutes}", world=2)
    running.wait_for("step 3/")
    running.signal(number, ranks=[1])
    running.processes[0].join(timeout=120)
    running.signal(signal.SIGKILL, ranks=[1])
    assert running.wait() == [6, -signal.SIGKILL], running.output()
    assert f"error: another process of this run {words}" in running.output()
    assert "Traceback" not in running.output()
    assert json.loads((run_dir / "state.json").read_text())["status"] == "running"


@pytest.mark.parametrize("world", [1, 2])
def test_a_signal_during_validation_ends_it_and_the_next_start_makes_it(prepared, launch, world):
    """A window a batch makes the validation of step 6 take seconds; the signal comes with its first batches."""
    steps = {"training.max_steps": 8, "training.save_steps": 50}
    steps |= {"training.global_batch_size": 2, "training.micro_batch_size": 1}
    recipe, run_dir = recipe_for(prepared, f"signal-validation-{world}", **steps | {"training.eval_steps": None})
    assert launch("train", recipe, "training.stop_after_steps=5", world=world).wait() == [75] * world
    validating = ("training.eval_steps=6", "training.eval_documents=1000")
    running = launch("train", recipe, *validating, world=world)
    running.wait_for("step 6/")
    running.signal(signal.SIGUSR1, ranks=[world - 1])
    assert running.wait() == [75] * world, running.output()
    state = json.loads((run_dir / "state.json").read_text())
    assert (state["status"], state["step"]) == ("resumable", 6)
    assert "held-out" not in running.output()
    finishing = launch("train", recipe, "training.eval_steps=6", "training.eval_documents=1", world=world)
    assert finishing.wait() == [0] * world, finishing.output()
    made = [line.split()[1] for line in finishing.output().splitlines() if "held-out" in line]
    assert made == ["6/8", "8/8"]


@pytest.mark.parametrize(
    "embeddings", [{}, {"training.embedding_warmup_steps": 6, "training.embedding_lr_factor": 3.0}]
)
def test_other_numbers_of_processes_continue_the_same_data_order(prepared, launch, embeddings):
    steps = {"training.max_steps": 12, "training.save_steps": 4, "training.eval_steps": None, **embeddings}
    whole, whole_dir = recipe_for(prepared, "elastic-whole", **steps)
    assert launch("train", whole).wait() == [0]
    recipe, run_dir = recipe_for(prepared, "elastic", **steps)
    for world, stop in ((2, 4), (1, 8), (3, 12)):
        codes = launch("train", recipe, f"training.stop_after_steps={stop}", world=world).wait()
        assert codes == [0 if stop == 12 else 75] * world
    whole_losses, losses = step_losses(whole_dir), step_losses(run_dir)
    assert losses.keys() == whole_losses.keys()
    assert all(abs(losses[step] - whole_losses[step]) < 2e-4 for step in losses)


def test_a_changed_fixed_key_refuses_to_resume_and_shows_both_values(prepared, launch):
    recipe, _ = recipe_for(prepared, "changed", **{"training.eval_steps": None})
    assert launch("train", recipe, "training.stop_after_steps=3").wait() == [75]
    refused = launch("train", recipe, "training.learning_rate=1e-3")
    assert refused.wait() == [2]
    assert "training.learning_rate" in refused.output()
    assert "0.003" in refused.output()
    assert "0.001" in refused.output()


def test_two_runs_cannot_write_one_directory(prepared, launch):
    recipe, _ = recipe_for(prepared, "locked", **{"training.max_steps": 200, "training.eval_steps": None})
    first = launch("train", recipe)
    first.wait_for("step 2/")
    first.signal(signal.SIGSTOP)  # it would have finished before a slow second one has looked
    second = launch("train", recipe)
    assert second.wait() == [5]
    assert "another" in second.output()
    first.signal(signal.SIGKILL)
    first.wait()
    assert launch("train", recipe, "training.stop_after_steps=12").wait() == [75]  # a killed run leaves no lock


def test_a_flipped_byte_is_named_and_the_checkpoint_before_used(prepared, launch):
    recipe, run_dir = recipe_for(prepared, "flipped", **{"training.eval_steps": None})
    assert launch("train", recipe, "training.stop_after_steps=6").wait() == [75]
    shard = next((run_dir / "checkpoints/step_00000006").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    resumed = launch("train", recipe)
    assert resumed.wait() == [0], resumed.output()
    assert shard.name in resumed.output()
    assert "step_00000003 after step 3" in resumed.output()
