"""From a checkpoint of adapters to the weights of a whole model, and to a folder that plain `peft` loads.

A checkpoint holds what was trained and knows its base by where it lay and by a digest of its values. Merging reads the
base in the format of its files, adds what peft computes of each adapter in fp32, tensor by tensor, and rounds once.
The mean of several checkpoints is that of their merged models: B A is no linear function of the two.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tsugiki.checkpoint_files import STATE, read_manifest
from tsugiki.checkpoint_tensors import TensorReader, read_tensors
from tsugiki.errors import ModelError, StorageError
from tsugiki.files import read_json, write_json
from tsugiki.model.adapters import (
    NAME,
    add_adapters,
    base_digest,
    base_name,
    base_tensors,
    recall_config,
    record_config,
)
from tsugiki.model.load import read_pretrained
from tsugiki.model.loss import TrainedAdapters
from tsugiki.model.weight_files import read_headers

PREFIX = "model."
"""Of a checkpoint's tensors, those of the model: what follows is the name in it."""
FOLDER = "adapter"
"""Beside an exported model: what plain peft loads on the base."""


def describe_base(adapters: TrainedAdapters, folder: Path, run_dir: Path, name: str | None) -> dict[str, Any]:
    """What a checkpoint says of its base, as JSON values. A folder inside the run directory is named from there, so
    that the two may be moved together. name: what others know the base by, its id on the hub; None for one that lies on
    this machine, or that this run has made."""
    folder, run_dir = folder.resolve(), run_dir.resolve()
    inside = folder.is_relative_to(run_dir)
    return {
        "name": name,
        "folder": str(folder.relative_to(run_dir) if inside else folder),
        "digest": adapters.base,
        "dtype": str(adapters.dtype).removeprefix("torch."),
        "parameters": adapters.base_parameters,
        "adapters": record_config(adapters.config),
    }


def base_of(checkpoint: Path) -> dict[str, Any] | None:
    """What `describe_base` wrote into a checkpoint; None where that holds a whole model."""
    return read_json(checkpoint / STATE).get("base")


class Merger:
    """The base of some checkpoints of adapters, oldest first, and their adapters, on the CPU.

    base: where the base lies now; None for where it lay. Raises StorageError where it is not there, ModelError where it
    is another model than the adapters were trained beside, RecipeError where `peft` is not installed.
    """

    def __init__(self, checkpoints: Sequence[Path], base: Path | None = None) -> None:
        stored = base_of(checkpoints[-1])
        assert stored is not None
        folder = base or checkpoints[-1].absolute().parent.parent / stored["folder"]
        if not (folder / "config.json").is_file():
            raise StorageError(
                f"{folder} is gone: {checkpoints[-1]} holds adapters alone, and this is the base that they belong to. "
                "Bring it back, or say where it is now: tsugiki export RUN OUTPUT --base FOLDER"
            )
        self._name = stored["name"]
        self.config = recall_config(stored["adapters"])
        allow_pickle = read_json(checkpoints[-1] / STATE)["recipe"]["model"]["allow_pickle"]
        self._hf, _ = read_pretrained(folder, dtype=_stored_dtype(folder), allow_pickle=allow_pickle)
        if base_digest(self._hf, getattr(torch, stored["dtype"])) != stored["digest"]:
            raise ModelError(f"the weights in {folder} are not those of the base that {checkpoints[-1]} belongs to")
        add_adapters(self._hf, self.config)
        self._trained = [_read_trained(checkpoint) for checkpoint in checkpoints]
        own = {name for name, parameter in self._hf.named_parameters() if parameter.requires_grad}
        for checkpoint, tensors in zip(checkpoints, self._trained, strict=True):
            if tensors.keys() != own:
                odd = sorted(tensors.keys() ^ own)
                raise ModelError(f"{checkpoint} does not fit its base: {', '.join(odd[:5])} ({len(odd)} in all)")

    def tensors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The merged model's parameters in `dtype` and stored buffers in their own, by their names in the base."""
        merged = {}
        for name, tensor in base_tensors(self._hf):
            merged[name] = tensor.detach().to(dtype) if isinstance(tensor, nn.Parameter) else tensor
        sums: dict[str, Tensor] = {}
        for trained in self._trained:
            self._take(trained)
            for name, tensor in self._moved():
                sums[name] = sums[name].add_(tensor) if name in sums else tensor
        for name, total in sums.items():
            merged[name] = total.div_(len(self._trained)).to(dtype)
        return merged

    @torch.no_grad()
    def _take(self, trained: Mapping[str, Tensor]) -> None:
        for name, parameter in self._hf.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(trained[name])

    @torch.no_grad()
    def _moved(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor of the base that training has changed, as it is now, in fp32; a tied one once."""
        own = {name for name, _ in base_tensors(self._hf)}
        for name, module in self._hf.named_modules():
            if hasattr(module, "get_delta_weight"):
                yield f"{name}.weight", module.base_layer.weight.float() + module.get_delta_weight(NAME).float()
            elif hasattr(module, "trainable_tokens_delta"):
                place = base_name(f"{name}.weight")
                if place in own:
                    rows = module.trainable_tokens_delta[NAME]
                    index = torch.tensor(module.token_indices[NAME])
                    yield place, module.base_layer.weight.float().index_copy(0, index, rows)
        for name, parameter in self._hf.named_parameters():
            if parameter.requires_grad and f".modules_to_save.{NAME}." in name:
                yield base_name(name), parameter.detach().float().clone()

    def save_adapter(self, folder: Path) -> None:
        """Write what was trained, fp32 and as peft names it, into the new folder. Of several checkpoints nothing: their
        mean has no adapter."""
        from peft import get_peft_model_state_dict

        if len(self._trained) > 1:
            return
        folder.mkdir()
        self._take(self._trained[0])
        tensors = get_peft_model_state_dict(self._hf, adapter_name=NAME, save_embedding_layers=False)
        # Cloned, as tied tensors share their memory, which safetensors refuses; peft does the same.
        whole = {f"base_model.model.{name}": value.detach().clone() for name, value in tensors.items()}
        save_file(whole, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        # A path of this machine says nothing elsewhere, and a folder's name may be that of another model on the hub.
        self.config.base_model_name_or_path = self._name
        self.config.inference_mode = True
        values = {key: sorted(v) if isinstance(v, set) else v for key, v in self.config.to_dict().items()}
        write_json(folder / "adapter_config.json", values)


def _read_trained(checkpoint: Path) -> dict[str, Tensor]:
    entries = {n: e for n, e in read_manifest(checkpoint)["tensors"].items() if n.startswith(PREFIX)}
    tensors = {name: torch.empty(entry["shape"], dtype=torch.float32) for name, entry in entries.items()}
    read_tensors(TensorReader(checkpoint), tensors)
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _stored_dtype(folder: Path) -> torch.dtype:
    """The format that holds every weight of a folder's files without rounding."""
    kinds = {tensor.dtype for header in read_headers(folder).values() for tensor in header.tensors.values()}
    return {frozenset({"BF16"}): torch.bfloat16, frozenset({"F16"}): torch.float16}.get(frozenset(kinds), torch.float32)
