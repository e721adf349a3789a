"""Records of a chat source as the JSON that each one is: lines, elements of one array, or rows of a Parquet file.

A record becomes a conversation in the process that renders it (`corpus.conversation_work`); here it is found, and
bounded in size. What is no record is a `BadRecord`, as in `readers`.
"""

import json
from collections.abc import Iterator
from typing import Any

from tsugiki.corpus.compression import FileDigest, Openable, read_chunks
from tsugiki.corpus.parquet import PARQUET_ROWS, digest_parquet, open_parquet
from tsugiki.corpus.records import BOM, BadRecord, Document, Reading, decoded, text_lines, too_long
from tsugiki.errors import DataError

COLUMNS = (
    "messages", "conversations", "instruction", "input", "output", "history", "system", "prompt", "completion", "tools",
    "functions", "template_kwargs", "chat_template_kwargs",
)  # fmt: skip
"""All that the layouts of conversations read; other columns of a Parquet file are not looked at."""


def read_json_records(path: Openable, how: Reading) -> Iterator[Document | BadRecord]:
    """One record a line, or a file that is one array of records. `text` is the record's JSON, whatever it holds; of an
    array `line` is the element's number."""
    if _is_array(path):
        yield from _elements(path, how)
        return
    for number, line in text_lines(path, how):
        yield line if isinstance(line, BadRecord) else Document(line, number)


def _is_array(path: Openable) -> bool:
    for chunk in read_chunks(path, FileDigest()):
        if text := chunk.removeprefix(BOM).lstrip():
            return text.startswith(b"[")
    return False


def _elements(path: Openable, how: Reading) -> Iterator[Document | BadRecord]:
    """The elements of an array, which is held in memory. Raises DataError where it cannot be read to its end."""
    text = decoded(b"".join(read_chunks(path, how.digest)).removeprefix(BOM), 1, how.encoding)
    if isinstance(text, BadRecord):
        raise DataError(f"{path}: an array of records that cannot be read: {text.detail}")
    decoder, place, number = json.JSONDecoder(), _skip(text, text.index("[") + 1), 0
    if text[place : place + 1] == "]":
        place += 1
    else:
        while True:
            number += 1
            try:
                _, end = decoder.raw_decode(text, place)
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else error
                raise DataError(f"{path}: element {number:,} of its array cannot be read: {reason}") from None
            element = text[place:end]
            yield too_long(number, how) if len(element.encode()) > how.max_bytes else Document(element, number)
            place = _skip(text, end)
            mark, place = text[place : place + 1], _skip(text, place + 1)
            if mark == "]":
                break
            if mark != ",":
                raise DataError(
                    f"{path}: behind element {number:,} of its array stands neither , nor ]: it is cut short"
                )
    if text[place:].strip():
        raise DataError(f"{path}: more stands behind its array; write one array, or one record a line")


def _skip(text: str, place: int) -> int:
    """The place of the next character that is no white space of JSON."""
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


def read_parquet_records(path: Openable, how: Reading) -> Iterator[Document | BadRecord]:
    """Rows of a Parquet file. A value that is null is none: a column of structs has every key in every row."""
    size = digest_parquet(path, how)
    row = 0
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        columns = [name for name in COLUMNS if name in names]
        if not columns:
            raise DataError(
                f"{path}: no column of conversations (messages, conversations, instruction …); it has "
                f"{', '.join(names[:12])}"
            )
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
            for index in range(len(batch)):
                row += 1
                yield _row(batch, index, row, how)
            how.digest.bytes_read = size * row // max(file.metadata.num_rows, 1)


def _row(batch: Any, index: int, row: int, how: Reading) -> Document | BadRecord:
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
