"""LoRA: two small trained matrices beside each chosen layer of a frozen base (Hu et al., arXiv 2106.09685), by `peft`.

peft's layers go into the Hugging Face model in place, so that blocks, embeddings and output layer stay where training
looks for them. What differs from peft's defaults: layers are named one by one and each name must be found (peft passes
over those it does not find), towers that text never reaches get none, tied embeddings stay tied, and whatever is
trained is fp32 (peft leaves copies of whole modules in the format of the base).

`peft` is imported where adapters are asked for, and nowhere else: it is an extra.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
import xxhash
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tsugiki.errors import RecipeError
from tsugiki.lora_size import names_layer
from tsugiki.model.safe_config import build_config, read_config
from tsugiki.model.shard import is_tied, towers_beside_the_decoder
from tsugiki.model.transformers_calls import in_words, quiet
from tsugiki.recipe_training import ALL_LINEAR

NAME = "default"
"""What peft calls the adapter inside the model: part of the names of its tensors."""
ADAPTABLE = (nn.Linear, Conv1D, nn.Embedding)
_WRAPPED = re.compile(rf"\.(base_layer|original_module|token_adapter|modules_to_save\.{NAME})\b")


class LoraSettings(Protocol):
    """What is asked of the recipe's `training.lora` section."""

    rank: int
    alpha: float
    dropout: float
    target_modules: list[str]
    modules_to_save: list[str]


class Layers(NamedTuple):
    """What of a model is trained beside its frozen rest, by names of modules."""

    targets: list[str]
    saved: list[str]
    rows: dict[str, list[int]]
    keeps_tie: bool
    """Whether a half of a tied pair is among `saved`, and the other follows it."""


def choose_layers(hf: PreTrainedModel, settings: LoraSettings, new_rows: Sequence[int] = ()) -> Layers:
    """The layers that patterns of names mean; see `lora_config`."""
    modules = dict(hf.named_modules())
    targets = _targets(hf, modules, settings)
    saved = _chosen(settings.modules_to_save, modules, "training.lora.modules_to_save")
    both = sorted(name for name in targets for other in saved if f"{name}.".startswith(f"{other}."))
    if both and ALL_LINEAR not in settings.target_modules:
        raise RecipeError(f"training.lora: {both[0]} is named under target_modules and modules_to_save; keep one")
    tied, ends = is_tied(hf), _vocabulary_layers(hf, modules)
    if tied and ends.keys() & targets:
        raise RecipeError(
            f"training.lora.target_modules: {min(ends.keys() & targets)} is half of a tied pair, which an adapter "
            "would untie; name it in modules_to_save (or set new_rows), which keeps the pair one matrix"
        )
    rows: dict[str, list[int]] = {}
    if new_rows:
        whole = sorted(ends.keys() & {*targets, *saved})
        if whole:
            raise RecipeError(f"training.lora.new_rows: {whole[0]} is trained already by its own name; keep one")
        if any(getattr(module, "bias", None) is not None for module in ends.values()):
            raise RecipeError(
                "training.lora.new_rows: peft leaves out the bias of this model's output layer; name the layer in "
                "modules_to_save instead"
            )
        first = hf.get_input_embeddings()  # to which peft ties the other of a tied pair
        rows = {name: list(new_rows) for name, module in ends.items() if not tied or module is first}
    return Layers(sorted(targets - set(both)), saved, rows, tied and bool(ends.keys() & set(saved)))


def require_layers(folder: Path, settings: LoraSettings) -> None:
    """Raise RecipeError for a name that no layer of the model in `folder` has, with the nearest one that is there.

    Reads its configuration alone: transformers calls layers otherwise than some files do, and builds none for others.
    """
    values, _ = read_config(folder)
    config = build_config(values, str(folder / "config.json"))
    with torch.device("meta"), quiet(), in_words(f"{folder}: the model cannot be built from its configuration"):
        hf = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    choose_layers(hf, settings)


def lora_config(hf: PreTrainedModel, settings: LoraSettings, new_rows: Sequence[int] = ()) -> Any:
    """peft's configuration for a model: settings with names of layers in place of patterns.

    hf: the model without adapters, with weights or without. new_rows: ids of pieces whose rows of input embeddings and
    output layer are trained, though nothing else of them is.
    Raises RecipeError for a name that no layer has, and where `peft` is not installed.
    """
    layers = choose_layers(hf, settings, new_rows)
    return _peft().LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=layers.targets,
        modules_to_save=layers.saved or None,
        trainable_token_indices=layers.rows or None,
        ensure_weight_tying=layers.keeps_tie,
        task_type="CAUSAL_LM",
    )


_RECORDED = (
    "r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "trainable_token_indices",
    "ensure_weight_tying", "task_type",
)  # fmt: skip
"""What we set of peft's configuration; the rest are peft's defaults."""


def record_config(config: Any) -> dict[str, Any]:
    """What `recall_config` makes the same configuration of, as JSON values."""
    values = {key: getattr(config, key) for key in _RECORDED}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}


def recall_config(record: Mapping[str, Any]) -> Any:
    """peft's configuration as a checkpoint has recorded it. Raises RecipeError where `peft` is not installed."""
    return _peft().LoraConfig(**{key: record[key] for key in _RECORDED})


def add_adapters(hf: PreTrainedModel, config: Any, seed: int = 0) -> None:
    """Freeze a model and put trainable fp32 adapters into it, which change nothing yet (B is 0).

    Raises RecipeError where peft cannot adapt a layer that was named.
    """
    peft = _peft()
    with torch.random.fork_rng(devices=[]), quiet():
        torch.default_generator.manual_seed(seed)
        try:
            with in_words("peft"):
                peft.inject_adapter_in_model(config, hf, NAME)
        except Exception as error:
            raise RecipeError(f"training.lora: {error}") from error
    for module in hf.modules():
        if getattr(module, "tied_adapter", None) is not None:
            # peft shares the module that holds the rows; torch's loading of a sharded state knows shared tensors only.
            module.trainable_tokens_delta = nn.ParameterDict(dict(module.tied_adapter.trainable_tokens_delta))
    for parameter in hf.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def base_name(name: str) -> str:
    """The name in the base of a tensor that peft has wrapped: `q_proj.weight` for `q_proj.base_layer.weight`."""
    return _WRAPPED.sub("", name)


def is_trained(name: str) -> bool:
    """Whether a tensor is peft's and not the base's own: of an adapter, of new rows, or of the copy of a module that is
    trained whole."""
    return ".lora_" in name or ".trainable_tokens_" in name or f".modules_to_save.{NAME}." in name


def base_tensors(hf: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The base's own tensors in a model with adapters or without, frozen and as they were, by their names in it; a tied
    one once. Also the buffers that its files hold."""
    stored = hf.state_dict().keys()
    for name, parameter in hf.named_parameters():
        if not is_trained(name):
            yield base_name(name), parameter
    yield from ((base_name(name), buffer) for name, buffer in hf.named_buffers() if name in stored)


def base_digest(hf: PreTrainedModel, dtype: torch.dtype) -> str:
    """What a base is known by: every value of every tensor in the format in which it is trained upon. Names of files
    and how tensors are cut over them make no difference."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(base_tensors(hf)):
        own = dtype if tensor.is_floating_point() else tensor.dtype
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        values = tensor.detach().to(own).contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(cast(bytes, values))  # anything with a buffer
    return digest.hexdigest()


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise RecipeError("training.lora needs: pip install 'tsugiki[lora]'") from None
    return peft


def _targets(hf: PreTrainedModel, modules: dict[str, nn.Module], settings: LoraSettings) -> set[str]:
    """Names of the layers that get adapters."""
    layers = {name: module for name, module in modules.items() if isinstance(module, ADAPTABLE)}
    named = [name for name in settings.target_modules if name != ALL_LINEAR]
    targets = set(_chosen(named, layers, "training.lora.target_modules"))
    if ALL_LINEAR in settings.target_modules:
        outside = {id(module) for tower in towers_beside_the_decoder(hf) for module in tower.modules()}
        outside |= {id(hf.get_input_embeddings()), id(hf.get_output_embeddings())}
        linear = {name for name, module in layers.items() if not isinstance(module, nn.Embedding)}
        targets |= {name for name in linear if id(layers[name]) not in outside}
    return targets


def _chosen(patterns: Sequence[str], modules: dict[str, nn.Module], key: str) -> list[str]:
    """Names of the modules that patterns mean."""
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in modules if name and names_layer(pattern, name)}
        if not matching:
            last = sorted({name.rpartition(".")[2] for name in modules if not name.rpartition(".")[2].isdigit()})
            near = difflib.get_close_matches(pattern, [*last, *modules], 1, cutoff=0.4)
            hint = f"; the nearest name is {near[0]}" if near else ""
            raise RecipeError(f"{key}: {pattern!r} matches no layer of this model{hint}")
        found |= matching
    return sorted(found)


def _vocabulary_layers(hf: PreTrainedModel, modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Input embeddings and output layer by name."""
    ends = [hf.get_input_embeddings(), hf.get_output_embeddings()]
    return {name: module for name, module in modules.items() if any(module is end for end in ends)}
