"""Poison documents in the corpus of a run on two processes: found, shown, skipped, and stepped over by going back."""

import json
import random
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from whole_runs import LONG_PROBES, final_tensors, recipe_for

from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.prepared import open_prepared
from tsugiki.metrics_file import read_metrics
from tsugiki.pipeline import run_prepare
from tsugiki.preview import show_sample
from tsugiki.recipe_file import load_recipe
from tsugiki.recipe_inputs import load_tokenizer

KEYS = {
    "training.max_steps": 50, "training.global_batch_size": 2, "training.micro_batch_size": 1, "training.save_steps": 5,
    "training.save_total_limit": 20, "training.eval_steps": None, "training.rewind_before": 4, "training.rewind_after": 3,
    "training.warmup_steps": 0, "training.preflight.skip": LONG_PROBES,
}  # fmt: skip


@pytest.fixture(scope="module")
def poisoned(project):
    """A project of which one document is noise, a sample that holds a part of it, and where it stands: the seed brings it
    at a step between 36 and 46, and no other part before step 70."""
    folder = project.folder / "poisoned"
    folder.mkdir()
    lines = (project.folder / "en.jsonl").read_text("utf-8").splitlines()
    chance = random.Random(1)
    text = "".join(chr(chance.randrange(0x1200, 0x1370)) for _ in range(150))
    (folder / "en.jsonl").write_text("\n".join([*lines, json.dumps({"text": text})]) + "\n", "utf-8")
    data = project.recipe["data"] | {"prepared_dir": str(folder / "data"), "held_out": 0.0}
    data["sources"] = {"en": {"path": str(folder / "en.jsonl"), "weight": 1, "language": "en"}}
    made = replace(project, folder=folder, recipe=project.recipe | {"data": data})
    recipe = load_recipe(made.write("prepare.yaml", **KEYS))
    run_prepare(recipe)
    store = open_prepared(recipe, load_tokenizer(recipe))["en"].train
    for seed in range(500):
        mixture = Mixture.from_recipe(recipe.model_copy(update={"seed": seed}), {"en": store})
        windows = mixture.locate(np.arange(140)).window
        tokens = np.stack([store.read(window * 64, window * 64 + 64) for window in windows])
        noise = ((tokens >= 3) & (tokens < 259)).mean(1)  # single bytes
        bad = np.flatnonzero(noise > 0.2)
        if len(bad) == 1 and 2 * 36 <= bad[0] < 2 * 46 and noise[bad[0]] > 0.9:
            made.recipe["seed"] = seed
            return made, int(bad[0]), f"{folder / 'en.jsonl'}:{len(lines) + 1}  "
    raise AssertionError("no seed brings the document at a good place")


def begin_at(run_dir, checkpoint):
    """With a checkpoint of another run, as if all others had been removed."""
    shutil.copytree(checkpoint, run_dir / "checkpoints" / checkpoint.name)
    (run_dir / "metrics.jsonl").write_text(json.dumps({"kind": "lost", "step": int(checkpoint.name[-8:])}) + "\n")


def test_a_poison_document_is_found_skipped_and_stepped_over_on_two_processes(poisoned, launch):
    project, sample, document = poisoned
    step = sample // 2 + 1
    target = (step - 5) // 5 * 5

    skipping, skipped_dir = recipe_for(project, "skipped", **KEYS, **{"training.spikes": "skip"})
    rewinding, rewound_dir = recipe_for(project, "rewound", **KEYS, **{"training.spikes": "rewind"})
    killed, killed_dir = recipe_for(project, "killed", **KEYS, **{"training.spikes": "rewind"})
    assert launch("train", skipping, world=2).wait() == [0, 0]
    (spike,) = read_metrics(skipped_dir / "metrics.jsonl").spikes
    assert (spike["step"], spike["action"]) == (step, "skipped")
    first, end = spike["samples"]
    assert first <= sample < end == first + 2
    assert document in "\n".join(show_sample(load_recipe(skipping), sample))
    for run_dir in (rewound_dir, killed_dir):  # up to the spike they would be the same
        begin_at(run_dir, skipped_dir / f"checkpoints/step_{target:08d}")

    whole = launch("train", rewinding, world=2)
    assert whole.wait() == [0, 0], whole.output()
    spikes = read_metrics(
        rewound_dir / "metrics.jsonl"
    ).spikes  # with so few windows a step, other text may stand out, too
    skips = [spike["skip"] for spike in spikes]
    assert (spikes[0]["step"], skips[0]) == (step, [2 * (step - 5), 2 * (step + 3)])
    assert {spike["to"] for spike in spikes} == {target}
    assert f"rewound to step {target}" in whole.output()

    running = launch("train", killed, world=2)
    running.wait_for("SPIKE")  # is said just before the rewind is written
    running.signal(signal.SIGKILL)
    assert running.wait() == [-signal.SIGKILL] * 2
    assert launch("train", killed, world=2).wait() == [0, 0]
    assert final_tensors(killed_dir) == final_tensors(rewound_dir)

    fresh, fresh_dir = recipe_for(project, "fresh", **KEYS, **{"data.skip": skips})
    begin_at(fresh_dir, rewound_dir / f"checkpoints/step_{target:08d}")
    assert launch("train", fresh, world=2).wait() == [0, 0]
    assert final_tensors(fresh_dir) == final_tensors(rewound_dir)
    assert final_tensors(fresh_dir) != final_tensors(skipped_dir)
