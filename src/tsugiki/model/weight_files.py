"""Which files hold a model's weights, whether they may be read (safetensors, unless the user allows a pickle), and
where each tensor lies in them.

A safetensors file is 8 bytes (the length of the header, unsigned, little endian), the header in JSON and the tensors'
bytes, one after the other without gaps (https://huggingface.co/docs/safetensors).
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from typing_extensions import TypedDict

from tsugiki.errors import DataError, ModelError, StorageError
from tsugiki.files import explain_os_error, read_json
from tsugiki.shapes import FileName

CONFIGURATION_FILES = ("config.json", "generation_config.json")
"""What stands beside the weights and decides what they compute and where a text ends."""
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLE = "pytorch_model.bin"
PICKLES_ONLY = (
    "{} holds its weights as pickles only (pytorch_model*.bin). Save them as safetensors first: "
    "AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)"
)


class _Index(TypedDict):
    """The file of each tensor, where there are several files."""

    weight_map: dict[str, FileName]


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: bytes [begin, end) after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file: its tensors in the order of their bytes, and where these begin in the file."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str] | None
    start: int


def check_weight_files(folder: Path, allow_pickle: bool) -> bool:
    """True for safetensors, False for a pickle that the user allowed (read with `weights_only=True`).

    Raises ModelError where there is neither, where only a pickle exists and `model.allow_pickle` is false, where an
    index names files outside of `folder` or files that are not there, or where a safetensors file is damaged.
    """
    if read_headers(folder):
        return True
    if not _names(folder, _PICKLE):
        raise ModelError(f"{folder} holds no weights: neither {SINGLE} nor {INDEX} is there")
    if not allow_pickle:
        raise ModelError(
            f"{PICKLES_ONLY.format(folder)}; or, in a recipe, set model.allow_pickle: true if you trust where they "
            "come from, since reading them can run code"
        )
    return False


def read_headers(folder: Path) -> dict[str, Header]:
    """The header of each safetensors file that transformers reads, by its name: one file, or those of the index. Empty
    where there is neither. Raises ModelError as `check_weight_files` does."""
    return {name: read_header(folder / name) for name in _names(folder, SINGLE)}


def require_safetensors(folder: Path) -> dict[str, Header]:
    """The same, of weights that are copied or changed from file to file, which no pickle can be. Raises ModelError
    where there is no safetensors file."""
    if not check_weight_files(folder, allow_pickle=True):
        raise ModelError(PICKLES_ONLY.format(folder))
    return read_headers(folder)


def read_header(path: Path) -> Header:
    """Raises ModelError, naming the file, where it is damaged or cut short; StorageError."""
    try:
        with safe_open(path, framework="np"):
            pass  # the library has compared lengths, types, shapes and places with each other and with the file
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            values = json.loads(file.read(length))
    except SafetensorError as error:
        raise ModelError(f"{path} is no whole safetensors file ({str(error)[:300]}): fetch the model again") from None
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
    metadata = values.pop("__metadata__", None)
    stored = {
        name: StoredTensor(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
        for name, entry in values.items()
    }
    tensors = dict(sorted(stored.items(), key=lambda item: (item[1].begin, item[1].end)))
    return Header(tensors, metadata, 8 + length)


def header_bytes(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str] | None) -> bytes:
    """What stands before the bytes of `tensors`, which are in the order of their places: the length and the header,
    filled up with spaces so that the tensors' bytes stay aligned."""
    values: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    for name, tensor in tensors.items():
        places = [tensor.begin, tensor.end]
        values[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": places}
    text = json.dumps(values, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _names(folder: Path, single: str) -> list[str]:
    """The files of the weights that are called `single` where it is one file; none where neither it nor its index is
    there."""
    if (folder / single).is_file():
        return [single]
    index = folder / f"{single}.index.json"
    if not index.is_file():
        return []
    try:
        names = sorted(set(read_json(index, _Index)["weight_map"].values()))
    except DataError as error:
        raise ModelError(str(error)) from None
    for name in names:
        if not (folder / name).is_file():
            raise ModelError(f"{index} names {name}, which is missing: fetch the model again")
    return names
