"""The recipe's `data.executor`: who prepares the corpora where this machine alone is not enough."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tsugiki.recipe_values import Listed, Processes, Section, Text

OF_SLURM = ("partition", "time", "options", "setup")


class ExecutorSection(Section):
    """The work of every source of text is cut into parts, which datatrove's executors run (extra `data`); then they
    are put together. The stores have the same bytes as without."""

    kind: Literal["local", "slurm", "ray"] = Field(
        description="local: some parts at a time on this machine, for many cores. slurm: an array of jobs, and one that"
        " puts together what they made. ray: the Ray cluster that RAY_ADDRESS names, else one on this machine."
    )
    tasks: Listed = Field(description="Parts.")
    at_once: Listed | None = Field(default=None, description="Parts at a time. Default: all that there is room for.")
    cpus_per_task: Processes = Field(
        default=1, description="Cores of each part; processes that prepare there are as many, unless data.workers says."
    )
    memory_per_cpu: Listed = Field(default=4, description="slurm, ray: GB that each core reserves.")
    partition: Text | None = Field(default=None, description="slurm: the partition, which it needs.")
    time: Text | None = Field(default=None, description="slurm: the limit of a part, such as 08:00:00, which it needs.")
    options: list[Text] = Field(default=[], description="slurm: more lines of #SBATCH, such as --account=NAME.")
    setup: list[Text] = Field(
        default=[], description="slurm: shell lines before the work. Default: this Python's folder goes on the PATH."
    )
