"""Parquet files: opened, digested, and every refusal of the library one message that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsugiki.corpus.compression import Openable, check_beginning
from tsugiki.corpus.records import Reading, read_raw
from tsugiki.errors import DataError

PARQUET_ROWS = 256
"""Rows decoded at a time."""


def digest_parquet(path: Openable, how: Reading) -> int:
    """Bytes of a file on disk, all of which are read for its digest: Parquet is not read front to back. Of another,
    whose commit stands for its digest and which need not travel twice, the beginning alone."""
    size = 0
    for chunk in read_raw(path):
        if size == 0:
            check_beginning(path, chunk, expected="parquet")
            if not isinstance(path, Path):
                return 0
        how.digest.update(chunk, advance=False)
        size += len(chunk)
    if size == 0:
        check_beginning(path, b"", expected="parquet")
    return size


@contextmanager
def open_parquet(path: Openable) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`. Raises DataError where it cannot be read, also inside the block."""
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw, page_checksum_verification=True) as file:
            yield file
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # the last for a column's name
        raise DataError(f"{path}: not a Parquet file that can be read to its end ({error})") from None
