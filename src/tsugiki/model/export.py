"""From a checkpoint, or the mean of several, to a Hugging Face folder that plain transformers opens.

transformers itself writes the folder: it renames tensors when it loads a model (Mixtral's experts are fused,
GPT-NeoX's output layer has another name), so only its `save_pretrained` knows the names that the hub expects. It gets
a model without memory (on the meta device) and the checkpoint's tensors. A tied output layer is one tensor in the
checkpoint and stays one. Of a checkpoint of adapters the merged model is written (`merge.py`), and the adapter itself
in a folder inside. Tokenizer files are copied byte for byte: transformers 5, saving them again, names a class
that version 4 cannot load.

One process, no process group, no GPU; the host memory needed is that of the exported weights.
"""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tsugiki.checkpoint_files import EXPORT_MARK, STATE, ExportMark, mark_of, read_manifest, verify
from tsugiki.errors import ModelError, RecipeError, StorageError
from tsugiki.files import free_bytes, read_json, write_json
from tsugiki.folders import made_anew, only_one
from tsugiki.model.average import read_mean
from tsugiki.model.device import DTYPES
from tsugiki.model.merge import FOLDER, PREFIX, Merger, base_of
from tsugiki.model.safe_config import build_config, read_config
from tsugiki.model.transformers_calls import quiet
from tsugiki.model_folder import own_files


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint, or the mean of several, as they are written."""

    tensors: dict[str, torch.Tensor]
    """Whole, by the names of the transformers model."""
    model: PreTrainedModel
    """Without memory: what knows the names that the hub expects."""
    companions: Path
    """The run's folder with configuration and tokenizer."""
    mark: ExportMark
    """Without its files."""
    merger: Merger | None = None
    """Of a checkpoint of adapters."""


def export(
    checkpoint: Path, output: Path, dtype: str = "bfloat16", max_shard_size: str = "5GB", *, replace: bool = False,
    base: Path | None = None,
) -> None:  # fmt: skip
    """Write the weights of a checkpoint, its configuration and its tokenizer into the new folder `output`.

    checkpoint: `<run_dir>/checkpoints/step_…`; every byte of it is verified first. dtype: a key of DTYPES.
    max_shard_size: larger models are cut into several files with an index, as on the hub. replace: `output` may be a
    folder with files, which the new one takes the place of when it is whole. base: of adapters, where their base lies
    now. Default: where it lay in training.

    `output` appears whole or not at all. Raises RecipeError for an unknown dtype or an `output` that is not empty or
    the current folder, StorageError for a damaged checkpoint or a full disk, ModelError when tensors and configuration
    do not match.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    check_output(output, dtype, replace=replace)
    weights = read_weights([checkpoint], dtype, base)
    with only_one(output), made_anew(output) as work:
        write_model(weights, work, max_shard_size)


def check_output(output: Path, dtype: str, *, replace: bool = False) -> None:
    """Raise RecipeError where no folder `output` can be made, or the dtype is none; see `export`."""
    if dtype not in DTYPES:
        raise RecipeError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if output.exists() and not (output.is_dir() and (replace or not any(output.iterdir()))):
        raise RecipeError(f"{output} exists already and is not an empty folder: move it away or name another")
    if output.resolve() == Path.cwd():  # a shell would go on in the folder that was replaced, and see nothing
        raise RecipeError(f"{output} is the folder that this command runs in: name one inside it, or call from outside")


def read_weights(checkpoints: Sequence[Path], dtype: str, base: Path | None = None) -> Weights:
    """The weights of a checkpoint, or the mean of several of one run (oldest first), in `dtype`. Every byte of each is
    verified first. base: see `export`. Raises as `export` does."""
    for checkpoint in checkpoints:
        problems = verify(checkpoint)
        if problems:
            raise StorageError(f"{checkpoint} cannot be exported: {'; '.join(problems)}")
    newest = checkpoints[-1]
    source = _model_files(newest)
    if base_of(newest) is not None:
        merger = Merger(checkpoints, base)
        merged = merger.tensors(DTYPES[dtype])
        model = _empty_model(source, DTYPES[dtype], {PREFIX + name for name in merged})
        _require_same_tensors(newest, {name: {"shape": list(value.shape)} for name, value in merged.items()}, model)
        return Weights(merged, model, source, mark_of(checkpoints, dtype), merger)
    if base is not None:
        raise RecipeError(f"{newest} holds a whole model, which has no base to be named: leave --base out")
    model = _empty_model(source, DTYPES[dtype], read_manifest(newest)["tensors"].keys())
    tensors = _read_tensors(checkpoints, model, DTYPES[dtype])
    return Weights(tensors, model, source, mark_of(checkpoints, dtype))


def write_model(weights: Weights, folder: Path, max_shard_size: str = "5GB") -> None:
    """Write weights, configuration, tokenizer and what they are of into an empty folder. Raises StorageError, also
    where the disk is full."""
    try:
        with quiet():
            weights.model.save_pretrained(folder, state_dict=dict(weights.tensors), max_shard_size=max_shard_size)
    except Exception as error:
        # safetensors reports a full disk in words of its own.
        if type(error).__name__ != "SafetensorError":
            raise
        free = free_bytes(folder)
        raise StorageError(
            f"cannot write {folder}: {error} (is the disk full? {free / 1e6:,.0f} MB are free)"
        ) from error
    _copy_companions(weights.companions, folder)
    if weights.merger is not None:
        weights.merger.save_adapter(folder / FOLDER)
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / EXPORT_MARK, {**weights.mark, "files": [str(path.relative_to(folder)) for path in written]})
    for path in [*written, folder / EXPORT_MARK]:
        shutil.copymode(folder / "config.json", path)  # safetensors makes files that no group may read


def _model_files(checkpoint: Path) -> Path:
    """The run's folder with config.json and the tokenizer, where the checkpoint says it is."""
    state = read_json(checkpoint / STATE)
    name = state.get("model_files")
    place = PurePosixPath(name) if isinstance(name, str) else None
    if place is None or place.is_absolute() or ".." in place.parts:
        raise StorageError(f"{checkpoint / STATE}: model_files must be a folder inside the run directory, not {name!r}")
    folder = checkpoint.absolute().parent.parent / place
    if not (folder / "config.json").is_file():
        raise StorageError(
            f"{folder} has no config.json. A checkpoint is exported from inside its run directory "
            f"(<run_dir>/checkpoints/{checkpoint.name}), which holds the model's configuration and tokenizer"
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise StorageError(f"{folder} has lost its tokenizer: copy it there, or run `tsugiki train` again, which does")
    return folder


def _empty_model(folder: Path, dtype: torch.dtype, stored: Collection[str]) -> PreTrainedModel:
    """The model of a folder's configuration, on the meta device. `stored`: names of the checkpoint's tensors."""
    values, _ = read_config(folder)
    config = build_config(values, str(folder / "config.json"))

    def build() -> PreTrainedModel:
        with quiet(), torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)

    model = build()
    own = {name for name, _ in model.named_parameters()}
    if any(PREFIX + name in stored for name, _ in model.named_parameters(remove_duplicate=False) if name not in own):
        # Tied by the configuration, but the files held two tensors that differ, and so does the checkpoint.
        for part in (config, config.get_text_config()):
            part.tie_word_embeddings = False
        model = build()
    return model


def _read_tensors(checkpoints: Sequence[Path], model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The checkpoints' weights, whole, in `dtype`, by the names of `model`."""
    for checkpoint in checkpoints:
        stored = {
            name.removeprefix(PREFIX): entry
            for name, entry in read_manifest(checkpoint)["tensors"].items()
            if name.startswith(PREFIX)
        }
        _require_same_tensors(checkpoint, stored, model)
    # Loaded straight into the exported dtype (the reader casts), so that the fp32 weights are never in memory whole.
    # Buffers keep their format, as in transformers: DeepSeek-V3's corrections decide in fp32 which expert is chosen.
    parameters = dict(model.named_parameters())
    tensors: dict[str, Any] = {}
    for name, entry in stored.items():
        own = getattr(torch, entry["dtype"])
        tensors[PREFIX + name] = torch.empty(entry["shape"], dtype=dtype if name in parameters else own)
    read_mean(checkpoints, tensors)
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _require_same_tensors(checkpoint: Path, stored: dict[str, Any], model: PreTrainedModel) -> None:
    """Raise ModelError unless the checkpoint has just the tensors that the model's configuration asks for."""
    wanted = {name: list(parameter.shape) for name, parameter in model.named_parameters()}  # a tied one once
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    wanted |= {name: list(value.shape) for name, value in model.state_dict().items() if name not in tied}
    problems = [f"{name} is missing" for name in wanted.keys() - stored.keys()]
    problems += [f"{name} is not in the model" for name in stored.keys() - wanted.keys()]
    problems += [
        f"{name} has shape {stored[name]['shape']}, the configuration says {wanted[name]}"
        for name in wanted.keys() & stored.keys()
        if stored[name]["shape"] != wanted[name]
    ]
    if problems:
        raise ModelError(
            f"{checkpoint} does not fit the configuration beside it: {'; '.join(sorted(problems)[:5])} "
            f"({len(problems)} in all)"
        )


def _copy_companions(source: Path, target: Path) -> None:
    """Tokenizer files and the generation configuration, byte for byte. The configuration of the model is not copied:
    transformers has just written it with the exported dtype."""
    names = {path.name for path in source.iterdir()} - {"config.json", "source.json"}
    for path in own_files(source, sorted(names)):
        shutil.copyfile(path, target / path.name)
