"""The launchers: torchrun with its signals, and the environments of Slurm and Open MPI."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture(scope="module")
def prepared(project):
    from tsugiki.pipeline import run_prepare
    from tsugiki.recipe_file import load_recipe

    run_prepare(load_recipe(project.write("prepare.yaml")))
    return project


def test_torchrun_passes_a_signal_on_and_the_state_file_says_resumable(prepared, tmp_path):
    recipe = prepared.write(
        "torchrun.yaml", run_dir=str(tmp_path / "run"),
        **{"training.max_steps": 4000, "training.save_steps": 1000, "training.eval_steps": None},
    )  # fmt: skip
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
        "--signals-to-handle", "SIGTERM,SIGUSR1,SIGUSR2", "--shutdown-timeout", "600", "-m", "tsugiki", "train", str(recipe),
    ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        running = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        deadline = time.monotonic() + 200
        while "step 5/" not in log.read_text() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGUSR2)
        assert running.wait(timeout=100) == 1, log.read_text()  # torchrun's code, whatever the workers' (75)
    state = json.loads((tmp_path / "run/state.json").read_text())
    assert state["status"] == "resumable", log.read_text()
    assert (tmp_path / f"run/checkpoints/step_{state['step']:08d}/manifest.json").exists()


@pytest.mark.parametrize("launcher", ["slurm", "mpi"])
def test_other_launchers_need_no_change(prepared, launch, launcher, tmp_path):
    names = {
        "slurm": {"SLURM_PROCID": "RANK", "SLURM_NTASKS": "WORLD_SIZE", "SLURM_LOCALID": "LOCAL_RANK"},
        "mpi": {
            "OMPI_COMM_WORLD_RANK": "RANK", "OMPI_COMM_WORLD_SIZE": "WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK": "LOCAL_RANK",
        },
    }[launcher]  # fmt: skip
    recipe = prepared.write("launcher.yaml", run_dir=str(tmp_path / "run"), **{"training.eval_steps": None})
    running = launch(
        "train", recipe, "training.stop_after_steps=2", world=2, rename=names, environment={"SLURM_STEP_ID": "0"}
    )
    assert running.wait() == [75, 75], running.output()
    assert "on 2 processes" in running.output()
