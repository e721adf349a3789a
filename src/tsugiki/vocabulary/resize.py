"""A base model's folder with rows for new pieces, written tensor by tensor without loading the model.

Only the vocabulary matrices are ever in memory, one at a time: all other bytes are copied from file to file, so that a
70B model needs 2 GB. Ids never move: the rows of new pieces follow those in use, over spare rows where the base has
some (Qwen), and every other row and tensor keeps its bits. Files are copied, not linked: a later change of the base
must not reach a run that began with it.

`config.json` is written last: a folder without it is no model, so that a run broken off is not taken for whole.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import safe_open
from transformers import PreTrainedConfig

from tsugiki.errors import ModelError, StorageError
from tsugiki.files import explain_os_error, fsync_directory, read_json, write_atomically
from tsugiki.model.safe_config import build_config, clean_config, read_config
from tsugiki.model.vocabulary_matrices import VocabularyMatrices, find_matrices, vocabulary_config, with_vocabulary
from tsugiki.model.weight_files import INDEX, SINGLE, Header, require_safetensors
from tsugiki.model_folder import COMPANIONS, own_files
from tsugiki.vocabulary.rows import Method, new_rows
from tsugiki.vocabulary.weight_splice import NewRows, copy_with_rows, grown_shape, row_bytes


@dataclass(frozen=True)
class ResizeFacts:
    """What was done. matrices: their names in the files."""

    matrices: tuple[str, ...]
    old_rows: int
    new_rows: int
    tied: bool
    dtype: str


def resize_model(
    base: Path,
    output: Path,
    *,
    used: int,
    size: int,
    pieces: Sequence[Sequence[int]],
    method: Method,
    noise: float,
    seed: int,
    token_ids: Mapping[str, int | None] | None = None,
) -> ResizeFacts:
    """Write weights and configuration of `base`, with rows for `pieces`, into the folder `output`.

    used: ids that the base's tokenizer uses; new pieces get the ids from there on. size: rows afterwards, the base's
    own or `used + len(pieces)` if that is more. pieces, method, noise, seed: see `new_rows`. token_ids: bos_token_id,
    eos_token_id and pad_token_id of the tokenizer, for configurations that do not name them; what they name stays,
    since ids do not move.

    Weight files that an earlier call left in `output` are removed first. Raises ModelError where the base cannot be
    read, has no safetensors, or has tensors that are not exactly identified; StorageError where the disk refuses.
    """
    base, output = Path(base), Path(output)
    place = str(base / "config.json")
    config = build_config(read_config(base)[0], place)
    rows = vocabulary_config(config, place).vocab_size
    if base.resolve() == output.resolve():
        raise ModelError(f"{base} would be overwritten by its own extension: name another folder")
    if not 0 < used <= rows:
        raise ModelError(f"the tokenizer of {base} has {used} pieces, but the model has {rows} rows: they do not fit")
    if size != max(rows, used + len(pieces)):
        raise ValueError(f"size is {size}, not the larger of {rows} and {used} + {len(pieces)}")
    headers = require_safetensors(base)
    resized = _resized_config(read_json(base / "config.json"), config, size, token_ids or {})
    resized_config = build_config(clean_config(resized, place)[0], place)
    with _storage_errors(base, "read"):
        shapes = {name: tensor.shape for header in headers.values() for name, tensor in header.tensors.items()}
        matrices = find_matrices(config, resized_config, shapes, str(base))
        grown, tied = _grow(base, headers, matrices, used, pieces, method, noise, seed)
    with _storage_errors(output, "write"):
        _write(base, output, headers, grown, resized, token_ids or {})
    dtype = str(next(iter(grown.values())).rows.dtype).removeprefix("torch.")
    return ResizeFacts(tuple(sorted(grown)), rows, size, tied, dtype)


def _grow(
    base: Path,
    headers: Mapping[str, Header],
    matrices: VocabularyMatrices,
    used: int,
    pieces: Sequence[Sequence[int]],
    method: Method,
    noise: float,
    seed: int,
) -> tuple[dict[str, NewRows], bool]:
    """New rows for each matrix, and whether input embedding and output layer hold the same values.

    Matrices that hold the same bytes get the same rows: a tied one may be stored under both its names.
    """
    grown: dict[str, NewRows] = {}
    first: dict[str, str] = {}  # the first matrix with a content
    own = set()
    for name in [*matrices.own, *matrices.copies]:
        file = next(file for file, header in headers.items() if name in header.tensors)
        with safe_open(base / file, framework="pt") as stored:
            matrix = stored.get_tensor(name)
        if not matrix.is_floating_point() or matrix.element_size() < 2:
            raise ModelError(f"{base / file}: {name} is stored as {matrix.dtype}; use the model before quantisation")
        content = xxhash.xxh3_128_hexdigest(matrix.contiguous().view(torch.uint8).numpy())
        if name in matrices.own and matrix.ndim == 2:
            own.add(content)
        if content in first:
            grown[name] = grown[first[content]]
            continue
        first[content] = name
        columns = matrix[:used] if matrix.ndim == 2 else matrix[:used, None]  # a bias has one value a piece
        rows = new_rows(columns, pieces, method, noise=noise, seed=seed, name=name)
        grown[name] = NewRows(used, rows if matrix.ndim == 2 else rows[:, 0])
    return grown, len(own) == 1


def _write(
    base: Path,
    output: Path,
    headers: Mapping[str, Header],
    grown: Mapping[str, NewRows],
    config: Any,
    token_ids: Mapping[str, int | None],
) -> None:
    """All files into `output`, the configuration last. Raises OSError."""
    output.mkdir(parents=True, exist_ok=True)
    for path in [output / "config.json", *output.glob("*.safetensors"), *output.glob("*.safetensors.index.json")]:
        path.unlink(missing_ok=True)
    for name, header in headers.items():
        mine = {tensor: new for tensor, new in grown.items() if tensor in header.tensors}
        copy_with_rows(base / name, output / name, mine)
    if SINGLE not in headers:
        _write_json(output / INDEX, _resized_index(read_json(base / INDEX), headers, grown))
    for path in own_files(base, COMPANIONS):
        write_atomically(output / path.name, path.read_bytes())
    for path in own_files(base, ["generation_config.json"]):
        generation = read_json(path)
        _fill(generation, token_ids, "bos_token_id", "eos_token_id", "pad_token_id")
        _write_json(output / "generation_config.json", generation)
    fsync_directory(output)
    _write_json(output / "config.json", config)


def _resized_config(raw: Any, config: PreTrainedConfig, size: int, token_ids: Mapping[str, int | None]) -> Any:
    """`config.json` with the new vocab_size and the ids that it lacks, and all else as it was written.

    pad_token_id is left alone: a model never trains the input row that it names (`padding_idx`), and tokenizers often
    name a piece that text needs as well.
    """
    resized, part = with_vocabulary(raw, config, size)
    _fill(
        part,
        {key: value for key, value in token_ids.items() if resized.get(key) is None},
        "bos_token_id",
        "eos_token_id",
    )
    return resized


def _fill(values: dict[str, Any], token_ids: Mapping[str, int | None], *keys: str) -> None:
    """Set those of `keys` that `values` does not name. What it names stays, a list of several ends too."""
    for key in keys:
        if values.get(key) is None and token_ids.get(key) is not None:
            values[key] = token_ids[key]


def _resized_index(index: Any, headers: Mapping[str, Header], grown: Mapping[str, NewRows]) -> Any:
    """The index with the new sizes: no tensor has moved to another file."""
    total, added = 0, 0
    for header in headers.values():
        for name, tensor in header.tensors.items():
            rows = grown_shape(tensor, grown[name])[0] - tensor.shape[0] if name in grown else 0
            total += tensor.end - tensor.begin + (rows * row_bytes(tensor) if rows else 0)
            added += rows * math.prod(tensor.shape[1:])
    metadata = {**(index.get("metadata") or {}), "total_size": total}
    if isinstance(metadata.get("total_parameters"), int):
        metadata["total_parameters"] += added
    return {**index, "metadata": metadata}


def _write_json(path: Path, value: Any) -> None:
    """As transformers writes its own: a configuration may hold Infinity, which `files.write_json` refuses."""
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def _storage_errors(folder: Path, action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(explain_os_error(error, error.filename or folder, action)) from error
