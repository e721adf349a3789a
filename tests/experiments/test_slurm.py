"""An array of jobs: the scripts as they are submitted, by a stub and by Slurm itself where it is installed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from one_node_slurm import one_node_slurm, said, why_not

from tsugiki.errors import RecipeError, StorageError
from tsugiki.files import read_json
from tsugiki.sweep_results import SweepResult

SBATCH = """#!/bin/sh
echo "$@" >> sbatch.txt
test -e REFUSE && { echo "sbatch: error: invalid partition" >&2; exit 1; }
echo "$(wc -l < sbatch.txt);cluster"
"""


WORK = """
import sys
from pathlib import Path

_, sys.executable, *words = sys.argv
with open("work.txt", "a") as file:
    file.write(" ".join(words[2:]) + "\\n")
sys.argv = ["tsugiki", *words[2:]]
from tsugiki.cli import main

try:
    main()
finally:
    if words[-1] == "--judge":
        Path("judged").touch()
"""
"""The command line, whose own processes are the stub."""


def silent(_text: str) -> None:
    return


@pytest.fixture
def stub(project, monkeypatch):
    (project.folder / "bin").mkdir()
    path = project.folder / "bin/sbatch"
    path.write_text(SBATCH)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{project.folder / 'bin'}:{os.environ['PATH']}")
    return project


def test_what_is_shared_comes_first_then_the_array_then_the_table(stub, open_sweep):
    executor = {
        "kind": "slurm",
        "at_once": 3,
        "options": ["--gpus-per-node=8", "#SBATCH --time=1:00"],
        "setup": ["source x"],
    }
    open_sweep(stub.write(seeds=2, executor=executor)).submit(silent)
    calls = [line.split() for line in (stub.folder / "sbatch.txt").read_text().splitlines()]
    assert [Path(call[-1]).name for call in calls] == ["shared.sbatch", "trials.sbatch", "judge.sbatch"]
    assert [call[1] for call in calls[1:]] == ["--dependency=afterok:1", "--dependency=afterany:2"]
    script = (stub.folder / "runs/sweep/trials.sbatch").read_text()
    assert "#SBATCH --array=0-3%3\n" in script
    assert "#SBATCH --gpus-per-node=8\n#SBATCH --time=1:00\n" in script
    assert 'python -m tsugiki sweep sweep.yaml --trial "$SLURM_ARRAY_TASK_ID" &' in script
    assert script.index("source x") < script.index("python -m tsugiki")
    assert (stub.folder / "runs/sweep/low-seed-7.yaml").exists()


def test_what_slurm_refuses_is_told_and_without_it_the_scripts_are_there(stub, open_sweep, monkeypatch):
    sweep = open_sweep(stub.write(executor="slurm"))
    (stub.folder / "REFUSE").touch()
    with pytest.raises(StorageError, match=r"sbatch refused .*shared.sbatch: sbatch: error: invalid partition"):
        sweep.submit(silent)
    monkeypatch.setenv("PATH", str(stub.folder))
    with pytest.raises(RecipeError, match=r"needs sbatch, which is not here. The scripts are written: .*trials.sbatch"):
        sweep.submit(silent)


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (75, True)])
def test_a_job_that_was_stopped_is_queued_again_and_a_signal_reaches_the_work(stub, open_sweep, code, requeued):
    """The script itself, run by a shell as Slurm runs it."""
    sweep = open_sweep(stub.write(executor={"kind": "slurm", "setup": ["python() { exec sh work.sh; }"]}))
    sweep.submit(silent)
    signalled = stub.folder / "signalled"
    (stub.folder / "work.sh").write_text(
        f"trap 'touch {signalled}; exit {code}' USR1\ntouch working\nwhile true; do sleep 0.02; done\n"
    )
    control = stub.folder / "bin/scontrol"
    control.write_text('#!/bin/sh\necho "$@" > requeued.txt\n')
    control.chmod(0o755)
    place = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "3"}
    process = subprocess.Popen(["bash", "runs/sweep/trials.sbatch"], env={**os.environ, **place})
    while not (stub.folder / "working").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(10)
    assert process.wait(30) == code
    assert signalled.exists()
    assert (stub.folder / "requeued.txt").exists() is requeued
    if requeued:
        assert (stub.folder / "requeued.txt").read_text() == "requeue 41_3\n"


@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_slurm_itself_runs_what_is_shared_the_array_and_the_table(project, open_sweep, monkeypatch):
    """A real cluster of one node: a trial that fails does not keep the table from being made."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # paths of sockets are short
    work, stub = project.folder / "work.py", sys.executable  # as the fixture has left it
    work.write_text(WORK)
    python_path = ":".join(path for path in sys.path if path)
    setup = [f'python() {{ PYTHONPATH={python_path} exec {Path(sys.prefix) / "bin/python"} {work} {stub} "$@"; }}']
    path = project.write(
        trials={"good": {}, "fails": {"training.learning_rate": 0.125}}, executor={"kind": "slurm", "setup": setup}
    )
    try:
        with one_node_slurm(folder) as environment:
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            open_sweep(path).submit(silent)
            deadline = time.monotonic() + 120
            while not (project.folder / "judged").exists():
                assert time.monotonic() < deadline, said(["squeue"], dict(os.environ))
                time.sleep(0.2)
            calls = (project.folder / "work.txt").read_text().splitlines()
            assert calls[0] == "sweep sweep.yaml --shared"
            assert sorted(calls[1:3]) == ["sweep sweep.yaml --trial 0", "sweep sweep.yaml --trial 1"]
            assert calls[3:] == ["sweep sweep.yaml --judge"]
            result = read_json(project.folder / "runs/sweep/sweep.json", SweepResult)
            assert result.finished
            assert [trial.runs[0].state for trial in result.trials] == ["done", "died"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
