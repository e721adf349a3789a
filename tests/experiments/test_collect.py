"""What is read of runs."""

import json

from tsugiki.experiments.collect import training_losses
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.experiments.trials import expand


def test_losses_of_steps_that_were_undone_by_going_back_are_not_compared(project):
    trial = expand(load_sweep(project.write())).trials[0]
    losses = [(1, 4.0), (2, 3.5), (3, 9.0), (4, 8.0), (3, 3.25), (4, 3.0)]  # went back to step 2
    lines = [{"kind": "step", "step": step, "loss": loss} for step, loss in losses]
    trial.folder.mkdir(parents=True)
    (trial.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = training_losses(trial)
    assert found is not None
    assert list(zip(found.steps, found.losses, strict=True)) == [(1, 4.0), (2, 3.5), (3, 3.25), (4, 3.0)]
