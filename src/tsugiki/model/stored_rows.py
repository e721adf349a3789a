"""Parts of the tensors in a model's safetensors files, read from the disk when asked for and not before.

A tensor is found by its name, in whatever file of the folder it lies. What is read is what was asked for: some
numbers in a row, or any rows of a matrix, so that work on a model of any size needs the memory of the parts at hand.
"""

import contextlib
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error
from tsugiki.model.weight_files import StoredTensor, require_safetensors

FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Number formats, by their names in safetensors, that can be computed with."""


class StoredWeights:
    """The tensors of a folder's safetensors files. A context manager, since it keeps the files open."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelError where the folder holds no whole safetensors files."""
        self.folder = folder
        self.headers = require_safetensors(folder)
        self.files = {name: file for file, header in self.headers.items() for name in header.tensors}
        self._open: dict[str, BinaryIO] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "StoredWeights":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tensor(self, name: str) -> StoredTensor:
        """Format, shape and place of a tensor."""
        return self.headers[self.files[name]].tensors[name]

    def bytes(self, name: str, begin: int, end: int) -> bytes:
        """Bytes [begin, end) of a tensor. Raises StorageError."""
        file = self.files[name]
        path = self.folder / file
        try:
            if file not in self._open:
                self._open[file] = self._stack.enter_context(path.open("rb"))
            self._open[file].seek(self.headers[file].start + self.tensor(name).begin + begin)
            content = self._open[file].read(end - begin)
        except OSError as error:
            raise StorageError(explain_os_error(error, path, "read")) from error
        if len(content) != end - begin:
            raise StorageError(f"{path} ended early: it was changed while it was read")
        return content

    def numbers(self, name: str, begin: int, end: int) -> Tensor:
        """Numbers [begin, end) of a tensor of one of FLOATS, in the order in which they lie. Raises StorageError."""
        dtype = FLOATS[self.tensor(name).dtype]
        content = self.bytes(name, begin * dtype.itemsize, end * dtype.itemsize)
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)

    def rows(self, name: str, numbers: NDArray[np.int64]) -> Tensor:
        """Rows of a matrix, [len(numbers), width], width 1 for a vector; neighbours are read at once."""
        width = math.prod(self.tensor(name).shape[1:])
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1) if len(numbers) else []
        parts = [self.numbers(name, int(run[0]) * width, (int(run[-1]) + 1) * width) for run in runs]
        whole = (
            parts[0] if len(parts) == 1 else torch.cat([torch.empty(0, dtype=FLOATS[self.tensor(name).dtype]), *parts])
        )
        return whole.reshape(len(numbers), width)
