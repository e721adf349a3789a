"""Parts of preparing, run by datatrove's executors: on this machine, by Slurm, or by Ray.

datatrove decides where and when a part is made, `prepare_shards` what a part is. What it writes (logs, job scripts, the
pickled call) and what failed parts said lies in <prepared_dir>/.executor.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tsugiki.corpus.inputs import Deal
from tsugiki.corpus.workers import usable_cores
from tsugiki.errors import DataError, RecipeError, StorageError, TsugikiError
from tsugiki.files import write_atomically
from tsugiki.recipe_executor import ExecutorSection

FOLDER = ".executor"


def make_parts(
    section: ExecutorSection, prepared_dir: Path, part: Callable[[Deal], None], merge: Callable[[], None]
) -> str | None:
    """Have `part` called for each part. Returns None when all are made; of Slurm the number of the job that will then
    call `merge`. Both calls are pickled, and made in the present directory.

    Raises RecipeError where the executor is not installed, DataError with what the first failed part said, StorageError
    where sbatch refuses.
    """
    folder = prepared_dir / FOLDER
    _check_installed(section)
    if section.kind == "slurm" and "SLURM_ARRAY_TASK_ID" in os.environ:
        raise RecipeError("data.executor: slurm submits jobs, so call it from outside of one")
    shutil.rmtree(folder, ignore_errors=True)
    executor = _executor(section, folder / "parts", section.tasks, partial(_make_part, part, Path.cwd(), folder))
    if section.kind != "slurm":
        executor.run()
        raise_failures(folder)
        return None
    last = _executor(section, folder / "merge", 1, partial(_merge, merge, Path.cwd(), folder))
    last.depends = executor
    try:
        last.run()
    except subprocess.CalledProcessError as error:
        raise StorageError(f"sbatch refused {folder}/parts/launch_script.slurm; why stands above") from error
    return str(last.job_id)


def _check_installed(section: ExecutorSection) -> None:
    for package, needed in (("datatrove", True), ("ray", section.kind == "ray")):
        if needed:
            try:
                __import__(package)
            except ImportError as error:
                extra = "'tsugiki[data]'" if package == "datatrove" else package
                raise RecipeError(f"data.executor: {section.kind} needs {package}: pip install {extra}") from error
    if section.kind == "slurm" and shutil.which("sbatch") is None:
        raise RecipeError("data.executor: slurm needs sbatch, which is not here")


def _executor(section: ExecutorSection, logs: Path, tasks: int, call: Callable[..., None]) -> Any:
    from datatrove import executor

    # Parts know themselves what is made already, also of files that changed meanwhile, which datatrove's marks do not.
    common: dict[str, Any] = {"tasks": tasks, "logging_dir": str(logs), "skip_completed": False}
    if section.kind == "local":
        room = max(1, usable_cores() // section.cpus_per_task)
        return executor.LocalPipelineExecutor([call], **common, workers=section.at_once or room)
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


def _make_part(part: Callable[[Deal], None], here: Path, folder: Path, _data: Any, rank: int, world_size: int) -> None:
    """A step of datatrove's pipeline. What goes wrong is kept for whoever puts the parts together: the executors show a
    traceback of it, or nothing."""
    os.chdir(here)
    try:
        part(Deal(rank, world_size))
    except TsugikiError as error:
        (folder / "failed").mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "failed" / f"{rank:06d}", str(error))


def _merge(merge: Callable[[], None], here: Path, folder: Path, _data: Any, _rank: int, _world_size: int) -> None:
    """The step of Slurm's last job."""
    os.chdir(here)
    try:
        raise_failures(folder)
        merge()
    except TsugikiError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def raise_failures(folder: Path) -> None:
    """Raise DataError with what the first of the failed parts said, if any failed."""
    failed = sorted((folder / "failed").glob("*"))
    if failed:
        numbers = ", ".join(str(int(path.name)) for path in failed[:12]) + (", …" if len(failed) > 12 else "")
        raise DataError(f"data.executor: parts failed: {numbers}. The first said: {failed[0].read_text('utf-8')}")
