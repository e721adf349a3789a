"""Starting recipes are written whole, and never over something that exists."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tsugiki.errors import RecipeError, StorageError
from tsugiki.init import KINDS, write_template
from tsugiki.recipe_file import load_recipe


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_is_written_and_valid(tmp_path, kind):
    written = write_template(tmp_path / "new" / "folder", kind)
    assert [path.name for path in written] == (["recipe.yaml", "train.sbatch"] if kind == "slurm" else ["recipe.yaml"])
    load_recipe(written[0], check_files=False)
    assert written[0].read_text(encoding="utf-8").startswith("#")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten_and_nothing_written_beside_it(tmp_path, kind):
    (tmp_path / "recipe.yaml").write_text("mine")
    with pytest.raises(RecipeError, match=r"recipe\.yaml: exists already"):
        write_template(tmp_path, kind)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("recipe.yaml", "mine")]


def test_a_dangling_link_is_something_that_exists(tmp_path):
    (tmp_path / "recipe.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match="exists already"):
        write_template(tmp_path)
    assert not (tmp_path / "nowhere").exists()


def test_an_unknown_kind_names_the_known_ones(tmp_path):
    with pytest.raises(RecipeError, match="choose one of new-language, new-field, instruct, one-gpu, slurm"):
        write_template(tmp_path, "nope")


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_template(tmp_path / "file" / "below")


# --- the Slurm script, with stand-ins for Slurm's commands -------------------------------------------


@pytest.fixture
def job(tmp_path):
    """Run train.sbatch where `srun` writes a status and `scontrol requeue` notes that it was called."""
    write_template(tmp_path, "slurm")
    commands = tmp_path / "bin"
    commands.mkdir()

    def script(name, body):
        (commands / name).write_text(f"#!/bin/bash\n{body}\n")
        (commands / name).chmod(stat.S_IRWXU)

    script("scontrol", 'if [ "$1" = show ]; then echo node1; echo node2; else echo "$@" >>requeued; fi')
    script("python3", f'exec {sys.executable} "$@"')

    def run(status, signal=""):
        (tmp_path / "runs/slurm").mkdir(parents=True, exist_ok=True)
        state = "" if status is None else f"echo '{json.dumps({'status': status})}' >runs/slurm/state.json"
        script("srun", f'printf "%s\\n" "$@" >arguments\n{state}\n{signal}\nexit 1')
        environment = {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "4711",
            "SLURM_NNODES": "2",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_SUBMIT_DIR": str(tmp_path),
        }
        done = subprocess.run(["bash", "train.sbatch"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        requeued = tmp_path / "requeued"
        return done.returncode, requeued.read_text().splitlines() if requeued.exists() else []

    run.folder = tmp_path
    return run


@pytest.mark.parametrize(
    ("status", "code", "requeued"),
    [
        ("finished", 0, []),
        ("resumable", 0, ["requeue 4711"]),
        ("running", 0, ["requeue 4711"]),
        ("failed", 1, []),
        ("anything", 1, []),
        (None, 1, []),
    ],
)
def test_the_job_requeues_by_the_state_file(job, status, code, requeued):
    assert job(status) == (code, requeued)


def test_the_job_outlives_a_signal_to_requeue(job):
    assert job("resumable", signal="kill -TERM $PPID; sleep 0.2") == (0, ["requeue 4711"])


def test_crashes_are_requeued_a_limited_number_of_times(job):
    codes = [job("running")[0] for _ in range(5)]
    assert codes == [0, 0, 0, 1, 1]


def test_the_launch_line_hands_signals_to_the_workers(job):
    job("finished")
    arguments = Path(job.folder / "arguments").read_text().splitlines()
    assert arguments[arguments.index("--signals-to-handle") + 1] == "SIGTERM,SIGUSR1,SIGUSR2"
    assert arguments[arguments.index("--shutdown-timeout") + 1] == "600"
    assert arguments[arguments.index("--rdzv-endpoint") + 1].startswith("node1:")
    assert arguments[-5:] == ["-m", "tsugiki", "train", "recipe.yaml", "run_dir=runs/slurm"]
    assert "#SBATCH --signal=USR2@600\n" in Path(job.folder / "train.sbatch").read_text()
