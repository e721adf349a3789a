"""Saves on 2 processes, loads and saves on 1, loads on 3: one launch of 3 processes, started by a test.

So does a run that trains its embeddings first, stopped within that warm-up; it is held against a loop on one process.
Models are sharded by FSDP2 with AdamW. Odd sizes throughout: 101 rows on 2 and 3 ranks, and a bias of 2 elements, of
which one of 3 ranks has none.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard

from tsugiki.errors import StorageError
from tsugiki.recipe_training import TrainingSection
from tsugiki.training import checkpoint_writer
from tsugiki.training.checkpoint import Checkpointer, size_estimate
from tsugiki.training.checkpoint_reader import Found
from tsugiki.training.distributed import Place, Processes
from tsugiki.training.loop import clip_global_norm
from tsugiki.training.optimizer import Optimizer

SECTION = {"max_steps": 9, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1.0, "save_steps": 9}


class Setup:
    """A sharded model, its optimiser, and a checkpointer, on the first `world` of the 3 processes."""

    def __init__(self, directory: Path, world: int, mesh: DeviceMesh, groups: tuple[Any, Any], seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Embedding(101, 6), nn.Linear(6, 6), nn.Linear(6, 2))
        for part in self.model:
            fully_shard(part, mesh=mesh)
        fully_shard(self.model, mesh=mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.checkpointer = Checkpointer(
            directory,
            Processes(Place(dist.get_rank(), world), torch.device("cpu"), *groups),
            lineage="x",
            keep_last=None,
        )

    def train(self, steps: int) -> None:
        for _ in range(steps):
            loss(self.model).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def tensors(self) -> dict[str, torch.Tensor]:
        named = {f"model.{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                named[f"optimizer.{name}.{key}"] = value
        return named

    def full(self) -> dict[str, torch.Tensor]:
        return {
            name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()
            for name, tensor in self.tensors().items()
        }

    def resume(self) -> Found:
        self.train(1)  # gives the optimiser its state; every value is then overwritten
        found = self.checkpointer.newest_whole()
        assert found is not None
        self.checkpointer.load(found, self.tensors())
        return found


EMBEDDINGS = ("0.weight", "2.weight", "2.bias")
ALONE, FACTOR, RATE, CLIP, STEPS = 3, 2.5, 0.05, 0.5, 6


class EmbeddingsFirst(Setup):
    """The same with our optimiser: ALONE steps of the first and the last layer at FACTOR times the rate, then all."""

    def __init__(self, directory: Path, world: int, mesh: DeviceMesh, groups: tuple[Any, Any], seed: int) -> None:
        super().__init__(directory, world, mesh, groups, seed)
        keys = {"precision": "fp32", "embedding_warmup_steps": ALONE, "embedding_lr_factor": FACTOR}
        settings = TrainingSection.model_validate(SECTION | keys)
        self.ours = Optimizer(dict(self.model.named_parameters()), [], settings, seed=0, vocabulary=EMBEDDINGS)
        self.step = 0

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            loss(self.model).backward()
            self.ours.drop_frozen_gradients(self.step)
            clip_global_norm(self.ours.parameters.values(), CLIP)
            self.ours.step(self.step, RATE, skip=torch.tensor(0.0))

    def tensors(self) -> dict[str, torch.Tensor]:
        named = {f"model.{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        return named | {f"optimizer.{name}": tensor for name, tensor in self.ours.tensors().items()}

    def go_on(self) -> None:
        """From the newest checkpoint to the end."""
        found = self.checkpointer.newest_whole()
        assert found is not None
        assert found.step == 2
        self.checkpointer.load(found, self.tensors())
        self.step = found.step
        self.train(STEPS - found.step)


def loss(model: nn.Module) -> torch.Tensor:
    return model(torch.arange(20) * 5 % 101).square().sum()


def naive_embeddings_first(seed: int) -> dict[str, torch.Tensor]:
    """The weights after all steps, unsharded, with two groups and what is frozen switched off."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(101, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    named = dict(model.named_parameters())
    body = [named[name] for name in named.keys() - set(EMBEDDINGS)]
    groups = [{"params": [named[name] for name in EMBEDDINGS], "lr": RATE * FACTOR}, {"params": body, "lr": RATE}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(1, STEPS + 1):
        for parameter in body:
            parameter.requires_grad_(step > ALONE)
        optimizer.zero_grad()
        loss(model).backward()
        assert torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP) > 2 * CLIP
        optimizer.step()
    return {f"model.{name}": parameter.detach() for name, parameter in named.items()}


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def rounded_weights(mesh: DeviceMesh, placements: list[Any]) -> torch.Tensor:
    """This rank's part [256] of a bf16 tensor after a step that is alike on every rank and lies between two values."""
    part = torch.ones(256, dtype=torch.bfloat16)
    weight = nn.Parameter(DTensor.from_local(part, mesh, placements, run_check=False))
    settings = TrainingSection.model_validate(SECTION | {"precision": "bf16-stochastic"})
    optimizer = Optimizer({"w": weight}, [], settings, seed=3)
    weight.grad = torch.ones_like(weight)
    optimizer.step(1, 1e-3, skip=torch.tensor(0.0))
    return weight.detach().to_local()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def main(directory: Path, rank: int) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(directory / "store"), 3)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=3, timeout=timedelta(seconds=60))
    checkpoints = directory / "checkpoints"
    meshes, groups = {}, {}
    for world in (1, 2, 3):
        ranks = list(range(world))
        meshes[world] = DeviceMesh("cpu", ranks)
        groups[world] = (dist.new_group(ranks, backend="gloo"), dist.new_group(ranks, backend="gloo"))
    replicated = DeviceMesh("cpu", [[0], [1]], mesh_dim_names=("replicate", "shard"))
    expected: dict[str, torch.Tensor] = {}

    if rank < 2:
        two = Setup(checkpoints, 2, meshes[2], groups[2], seed=2)
        two.train(3)
        expected = two.full()
        two.checkpointer.begin(3, two.tensors(), {"step": 3})
        two.train(1)  # collectives and an update while the save is in flight
        assert two.checkpointer.wait_and_commit() == "step_00000003"
        assert not same(two.full(), expected)

        # Both ranks hear of one rank's failure, and the earlier checkpoint is still the newest.
        write = checkpoint_writer._write_safetensors
        if rank == 1:
            checkpoint_writer._write_safetensors = fail
        two.checkpointer.begin(4, two.tensors(), {"step": 4})
        with pytest.raises(StorageError, match=r"the disk is full.*\[rank 1\]"):
            two.checkpointer.wait_and_commit()
        checkpoint_writer._write_safetensors = write
        found = two.checkpointer.newest_whole()
        assert found is not None
        assert found.step == 3
        with pytest.MonkeyPatch.context() as patch:
            if rank == 1:  # the other would wait for it in a collective
                patch.setattr(dcp.HuggingFaceStorageReader, "read_metadata", fail)
            with pytest.raises(StorageError, match=r"cannot read the tensors of .*the disk is full"):
                two.checkpointer.load(found, two.tensors())

        # Replicated parameters are stored once, and load like any others.
        copies = Setup(directory / "replicated", 2, replicated, groups[2], seed=4)
        copies.train(2)
        before = copies.full()
        copies.checkpointer.begin(2, copies.tensors(), {"step": 2})
        copies.checkpointer.wait_and_commit()
        stored = sum(file.stat().st_size for file in (directory / "replicated").rglob("*.safetensors"))
        assert stored < size_estimate(copies.tensors()) + 8000
        assert len(list((directory / "replicated").rglob("*.safetensors"))) == 2  # ranks share the writing
        copies.train(1)
        copies.checkpointer.load(copies.checkpointer.newest_whole(), copies.tensors())
        assert same(copies.full(), before)

        # Stochastic rounding draws the same bits on both copies of a shard, other ones for two shards.
        for mesh, placements, alike in (
            (replicated, [Replicate(), Shard(0)], True),
            (meshes[2], [Shard(0)], False),
        ):
            drawn = [torch.empty(256, dtype=torch.bfloat16) for _ in range(2)]
            dist.all_gather(drawn, rounded_weights(mesh, placements), group=groups[2][0])
            assert len(drawn[0].unique()) == 2
            assert torch.equal(*drawn) == alike

        # A stop within the warm-up of the embeddings changes no bit, and more processes only rounding.
        warm = EmbeddingsFirst(directory / "embeddings", 2, meshes[2], groups[2], seed=5)
        warm.train(2)
        warm.checkpointer.begin(2, warm.tensors(), {"step": 2})
        warm.train(STEPS - 2)
        warm.checkpointer.wait_and_commit()
        assert_near(warm.full(), naive_embeddings_first(seed=5))
        resumed = EmbeddingsFirst(directory / "embeddings", 2, meshes[2], groups[2], seed=6)
        resumed.go_on()
        assert same(resumed.full(), warm.full())

    if rank < 1:
        one = Setup(checkpoints, 1, meshes[1], groups[1], seed=1)
        found = one.resume()
        assert found.step == 3
        assert found.manifest["world_size"] == 2
        assert same(one.full(), expected)
        one.checkpointer.begin(5, one.tensors(), {"step": 5})
        one.checkpointer.wait_and_commit()

    dist.barrier()
    warm = EmbeddingsFirst(directory / "embeddings", 3, meshes[3], groups[3], seed=7)
    warm.go_on()
    assert_near(warm.full(), naive_embeddings_first(seed=5))
    three = Setup(checkpoints, 3, meshes[3], groups[3], seed=3)
    found = three.resume()
    assert found.step == 5
    full = three.full()
    assert rank > 1 or same(full, expected)
    three.checkpointer.begin(6, three.tensors(), {"step": 6})
    three.checkpointer.wait_and_commit()
    if rank == 2:  # damage what this rank wrote: rank 0 may verify it, or another; all pass it over
        file = next((checkpoints / "step_00000006").glob("shard-00002-*"))
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    dist.barrier()
    found = three.checkpointer.newest_whole()
    assert found is not None
    assert found.step == 5
    assert "shard-00002-00001.safetensors is damaged" in found.warnings[0]
    dist.barrier()
    dist.destroy_process_group()
    print("done")


def fail(*arguments: Any) -> Any:
    raise OSError(28, "No space left on device")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
