"""Parts of preparing, run by datatrove's executors: on this machine, by Slurm, or by Ray.

datatrove decides where and when a part is made, `prepare_shards` what a part is. What it writes (logs, job scripts, the
pickled call) and what failed parts said lies in <prepared_dir>/.executor.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tsugiki.corpus.inputs import Deal
from tsugiki.corpus.workers import leave_with_parent, usable_cores
from tsugiki.errors import DataError, RecipeError, StorageError, TsugikiError
from tsugiki.files import write_atomically
from tsugiki.recipe_executor import ExecutorSection

FOLDER, JOB = ".executor", "job"


def make_parts(
    section: ExecutorSection, prepared_dir: Path, part: Callable[[Deal], None], merge: Callable[[], None]
) -> str | None:
    """Have `part` called for each part. Returns None when all are made; of Slurm the number of the job that will then
    call `merge`. Both calls are pickled, and made in the present directory.

    Raises RecipeError where the executor is not installed, DataError with what the first failed part said, StorageError
    where sbatch refuses, or where jobs that were submitted before are not done.
    """
    folder = prepared_dir / FOLDER
    _check_installed(section)
    if section.kind == "slurm":
        _check_alone(folder)
    shutil.rmtree(folder, ignore_errors=True)
    make = _make_part_in_child if section.kind == "local" and _at_once(section) > 1 else _make_part
    executor = _executor(section, folder / "parts", section.tasks, partial(make, part, Path.cwd(), folder))
    if section.kind != "slurm":
        executor.run()
        _raise_failures(folder)
        return None
    last = _executor(section, folder / "merge", 1, partial(_merge, merge, Path.cwd(), folder))
    last.depends, last.run_on_dependency_fail = executor, True  # it names what is missing
    try:
        last.run()
    except subprocess.CalledProcessError as error:
        raise StorageError(f"sbatch refused {folder}/parts/launch_script.slurm; why stands above") from error
    write_atomically(folder / JOB, str(last.job_id))
    return str(last.job_id)


def _check_installed(section: ExecutorSection) -> None:
    needed = {"datatrove": "'tsugiki[data]'"} | ({"ray": "ray"} if section.kind == "ray" else {})
    for package, named in needed.items():
        try:
            import_module(package)
        except ImportError as error:
            raise RecipeError(f"data.executor: {section.kind} needs {package}: pip install {named}") from error
    if section.kind == "slurm" and shutil.which("sbatch") is None:
        raise RecipeError("data.executor: slurm needs sbatch, which is not here")


def _check_alone(folder: Path) -> None:
    """Refuse to submit from within a task of an array, which datatrove would take for its own, and to replace the files
    of jobs that are not done."""
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise RecipeError("data.executor: slurm submits jobs, so call it from outside of one")
    job = (folder / JOB).read_text("utf-8") if (folder / JOB).exists() else None
    if job is not None:
        queued = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, check=False)
        if queued.stdout.strip():  # an error once Slurm has forgotten the job
            raise StorageError(f"{folder}: job {job} is not done; wait for it, or scancel it and what it waits for")


def _executor(section: ExecutorSection, logs: Path, tasks: int, call: Callable[..., None]) -> Any:
    from datatrove import executor

    # Parts know themselves what is made already, also of files that changed meanwhile, which datatrove's marks do not.
    common: dict[str, Any] = {"tasks": tasks, "logging_dir": str(logs), "skip_completed": False}
    if section.kind == "local":
        return executor.LocalPipelineExecutor([call], **common, workers=_at_once(section))
    common |= {
        "workers": section.at_once or -1, "cpus_per_task": section.cpus_per_task,
        "mem_per_cpu_gb": section.memory_per_cpu,
    }  # fmt: skip
    if section.kind == "ray":
        return executor.RayPipelineExecutor([call], **common)
    options = (line.removeprefix("#SBATCH").strip().lstrip("-").partition("=") for line in section.options)
    return executor.SlurmPipelineExecutor(
        [call], **common, time=section.time, partition=section.partition, job_name="tsugiki-prepare", qos=None,
        env_command="\n".join(section.setup) or f'export PATH="{Path(sys.executable).parent}:$PATH"',
        sbatch_args={name: value for name, _, value in options},
    )  # fmt: skip


def _at_once(section: ExecutorSection) -> int:
    """Parts that are made together on this machine."""
    return section.at_once or max(1, usable_cores() // section.cpus_per_task)


def _make_part(part: Callable[[Deal], None], here: Path, folder: Path, _data: Any, rank: int, world_size: int) -> None:
    """A step of datatrove's pipeline. What goes wrong is kept for whoever puts the parts together: the executors show a
    traceback of it, or nothing."""
    os.chdir(here)
    try:
        part(Deal(rank, world_size))
    except TsugikiError as error:
        _tell_failure(folder, rank, str(error))


def _make_part_in_child(*arguments: Any) -> None:
    """The same in a fork of the pool's process, which would be waited for for ever if it were killed itself."""
    folder, rank = arguments[2], arguments[4]
    child = multiprocessing.get_context("fork").Process(target=_make_part_while_wanted, args=arguments)
    child.start()
    child.join()
    code = child.exitcode or 0
    if code < 0:
        _tell_failure(folder, rank, f"its process was killed (signal {-code}), most likely for want of memory")
    elif code:
        raise RuntimeError(f"part {rank} failed; why stands above")


def _make_part_while_wanted(*arguments: Any) -> None:
    """The same until the pool ends its process, as it does when another part has failed."""
    threading.Thread(target=leave_with_parent, daemon=True).start()
    _make_part(*arguments)


def _tell_failure(folder: Path, rank: int, what: str) -> None:
    (folder / "failed").mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "failed" / f"{rank:06d}", what)


def _merge(merge: Callable[[], None], here: Path, folder: Path, _data: Any, _rank: int, _world_size: int) -> None:
    """The step of Slurm's last job."""
    os.chdir(here)
    try:
        _raise_failures(folder)
        merge()
    except TsugikiError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _raise_failures(folder: Path) -> None:
    """Raise DataError with what the first of the failed parts said, if any failed."""
    failed = sorted((folder / "failed").glob("*"))
    if failed:
        numbers = ", ".join(str(int(path.name)) for path in failed[:12]) + (", …" if len(failed) > 12 else "")
        raise DataError(f"data.executor: parts failed: {numbers}. The first said: {failed[0].read_text('utf-8')}")
