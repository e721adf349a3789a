"""Find the repeated blocks of a transformer by what they are, never by what they are called.

A block is an entry of a `ModuleList` whose class the model names as not to be split (`_no_split_modules`), or that
transformers can checkpoint as a layer; failing both, an entry of the repeated list with the most parameters. The
three agreed on all 17 architectures tried (`model.layers`, `gpt_neox.layers`, `transformer.h` ...). They are the
units of sharding, of activation checkpointing and of compilation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)
from transformers.modeling_layers import GradientCheckpointingLayer


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """All blocks in module order, outermost ones only; those of a vision tower too. Empty where nothing repeats."""
    unsplit = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    lists: list[nn.ModuleList] = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    found = [
        entry
        for entries in lists
        for entry in entries
        if isinstance(entry, GradientCheckpointingLayer) or class_name(entry) in unsplit
    ]
    if not found:
        repeated = [entries for entries in lists if len(entries) > 1 and len({type(e) for e in entries}) == 1]
        found = list(max(repeated, key=lambda entries: _parameter_count(list(entries)))) if repeated else []
    inner = {id(module) for block in found for module in block.modules() if module is not block}
    return [block for block in found if id(block) not in inner]


def checkpoint_activations(blocks: list[nn.Module], mode: str) -> None:
    """Recompute in the backward pass: "none" nothing; "blocks" whole blocks, keeping only their inputs;
    "selective" all but attention and every second matrix product (about half of the memory at a small cost).

    The wrapper sits on each block's own `forward`, inside the hooks of FSDP, which would otherwise run twice.
    """
    if mode == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if mode == "selective":
        options["context_fn"] = _selective_contexts
    for block in blocks:
        _wrap_forward(block, partial(_checkpointed, block, options, block.forward))


def compile_blocks(blocks: list[nn.Module]) -> None:
    """`torch.compile` each block by itself: one graph serves all of them, and hooks stay outside the graphs.

    After `checkpoint_activations`: the compiler then sees what is recomputed.
    """
    for block in blocks:
        _wrap_forward(block, torch.compile(block.forward))


def _wrap_forward(block: nn.Module, forward: Callable[..., Any]) -> None:
    block.forward = forward  # on the instance: names of modules and parameters stay as they are


def _checkpointed(
    block: nn.Module, options: dict[str, Any], forward: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    if block.training and torch.is_grad_enabled():
        return checkpoint(partial(forward, **kwargs), *args, **options)
    return forward(*args, **kwargs)


def _selective_contexts() -> tuple[Any, Any]:
    """Keep results of attention and of every second matrix product; counts start anew in each block."""
    counts = {False: 0, True: 0}  # per pass: first forward, recomputation

    def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if operation in _ATTENTION:
            return CheckpointPolicy.MUST_SAVE
        if operation in _PRODUCTS:
            counts[context.is_recompute] += 1
            if counts[context.is_recompute] % 2 == 1:
                return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable.default,
}
_PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


def class_name(module: nn.Module) -> str:
    """The class's own name: FSDP puts a class of its own (FSDPMistralDecoderLayer) in front."""
    return type(module).__name__.removeprefix("FSDP")


def _parameter_count(modules: list[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
