"""One of several processes that probe the same run: whole, and with traps that only show on several ranks.

Usage: preflight_worker.py JOB_FOLDER RANK WORLD. Reads jobs.json (name, recipe, trap), writes found.json.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from preflight_project import open_from
from torch.distributed.fsdp import FSDPModule

from tsugiki.errors import ModelError
from tsugiki.training import loop
from tsugiki.training.distributed import start_processes
from tsugiki.training.preflight import check_run
from tsugiki.training.run import Run


def clip_by_shard(parameters: Any, max_norm: float) -> torch.Tensor:
    """What llm-recipes did: each rank scales its own shards by their own norm."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients).full_tensor()
    mine = torch.nn.utils.get_total_norm([gradient.to_local() for gradient in gradients])
    for gradient in gradients:
        gradient.to_local().mul_(min(1.0, max_norm / float(mine)))
    return norm


def spring(trap: str, run: Run, rank: int) -> None:
    if trap == "clip by shard":
        loop.clip_global_norm = clip_by_shard
    elif trap == "gradients averaged":
        for unit in run.model.modules():
            if isinstance(unit, FSDPModule):
                unit.set_gradient_divide_factor(float(run.processes.world))
                unit.set_force_sum_reduction_for_comms(True)
    elif trap == "one rank's schedule" and rank == 1:
        run.schedule = lambda step: 1e-3
    elif trap.startswith("one rank's") and rank == 1:
        run.reader = ChangedReader(run.reader, trap)


class ChangedReader:
    """A reader of the run's windows that gives something else than it should."""

    def __init__(self, reader: Any, trap: str) -> None:
        self.reader, self.mixture, self.trap = reader, reader.mixture, trap
        self.reads_conversations, self.isolates = reader.reads_conversations, reader.isolates

    def read(self, samples: Any, *rest: Any) -> Any:
        found = self.reader.read(samples, *rest)
        if self.trap == "one rank's targets":
            return replace(found, targets=np.random.default_rng(0).permuted(found.targets, axis=-1))
        if self.trap == "one rank's order":
            return replace(self.reader.read(np.asarray(samples) + 1), samples=found.samples)
        return replace(found, positions=None)


def main(job: Path, rank: int, world: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    dist.init_process_group("gloo", store=dist.FileStore(str(job / "meeting"), world), rank=rank, world_size=world)
    processes = start_processes()
    found = {}
    right = loop.clip_global_norm
    for entry in json.loads((job / "jobs.json").read_text()):
        run = open_from(entry["recipe"], processes, lambda text: None)
        before = {name: tensor.full_tensor().clone() for name, tensor in run.model.named_hf_parameters()}
        spring(entry["trap"], run, rank)
        try:
            report = check_run(run)
            found[entry["name"]] = {"failed": [], "verdicts": [line.finding.verdict for line in report.entries]}
        except ModelError as error:
            found[entry["name"]] = {"failed": [], "error": str(error)}
            dist.barrier()
            probes = json.loads((run.recipe.run_dir / "preflight.json").read_text())["probes"]
            found[entry["name"]]["failed"] = [probe["name"] for probe in probes if probe["verdict"] == "FAIL"]
        loop.clip_global_norm = right
        after = dict(run.model.named_hf_parameters())
        found[entry["name"]]["unchanged"] = all(
            torch.equal(after[name].full_tensor(), value) for name, value in before.items()
        )
    (job / f"found-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
