"""The launchers: torchrun with its signals, and the environments of Slurm and Open MPI."""

import json
import os
import signal
import time

import pytest
import torch.distributed.run
from forked_scripts import run_script
from whole_runs import LONG_PROBES

KEYS = {"training.eval_steps": None, "training.preflight.skip": LONG_PROBES}


def test_torchrun_passes_a_signal_on_and_the_state_file_says_resumable(prepared, fork_context, tmp_path):
    """Its own script in a fork, its workers in processes that start from nothing."""
    recipe = prepared.write(
        "torchrun.yaml", run_dir=str(tmp_path / "run"), **KEYS,
        **{"training.max_steps": 4000, "training.save_steps": 1000},
    )  # fmt: skip
    arguments = [
        "--nproc-per-node", "2", "--standalone", "--signals-to-handle", "SIGTERM,SIGUSR1,SIGUSR2",
        "--shutdown-timeout", "600", "-m", "tsugiki", "train", str(recipe),
    ]  # fmt: skip
    log = tmp_path / "log.txt"
    running = fork_context.Process(target=run_script, args=(torch.distributed.run.__file__, arguments, str(log)))
    running.start()
    deadline = time.monotonic() + 200
    while not (log.exists() and "step 5/" in log.read_text()) and running.is_alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGUSR2)
    running.join(timeout=100)
    assert running.exitcode == 1, log.read_text()  # torchrun's code, whatever the workers' (75)
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
    recipe = prepared.write("launcher.yaml", run_dir=str(tmp_path / "run"), **KEYS)
    running = launch(
        "train", recipe, "training.stop_after_steps=2", world=2, rename=names, environment={"SLURM_STEP_ID": "0"}
    )
    assert running.wait() == [75, 75], running.output()
    assert "on 2 processes" in running.output()
