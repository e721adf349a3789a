"""Run by test_adapters.py as each of two processes: `adapters_worker.py JOB RANK WORLD`.

JOB is a folder with jobs.json (cases of `lora_cases` by name); rank 0 leaves gradients there as safetensors.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from lora_cases import move_adapters, options_of
from parallel_worker import ROUTER_COEFFICIENT, run_step, settings, told
from safetensors.torch import save_file

from tsugiki.model.load import load_model
from tsugiki.model.shard import make_mesh


def main(job: Path, rank: int, world: int) -> None:
    dist.init_process_group("gloo", store=dist.FileStore(str(job / "store"), world), rank=rank, world_size=world)
    torch.set_num_threads(1)
    facts = {}
    for key, (folder, case, precision) in json.loads((job / "jobs.json").read_text()).items():
        model = load_model(
            settings(name_or_path=folder), mesh=make_mesh("full"), precision=precision, loss_chunk_tokens=4,
            router_coefficient=ROUTER_COEFFICIENT, **options_of(case),
        )  # fmt: skip
        move_adapters(model)
        loss, gradients = run_step(model, rank, world)
        facts[key] = {"loss": loss, "digest": model.adapters.base, **model.describe()}
        if rank == 0:
            save_file({name: value.float().clone() for name, value in gradients.items()}, job / f"{key}.safetensors")
    wrong = options_of("linear")
    wrong["lora"].target_modules = ["no_proj"]
    errors = told(lambda: load_model(settings(name_or_path=folder), mesh=make_mesh("full"), **wrong))
    if rank == 0:
        (job / "facts.json").write_text(json.dumps({"cases": facts, "errors": errors}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
