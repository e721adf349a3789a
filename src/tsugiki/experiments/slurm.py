"""An experiment on Slurm: plain scripts that a person reads and changes, submitted in their order.

    shared.sbatch   what trials share, and the base's evaluation
    trials.sbatch   the array: `tsugiki sweep SWEEP --trial $SLURM_ARRAY_TASK_ID`
    judge.sbatch    the table, when all have ended (estimate.sbatch of an attribution)

They lie in the experiment's folder. Any other scheduler runs the same three calls. A job that was stopped (its time is
up, or it had to make room) has saved and requeues itself.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tsugiki.errors import RecipeError, StorageError
from tsugiki.experiments.trials import Plan
from tsugiki.files import write_atomically
from tsugiki.printable import one_line

SCRIPT = """#!/bin/bash
# Written by `tsugiki {verb} {file}`. Change it as you like and submit it by hand; the same call writes it anew.
#SBATCH --job-name={name}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
{options}
cd {here} || exit 1
{setup}
{command} &
work=$!
trap 'kill -USR1 $work 2>/dev/null' USR1 TERM  # near the end of the job, or when it must make room: save and stop
wait $work; code=$?
while kill -0 $work 2>/dev/null; do wait $work; code=$?; done
if [ $code -eq 75 ]; then  # stopped, and goes on
    scontrol requeue "{job}"
fi
exit $code
"""


def write_scripts(plan: Plan) -> list[Path]:
    """Write the three scripts; returns their paths in the order in which they run."""
    section, verb, last = plan.file.section.executor, plan.file.verb, plan.file.conclude
    file = str(plan.file.path)
    (plan.directory / "slurm").mkdir(parents=True, exist_ok=True)
    own = [f"#SBATCH {line.removeprefix('#SBATCH').strip()}" for line in section.options]
    limit = f"%{section.at_once}" if section.at_once else ""
    array = [f"#SBATCH --array=0-{len(plan.trials) - 1}{limit}"]
    kinds = {
        "shared": ("--shared", own, "%x-%j", "$SLURM_JOB_ID"),
        "trials": (
            '--trial "$SLURM_ARRAY_TASK_ID"', [*own, *array], "%x-%A_%a",
            "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}",
        ),
        last: (f"--{last}", own, "%x-%j", "$SLURM_JOB_ID"),
    }  # fmt: skip
    paths = []
    for kind, (call, options, log, job) in kinds.items():
        path = plan.directory / f"{kind}.sbatch"
        python = "python" if section.setup else shlex.quote(sys.executable)  # a set-up brings its own
        text = SCRIPT.format(
            verb=verb, file=file, name=f"{plan.directory.name}-{kind}",
            log=f"{plan.directory.absolute()}/slurm/{log}.log",
            options="\n".join(options), here=shlex.quote(str(Path.cwd())), setup="\n".join(section.setup), job=job,
            command=f"{python} -m tsugiki {verb} {shlex.quote(file)} {call}",
        )  # fmt: skip
        write_atomically(path, text)
        path.chmod(0o755)
        paths.append(path)
    return paths


def submit(scripts: list[Path]) -> list[str]:
    """Submit them, each after the one before; returns the jobs' numbers.

    The table is made however the trials ended. Raises RecipeError where there is no sbatch, StorageError where it
    refuses.
    """
    if shutil.which("sbatch") is None:
        raise RecipeError(
            f"executor: slurm needs sbatch, which is not here. The scripts are written: {', '.join(map(str, scripts))}"
        )
    jobs: list[str] = []
    for script, after in zip(scripts, ("", "afterok", "afterany"), strict=True):
        dependency = [f"--dependency={after}:{jobs[-1]}", "--kill-on-invalid-dep=yes"] if jobs else []
        done = subprocess.run(
            ["sbatch", "--parsable", *dependency, str(script)], capture_output=True, text=True, env=os.environ
        )  # fmt: skip
        if done.returncode != 0:
            raise StorageError(
                f"sbatch refused {script}: {one_line(done.stderr or done.stdout, 500)}"
                + (f" (submitted before: {', '.join(jobs)})" if jobs else "")
            )
        jobs.append(done.stdout.strip().split(";")[0])
    return jobs
