"""Rows of one type in a `.npy` file, written while their number is not known yet, and read where they lie."""

import io
import shutil
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tsugiki.errors import DataError
from tsugiki.files import fsync_file
from tsugiki.printable import one_line

BLOCK = 1 << 20  # bytes copied at a time


class RowWriter:
    """Appends rows, which wait in a file beside it; nothing has the name before `close`."""

    def __init__(self, path: Path, dtype: np.dtype):
        self.path, self.dtype, self.count = path, dtype, 0
        self._part = path.with_name(path.name + ".part")
        self._file = self._part.open("w+b")

    def add(self, rows: np.ndarray) -> None:
        """Append rows [n]; of rows with more fields, those that the file has."""
        self._file.write(narrowed(rows, self.dtype).tobytes())
        self.count += len(rows)

    def close(self) -> None:
        """Write the file and bring it to disk."""
        with self._file as rows, self.path.open("wb") as file:
            _write_header(file, self.dtype, self.count)
            rows.seek(0)
            shutil.copyfileobj(rows, file, BLOCK)
        fsync_file(self.path)
        self._part.unlink()


def rows_size(dtype: np.dtype, count: int) -> int:
    """Bytes of a file of so many rows."""
    return _header_size(dtype, len(str(count))) + count * dtype.itemsize


@cache
def _header_size(dtype: np.dtype, digits: int) -> int:
    header = io.BytesIO()
    _write_header(header, dtype, 10 ** (digits - 1))
    return len(header.getvalue())


def _write_header(file: BinaryIO, dtype: np.dtype, count: int) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)


def narrowed(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rows with the fields of `dtype` alone."""
    if rows.dtype.names == dtype.names:
        return rows.astype(dtype, copy=False)
    narrow = np.zeros(len(rows), dtype)
    for key in dtype.names or ():
        narrow[key] = rows[key]
    return narrow


def map_rows(path: Path, dtype: np.dtype, count: int | None = None) -> np.ndarray:
    """The rows of a file, memory-mapped. Raises DataError, naming it, where it is missing, damaged or of other rows,
    or holds another number than `count`."""
    try:
        rows = np.load(path, mmap_mode=None if count == 0 else "r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; run tsugiki prepare") from None
    except Exception as error:  # numpy's reader of headers raises whatever Python's own parser does
        raise DataError(f"{path}: damaged ({one_line(error, 300)})") from None
    if rows.dtype != dtype or rows.ndim != 1 or count not in (None, len(rows)):
        of = "such a store" if count is None else f"a store of {count:,} documents"
        raise DataError(f"{path}: not the side file of {of}")
    return rows
