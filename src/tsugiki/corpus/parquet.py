"""Parquet files: opened, digested and cut into rows, and every refusal of the library one message that names the file.

Rows travel as Arrow lays them out: what they say is taken out where it is tokenised.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.corpus.compression import FileDigest, Openable, check_beginning
from tsugiki.corpus.pieces import Found
from tsugiki.corpus.records import (
    BadRecord,
    Document,
    Reading,
    checked_text,
    decoded,
    perhaps_chat,
    read_raw,
    too_long,
)
from tsugiki.errors import DataError

PARQUET_ROWS = 256
"""Rows of a piece."""
COLUMNS = (
    "messages", "conversations", "instruction", "input", "output", "history", "system", "prompt", "completion", "tools",
    "functions", "template_kwargs", "chat_template_kwargs",
)  # fmt: skip
"""All that the layouts of conversations read; other columns of a Parquet file are not looked at."""


def digest_parquet(path: Openable, digest: FileDigest) -> int:
    """Bytes of a file on disk, all of which are read for its digest: Parquet is not read front to back. Of another,
    whose commit stands for its digest and which need not travel twice, the beginning alone."""
    size = 0
    for chunk in read_raw(path):
        if size == 0:
            check_beginning(path, chunk, expected="parquet")
            if not isinstance(path, Path):
                return 0
        digest.update(chunk, advance=False)
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


@dataclass(frozen=True)
class Rows:
    """Rows of one file: the number of the first, from 1, and the columns wanted as a stream of Arrow's."""

    first: int
    data: bytes

    @property
    def size(self) -> int:
        """Of the stream."""
        return len(self.data)

    def items(self, how: Reading) -> Iterator[Found]:
        """The text of each row, or all of it."""
        import pyarrow
        import pyarrow.ipc

        with pyarrow.ipc.open_stream(self.data) as stream:
            (batch,) = stream
        if how.as_records:
            for index in range(len(batch)):
                yield _record(batch, index, self.first + index, how)
            return
        cells = batch.column(0)
        if pyarrow.types.is_dictionary(cells.type):
            cells = cells.dictionary_decode()
        # As bytes: pyarrow does not check that a string column holds UTF-8.
        for row, cell in enumerate(cells.cast(pyarrow.large_binary()).to_pylist(), self.first):
            yield _cell(cell, row, how)


def cut_parquet(path: Openable, how: Reading, digest: FileDigest) -> Iterator[Rows]:
    """The rows of a file."""
    import pyarrow
    import pyarrow.ipc

    size = digest_parquet(path, digest)
    row = 1
    with open_parquet(path) as file:
        columns = _record_columns(file.schema_arrow.names, path) if how.as_records else [how.text_key]
        if not how.as_records:
            _check_text_column(file.schema_arrow, how.text_key, path)
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
            sink = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            digest.bytes_read = size * (row + len(batch) - 1) // max(file.metadata.num_rows, 1)
            digest.pass_all()
            yield Rows(row, sink.getvalue().to_pybytes())
            row += len(batch)
    digest.bytes_read = size
    digest.pass_all()


def _record_columns(names: list[str], path: Openable) -> list[str]:
    """Those of a conversation. Raises DataError where there is none."""
    columns = [name for name in COLUMNS if name in names]
    if not columns:
        raise DataError(
            f"{path}: no column of conversations (messages, conversations, instruction …); it has "
            f"{', '.join(names[:12])}"
        )
    return columns


def _check_text_column(schema: Any, text_key: str, path: Openable) -> None:
    """Raise DataError when there is no such column, or it holds no text."""
    import pyarrow

    found = schema.get_all_field_indices(text_key)
    if len(found) != 1:
        has = "no column" if not found else f"{len(found)} columns"
        raise DataError(
            f"{path}: {has} {text_key!r}; it has {', '.join(schema.names[:12])} (set the source's text_key)"
            f"{perhaps_chat(schema.names)}"
        )
    kind = schema.field(found[0]).type
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    types = pyarrow.types
    accepted = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)
    if not any(accepts(value) for accepts in (*accepted, types.is_string_view, types.is_binary_view)):
        raise DataError(f"{path}: column {text_key!r} is {kind}, not text")


def _cell(cell: bytes | None, row: int, how: Reading) -> Document | BadRecord:
    if cell is None:
        return checked_text(None, row, how.text_key)
    if len(cell) > how.max_bytes:
        return too_long(row, how)
    text = decoded(cell, row, "utf-8")
    return text if isinstance(text, BadRecord) else checked_text(text, row, how.text_key)


def _record(batch: Any, index: int, row: int, how: Reading) -> Document | BadRecord:
    try:
        (record,) = batch.slice(index, 1).to_pylist()
        text = json.dumps(_without_nulls(record), ensure_ascii=False)
    except UnicodeDecodeError as error:  # pyarrow does not check that a string column holds UTF-8
        return BadRecord("encoding", row, f"not UTF-8: {error.reason}")
    except (TypeError, ValueError) as error:
        return BadRecord("wrong type", row, f"not what JSON can hold: {error}")
    return too_long(row, how) if len(text.encode()) > how.max_bytes else Document(text, row)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value
