"""Copy safetensors files, with rows added to some of their tensors, without holding any tensor in memory.

A matrix is stored row by row, so adding rows puts their bytes between others' and changes nothing but the header
(`model/weight_files.py` says what else is in such a file).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from tsugiki.files import fsync_file
from tsugiki.model.weight_files import Header, StoredTensor, header_bytes, read_header

CHUNK = 8 << 20
"""Bytes copied at a time."""


@dataclass(frozen=True)
class NewRows:
    """`rows` [count, width] (or [count]) take the place of a tensor's rows from `at` on, and reach past its end."""

    at: int
    rows: Tensor


def copy_with_rows(source: Path, target: Path, grown: Mapping[str, NewRows]) -> None:
    """Copy a safetensors file with the rows of `grown`, durably. Without any, it is a plain copy.

    Raises ModelError and StorageError as `read_header` does; OSError.
    """
    header = read_header(source)
    with source.open("rb") as file, target.open("wb") as out:
        if grown:
            out.write(_grown_header(header, grown))
            file.seek(header.start)
        else:
            _copy(file, out, header.start)
        for name, tensor in header.tensors.items():
            if name in grown:
                _copy_grown(file, out, tensor, grown[name])
            else:
                _copy(file, out, tensor.end - tensor.begin)
    fsync_file(target)


def grown_shape(tensor: StoredTensor, new: NewRows) -> tuple[int, ...]:
    """Shape of a tensor with its new rows."""
    return (max(tensor.shape[0], new.at + len(new.rows)), *tensor.shape[1:])


def row_bytes(tensor: StoredTensor) -> int:
    """Bytes of a row."""
    return (tensor.end - tensor.begin) // tensor.shape[0]


def _grown_header(header: Header, grown: Mapping[str, NewRows]) -> bytes:
    """What stands before the tensors' bytes in the new file."""
    tensors, place = {}, 0
    for name, tensor in header.tensors.items():
        shape, size = tensor.shape, tensor.end - tensor.begin
        if name in grown:
            shape = grown_shape(tensor, grown[name])
            size = shape[0] * row_bytes(tensor)
        tensors[name] = StoredTensor(tensor.dtype, shape, place, place + size)
        place += size
    return header_bytes(tensors, header.metadata)


def _copy_grown(file: BinaryIO, out: BinaryIO, tensor: StoredTensor, new: NewRows) -> None:
    width = row_bytes(tensor)
    replaced = min(len(new.rows), tensor.shape[0] - new.at)
    _copy(file, out, new.at * width)
    out.write(new.rows.contiguous().view(torch.uint8).numpy().data)
    file.seek(replaced * width, 1)
    _copy(file, out, (tensor.shape[0] - new.at - replaced) * width)


def _copy(file: BinaryIO, out: BinaryIO, count: int) -> None:
    while count:
        block = file.read(min(CHUNK, count))
        if not block:
            raise OSError(f"the file ended {count} bytes early: it was changed while it was read")
        out.write(block)
        count -= len(block)
