"""Run by test_parallel.py as each of several processes: `parallel_worker.py JOB RANK WORLD`.

JOB is a folder with jobs.json; rank 0 leaves gradients there as safetensors and facts.json.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from tsugiki.corpus.windows import IGNORE
from tsugiki.model.bits_per_byte import score_documents
from tsugiki.model.load import load_model
from tsugiki.model.loss import TrainingModel
from tsugiki.model.ranks import on_first_rank
from tsugiki.model.shard import make_mesh
from tsugiki.training.loop import clip_global_norm, objective

ROUTER_COEFFICIENT = 0.5
SEQUENCE = 13


def batch() -> tuple[Tensor, Tensor]:
    """Inputs and targets [4, 13] of an optimiser step; rows have 5, 13, 0 and 1 targets, so that with two processes
    one has 18 and the other 1, and one of its micro-batches is empty."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randint(3, 80, (4, SEQUENCE), generator=generator)
    targets = torch.randint(3, 80, (4, SEQUENCE), generator=generator)
    targets[0, 5:] = IGNORE
    targets[2] = IGNORE
    targets[3, :-1] = IGNORE
    return inputs, targets


def packs() -> list[list[tuple[list[int], list[float]]]]:
    """Conversations (ids, and the weight of each as a target) in four packs: what the first rank has of two weighs
    2.05, the other's 8.5, and one pack is nothing but a prompt."""
    generator = torch.Generator().manual_seed(9)
    weights = [
        [[0, 0, 0.25, 0.25, 0.25], [0, 0.5, 0, 0.3, 0, 0.5]], [[0] * 13],
        [[0, *[1.0] * 6], [0, 0.5], [0, 0, 0, 1.0]], [[0, 0, 0, 0, 0, 0.5, 0, 0.5]],
    ]  # fmt: skip
    return [
        [(torch.randint(3, 80, (len(own),), generator=generator).tolist(), own) for own in pack] for pack in weights
    ]


def packed_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, targets, positions and weights [4, 13] of these packs, laid out by hand."""
    ids, weights = torch.zeros(4, SEQUENCE + 1, dtype=torch.int64), torch.zeros(4, SEQUENCE + 1)
    positions = torch.zeros(4, SEQUENCE + 1, dtype=torch.int64)
    for row, pack in enumerate(packs()):
        at = 0
        for own, counts in [*pack, ([0] * (SEQUENCE + 1), [0.0] * (SEQUENCE + 1))]:
            end = min(at + len(own), SEQUENCE + 1)
            ids[row, at:end], weights[row, at:end] = torch.tensor(own[: end - at]), torch.tensor(counts[: end - at])
            positions[row, at:end] = torch.arange(end - at)
            at = end
    targets = torch.where(weights[:, 1:] > 0, ids[:, 1:], IGNORE)
    return ids[:, :-1].contiguous(), targets, positions[:, :-1].contiguous(), weights[:, 1:].contiguous()


def documents() -> list[list[int]]:
    """Five texts of 1 to 40 tokens: an odd number of batches for two processes."""
    generator = torch.Generator().manual_seed(8)
    return [torch.randint(3, 80, (n,), generator=generator).tolist() for n in (1, 40, 7, 23, 3)]


def run_step(
    model: TrainingModel, rank: int, world: int, micro_batch: int = 1, packed: bool = False
) -> tuple[float, dict[str, Tensor]]:
    """One step's loss and full gradients by the loop's own objective, `micro_batch` rows at a time."""
    inputs, targets, positions, weights = packed_batch() if packed else (*batch(), None, None)
    total = int((targets != IGNORE).sum())
    weight = float(total) if weights is None else float(weights.double().sum())
    starts = range(rank * 4 // world, (rank + 1) * 4 // world, micro_batch)
    loss = torch.zeros(())
    for start in starts:
        model.sum_over_replicas(start == starts[-1])
        rows = slice(start, start + micro_batch)
        further = (None if part is None else part[rows] for part in (positions, weights))
        output = model(inputs[rows], targets[rows], *further)
        micro = SimpleNamespace(target_count=int((targets[rows] != IGNORE).sum()))
        part = objective(SimpleNamespace(model=model), output, micro, weight, total)
        part.backward()
        loss += part.detach()
    dist.all_reduce(loss)
    gradients = {}
    for name, parameter in model.named_hf_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            gradients[name] = parameter.grad.full_tensor()
    return float(loss), gradients


def settings(**values: Any) -> SimpleNamespace:
    defaults = dict.fromkeys(("name_or_path", "architecture", "revision", "attn_implementation"))
    return SimpleNamespace(**{**defaults, "allow_pickle": False, **values})


def gathered(mine: Any) -> list[Any]:
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, mine)
    return everybody


def told(work: Callable[[], Any]) -> list[list[str]]:
    """The class and the text of the error of each rank."""
    try:
        work()
    except Exception as error:
        return gathered([type(error).__name__, str(error)])
    return gathered(["", ""])


def save_first(gradients: dict[str, Tensor], path: Path) -> None:
    """By rank 0 alone."""
    if dist.get_rank() == 0:
        save_file({name: value.clone() for name, value in gradients.items()}, path)


def main(job: Path, rank: int, world: int) -> None:
    dist.init_process_group("gloo", store=dist.FileStore(str(job / "store"), world), rank=rank, world_size=world)
    torch.set_num_threads(1)
    jobs = json.loads((job / "jobs.json").read_text())
    facts: dict[str, Any] = {}
    for entry in jobs["steps"]:
        mesh = make_mesh(entry["shard"], entry.get("replicas"))
        model = load_model(
            settings(name_or_path=entry["folder"]),
            mesh=mesh,
            precision=entry.get("precision", "fp32"),
            loss_chunk_tokens=4,
            router_coefficient=ROUTER_COEFFICIENT,
        )
        loss, gradients = run_step(model, rank, world, entry.get("micro_batch", 1))
        norm = clip_global_norm(list(model.parameters()), max_norm=1e9)
        facts[entry["name"]] = {"loss": loss, "norm": float(norm), **model.describe()}
        save_first(gradients, job / f"{entry['name']}.safetensors")
        if entry.get("packed"):
            model.zero_grad()
            model.router_coefficient = 0.0  # a mean over a micro-batch, which packs cut otherwise
            loss, gradients = run_step(model, rank, world, packed=True)
            facts[f"{entry['name']}-packed"] = {"loss": loss}
            save_first(gradients, job / f"{entry['name']}-packed.safetensors")
        if entry["name"] == jobs["scored"]:
            scores = score_documents(model, documents(), bos_id=1, context=8, batch_tokens=16)
            assert scores is not None
            facts["nats"], facts["tokens"] = scores.nats.tolist(), scores.tokens.tolist()

    drawn = load_model(settings(architecture=jobs["drawn"]), mesh=make_mesh("full"), precision="fp32", seed=3)
    weights = {name: value.full_tensor().clone() for name, value in drawn.named_hf_parameters()}
    facts["errors"] = {
        "broken": told(lambda: load_model(settings(name_or_path=jobs["broken"]), mesh=make_mesh("full"))),
        "not ours": told(lambda: on_first_rank(lambda: [1, 2][3])),
    }
    facts["answers"] = gathered(on_first_rank(lambda: {"rank": rank}))
    if rank == 0:
        save_file(weights, job / "drawn.safetensors")
        (job / "facts.json").write_text(json.dumps(facts))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
