"""Sharding with FSDP2: one path for one process and for hundreds; what differs is the mesh.

| parallel.shard | mesh | each process holds |
|---|---|---|
| full | (N) | 1/N of weights, gradients and Adam states |
| hybrid | (replicas, N / replicas) | the part of its replica group; gradients are summed across groups |
| none | (N, 1) | everything |

Gradients are **summed** over processes: the loss is divided by the global count of targets before its backward.
"""

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from tsugiki.errors import RecipeError
from tsugiki.model.blocks import find_blocks
from tsugiki.model.precision import Precision


def make_mesh(shard: str = "full", replicas: int | None = None, device_type: str = "cpu") -> DeviceMesh:
    """The mesh over all processes of the default group (a group of this process alone is made where there is none).

    Raises RecipeError when the processes cannot be cut into `replicas` equal groups.
    """
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    world = dist.get_world_size()
    if shard == "full":
        return init_device_mesh(device_type, (world,), mesh_dim_names=("shard",))
    if shard == "none":
        shape = (world, 1)
    elif shard == "hybrid":
        if replicas is None or replicas < 1 or world % replicas:
            raise RecipeError(
                f"parallel.replicas is {replicas}: with parallel.shard: hybrid it must divide the "
                f"{world} processes of this launch into equal groups"
            )
        shape = (replicas, world // replicas)
    else:
        raise RecipeError(f"parallel.shard is {shard!r}; it can be full, hybrid or none")
    return init_device_mesh(device_type, shape, mesh_dim_names=("replicate", "shard"))


def shard_model(root: nn.Module, hf: PreTrainedModel, mesh: DeviceMesh, precision: Precision) -> None:
    """Apply `fully_shard` to the blocks and towers of `hf`, to its embeddings, and to `root`, which wraps it.

    The root's own forward must run first in every pass: FSDP finds its root there. Tied embeddings stay with the
    root (two groups for one parameter are an error, and rows of the last rank were silently never trained in
    torch before 2.13); untied ones are units of their own, since one group would hold both fp32 reductions at once.
    """
    policy = precision.policy()
    for block in find_blocks(hf):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    for tower in towers_beside_the_decoder(hf):
        fully_shard(tower, mesh=mesh, mp_policy=policy)
    embedding, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    if head is not None and not is_tied(hf):
        fully_shard(embedding, mesh=mesh, mp_policy=policy)
        # Its backward comes first: freeing it after the forward would only gather it again.
        fully_shard(head, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    fully_shard(root, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(root, "forward_logits")
    for unit in root.modules():
        if isinstance(unit, FSDPModule):
            if mesh.size() > 1:  # for one process torch would divide by making a copy of every gradient
                unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)  # gloo has no pre-multiplied sum


def allow_unused_parameters(root: nn.Module) -> None:
    """Let ranks differ in which parameters they used (experts that no token chose), where torch can (2.13).

    Only after parameters without any gradient are frozen: the others count as zero gradients from here on.
    """
    for unit in root.modules():
        if isinstance(unit, FSDPModule) and hasattr(unit, "set_reduce_scatter_unused_params"):
            unit.set_reduce_scatter_unused_params(True, recurse=False)


def is_tied(hf: PreTrainedModel) -> bool:
    """Whether input and output embeddings are one parameter: by identity, since configurations are often wrong."""
    head, embedding = hf.get_output_embeddings(), hf.get_input_embeddings()
    if head is None or embedding is None:
        return False
    return getattr(inner_layer(head), "weight", None) is inner_layer(embedding).weight


def inner_layer(module: nn.Module) -> Any:
    """The plain layer inside of what peft has put around it (`adapters.py`): the base's, or its copy that is trained.
    Any other module as it is."""
    while True:
        parts = dict(module.named_children())
        if "modules_to_save" in parts:
            (module,) = parts["modules_to_save"].children()
        elif "token_adapter" in parts:
            module = parts["token_adapter"]
        elif "base_layer" in parts:
            module = parts["base_layer"]
        else:
            return module


def reshard(root: nn.Module) -> None:
    """Free gathered weights of every unit, so that `parameters()` are the sharded ones again.

    After a forward without backward the root's weights stay gathered: whoever then changes the sharded ones (a
    checkpoint that is loaded) would not be noticed by the next forward.
    """
    for unit in root.modules():
        if isinstance(unit, FSDPModule):
            unit.reshard()


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def towers_beside_the_decoder(hf: PreTrainedModel) -> list[nn.Module]:
    """Modules of a multimodal model that hold no part of the text model: never gathered while training on text."""
    decoder = hf.get_decoder() if hasattr(hf, "get_decoder") else None
    if decoder is None or decoder is hf:
        return []
    text = {id(module) for module in decoder.modules()}
    for part in (hf.get_input_embeddings(), hf.get_output_embeddings()):
        text |= {id(module) for module in part.modules()} if part is not None else set()

    def outermost(module: nn.Module) -> list[nn.Module]:
        found: list[nn.Module] = []
        for child in module.children():
            if id(child) in text:
                continue
            if any(id(inner) in text for inner in child.modules()):
                found += outermost(child)
            elif any(True for _ in child.parameters()):
                found.append(child)
        return found

    return outermost(hf)
