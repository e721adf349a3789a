"""From a folder (or an architecture) to a sharded model that is known to be whole.

Rank 0 alone reads: transformers' own `from_pretrained`, on the CPU, since only it knows how tensors of a file map to
those of the model (Mixtral's experts, GPT-NeoX's head). Every rank builds the same model on the meta device, shards
it, and receives its part; buffers that no file holds (RoPE's `inv_freq`) come from rank 0 as well. Then every
parameter and buffer is looked at, and a few tokens go through the model forward and backward, to learn what follows
its output layer and which parameters get no gradient.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from transformers import AutoModelForCausalLM, PreTrainedModel

from tsugiki.errors import ModelError
from tsugiki.model.adapters import LoraSettings, add_adapters, base_digest, base_tensors, lora_config
from tsugiki.model.blocks import checkpoint_activations, class_name, compile_blocks, find_blocks
from tsugiki.model.loss import TrainedAdapters, TrainingModel, text_config
from tsugiki.model.precision import get_precision
from tsugiki.model.ranks import on_first_rank
from tsugiki.model.safe_config import build_config, check_architecture, clean_config, read_config
from tsugiki.model.shard import allow_unused_parameters, inner_layer, is_tied, local, shard_model
from tsugiki.model.transformers_calls import in_words, quiet
from tsugiki.model.weight_files import check_weight_files

log = logging.getLogger(__name__)

PROBE_TOKENS = 8


class ModelSettings(Protocol):
    """What is asked of the recipe's `model` section."""

    name_or_path: Any
    architecture: dict[str, Any] | None
    revision: str | None
    attn_implementation: Any
    allow_pickle: bool


def load_model(
    settings: ModelSettings,
    *,
    folder: Path | None = None,
    mesh: DeviceMesh,
    precision: str = "fp32-master",
    device: torch.device | str = "cpu",
    activation_checkpointing: str = "none",
    compile: bool = False,
    loss_chunk_tokens: int = 1024,
    seed: int = 0,
    router_coefficient: float | None = None,
    lora: LoraSettings | None = None,
    new_rows: Sequence[int] = (),
) -> TrainingModel:
    """The model of `settings`, sharded over `mesh` on `device`, checked and ready to train. Collective.

    `folder` is where `name_or_path` was resolved to, if it was. Weights of `architecture` are drawn from `seed` on
    rank 0, so that they are the same for any number of processes.
    `router_coefficient` None takes the model's own. With `lora` everything is frozen but adapters, and, of `new_rows`
    (ids), the rows of input embeddings and output layer.
    Raises ModelError, the same on every rank, when the model cannot be read, a tensor is missing or left over, or a
    value is not finite; RecipeError where `lora` names what the model has not.
    """
    device = torch.device(device)
    preset = get_precision(precision)
    stored = preset.parameters if lora is None else preset.compute
    source: list[PreTrainedModel] = []

    def read() -> dict[str, Any]:
        hf, dropped = _read_source(settings, folder, stored, seed)
        digest = None
        if lora is not None:
            digest = base_digest(hf, stored)
            add_adapters(hf, lora_config(hf, lora, new_rows), seed)
        source.append(hf)
        return {"config": _config_values(hf), "dropped": dropped, "names": _tensor_names(hf), "digest": digest}

    facts = on_first_rank(read)
    with quiet(), torch.device("meta"):
        hf = _build(facts["config"], settings.attn_implementation, stored)
        adapters = lora_config(hf, lora, new_rows) if lora is not None else None
        if adapters is not None:
            add_adapters(hf, adapters)
    if _tensor_names(hf) != facts["names"]:  # identical on all ranks: both sides are
        odd = sorted(set(_tensor_names(hf)) ^ set(facts["names"]))[:5]
        raise ModelError(f"the model built from its configuration differs from the one read: {', '.join(odd)}")

    model = TrainingModel(hf, loss_chunk_tokens, router_coefficient)
    shard_model(model, hf, mesh, preset)
    model.to_empty(device=device)
    _receive_weights(model, source)
    _receive_buffers(hf, source, device)
    source.clear()
    _require_whole(hf)

    if adapters is not None:
        base_parameters = sum(value.numel() for name, value in base_tensors(hf) if isinstance(value, nn.Parameter))
        model.adapters = TrainedAdapters(adapters, facts["digest"], stored, base_parameters)
    blocks = find_blocks(hf)
    tokens = torch.arange(PROBE_TOKENS, device=device)[None] % text_config(hf).vocab_size
    with in_words("the model cannot be run as it is configured"):
        model.probe_head(tokens)
        frozen = _freeze_what_gets_no_gradient(model, tokens) if lora is None else []
    allow_unused_parameters(model)
    checkpoint_activations(blocks, activation_checkpointing)
    if compile:
        compile_blocks(blocks)
    model.train()
    model.description = {
        "class": class_name(hf),
        "parameters": sum(parameter.numel() for parameter in hf.parameters()),
        "trained_parameters": sum(p.numel() for p in hf.parameters() if p.requires_grad),
        "vocabulary": inner_layer(hf.get_input_embeddings()).weight.shape[0],
        "blocks": len(blocks),
        "block_classes": sorted({class_name(block) for block in blocks}),
        "head": model.describe_head(),
        "tied": model.tied,
        "attention": text_config(hf)._attn_implementation,
        "mesh": list(mesh.shape),
        "router": model.has_router,
        "dropout": _dropout(hf),
        "frozen": frozen,
        "dropped_config_keys": facts["dropped"],
    }
    return model


def read_pretrained(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str | None = None,
    allow_pickle: bool = False,
) -> tuple[PreTrainedModel, list[str]]:
    """An unsharded model on the CPU, with every tensor of its files accounted for, and the configuration keys that
    were dropped. For rank 0, generation and export. Raises ModelError."""
    values, dropped = read_config(folder)
    config = build_config(values, str(folder / "config.json"))
    safetensors = check_weight_files(folder, allow_pickle)
    with quiet(), in_words(f"{folder} cannot be loaded"):
        hf, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=safetensors,
            weights_only=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are listed below; they are refused all the same
            output_loading_info=True,
            **_attention(attn_implementation),
        )
    _require_all_tensors(folder, info)
    return hf, dropped


def _read_source(
    settings: ModelSettings, folder: Path | None, dtype: torch.dtype, seed: int
) -> tuple[PreTrainedModel, list[str]]:
    if settings.architecture is None:
        hf, dropped = read_pretrained(
            folder or Path(str(settings.name_or_path)).expanduser(),
            dtype=dtype,
            attn_implementation=settings.attn_implementation,
            allow_pickle=settings.allow_pickle,
        )
    else:
        check_architecture(settings.architecture)
        values, dropped = clean_config(settings.architecture, "model.architecture")
        with torch.random.fork_rng(devices=[]), quiet():
            torch.default_generator.manual_seed(seed)
            # Drawn in fp32 and then cast: the same weights, up to rounding, in every precision.
            hf = _build(values, settings.attn_implementation, torch.float32)
    _cast_parameters(hf, dtype)
    # What the file says, not what the configuration says: transformers unties a head whose values differ.
    for config in (hf.config, text_config(hf)):
        config.tie_word_embeddings = is_tied(hf)
    return hf, dropped


def _build(values: dict[str, Any], attn_implementation: str | None, dtype: torch.dtype) -> PreTrainedModel:
    config = build_config(values, "the model's configuration")
    with in_words("the model cannot be built from its configuration"):
        hf = AutoModelForCausalLM.from_config(
            config, dtype=dtype, trust_remote_code=False, **_attention(attn_implementation)
        )
    _cast_parameters(hf, dtype)
    return hf


def _attention(implementation: str | None) -> dict[str, str]:
    """None leaves the choice to the model's class: not every one can take sdpa (Gemma 2)."""
    return {} if implementation is None else {"attn_implementation": implementation}


def _config_values(hf: PreTrainedModel) -> dict[str, Any]:
    values, _ = clean_config(hf.config.to_dict(), "the model's configuration")
    return values


def _cast_parameters(hf: PreTrainedModel, dtype: torch.dtype) -> None:
    """One dtype for all parameters (FSDP wants one a group; some classes keep norms or routers in fp32). Buffers
    stay: `.to(dtype)` would round `inv_freq`."""
    for parameter in hf.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def _tensor_names(hf: PreTrainedModel) -> list[str]:
    """Names of parameters, a tied one once, and of buffers."""
    return [name for name, _ in hf.named_parameters()] + [name for name, _ in hf.named_buffers()]


def _require_all_tensors(folder: Path, info: dict[str, Any]) -> None:
    """transformers draws a missing tensor at random, leaves out one that it does not know, and goes on."""
    complaints = {
        "not in the files (would be random)": info.get("missing_keys"),
        "in the files but not in the model": info.get("unexpected_keys"),
        "of another shape": [
            f"{name} {list(in_file)} instead of {list(wanted)}"
            for name, in_file, wanted in info.get("mismatched_keys") or ()
        ],
        "not convertible": info.get("conversion_errors"),
        "with errors": info.get("error_msgs"),
    }
    found = [
        f"{len(names)} {what}: {', '.join(sorted(map(str, names))[:4])}{' …' if len(names) > 4 else ''}"
        for what, names in complaints.items()
        if names
    ]
    if found:
        raise ModelError(
            f"tensors of {folder} do not match its configuration: {'; '.join(found)}. "
            "The files are incomplete or of another model: fetch them again"
        )


def _receive_weights(model: TrainingModel, source: list[PreTrainedModel]) -> None:
    """Each rank's part of rank 0's parameters and persistent buffers (tied ones under both names)."""
    weights = {f"hf.{name}": value for name, value in source[0].state_dict().items()} if source else {}
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))


def _receive_buffers(hf: PreTrainedModel, source: list[PreTrainedModel], device: torch.device) -> None:
    """Rank 0's buffers on every rank: `to_empty` left those that are in no state dict undefined."""
    ours = dict(source[0].named_buffers()) if source else {}
    for name, buffer in hf.named_buffers():
        value = ours[name].to(device=device, dtype=buffer.dtype) if source else torch.empty_like(buffer)
        dist.broadcast(value, src=0)
        buffer.copy_(value)


def _require_whole(hf: PreTrainedModel) -> None:
    """Every parameter and buffer is there and finite on this rank; else ModelError on all ranks."""
    wrong = []
    for name, tensor in [*hf.named_parameters(), *hf.named_buffers()]:
        mine = local(tensor)
        if mine.is_meta:
            wrong.append(f"{name} was never filled")
        elif mine.is_floating_point() and not bool(torch.isfinite(mine).all()):
            wrong.append(f"{name} holds NaN or infinity")
    for name, module in hf.named_modules():
        wrong += [
            f"{name}.{key} was never filled"
            for key, value in vars(module).items()
            if isinstance(value, Tensor) and value.is_meta
        ]
    everybody: list[list[str] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, wrong)
    wrong = sorted({text for texts in everybody for text in texts or ()})
    if wrong:
        raise ModelError(f"the loaded model is not whole: {'; '.join(wrong[:5])} ({len(wrong)} in all)")


def _freeze_what_gets_no_gradient(model: TrainingModel, tokens: Tensor) -> list[str]:
    """Freeze and name parameters that text can never train (the vision tower of a multimodal model). Collective.

    One forward and backward of a few tokens shows them. Parts of a block that ran stay trainable: experts that
    these tokens did not choose will be chosen by others.
    """
    with torch.enable_grad():
        model(tokens, tokens).loss_sum.backward()
    ran = {
        id(parameter)
        for block in find_blocks(model.hf)
        if any(parameter.grad is not None for parameter in block.parameters())
        for parameter in block.parameters()
    }
    frozen = []
    for name, parameter in model.named_hf_parameters():
        if parameter.grad is None and id(parameter) not in ran:
            parameter.requires_grad_(False)
            frozen.append(name)
        parameter.grad = None
    if frozen:
        log.warning("%d tensors get no gradient from text and are frozen: %s", len(frozen), ", ".join(prefixes(frozen)))
    return frozen


def prefixes(names: list[str]) -> list[str]:
    """The first two parts of dotted names, each once: `model.vision_tower` for some hundred tensors."""
    return sorted({".".join(name.split(".")[:2]) for name in names})


def _dropout(hf: PreTrainedModel) -> dict[str, float]:
    """Every rate above zero, of modules and of the configuration (attention reads it from there). That of adapters is
    the recipe's own."""
    rates = {
        name: module.p
        for name, module in hf.named_modules()
        if isinstance(module, nn.Dropout) and module.p > 0 and ".lora_dropout." not in name
    }
    for key, value in text_config(hf).to_dict().items():
        if re.search(r"dropout|pdrop", key) and isinstance(value, float) and value > 0:
            rates[f"config.{key}"] = value
    return rates
