"""The formats of a corpus: each is a function that reads one file, front to back, in constant memory.

`FORMATS` is the one place that knows them: the recipe and its page, the hub and every message read it. What they yield
stands in `records`. How to add one: docs/extending.md.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tsugiki.chat.conversations import detect_format
from tsugiki.corpus.compression import FileDigest, Openable, compression_of, read_chunks
from tsugiki.corpus.parquet import PARQUET_ROWS, digest_parquet, open_parquet
from tsugiki.corpus.record_readers import read_json_records, read_parquet_records
from tsugiki.corpus.records import (
    BOM,
    BadRecord,
    Document,
    Reading,
    checked_text,
    decoded,
    excerpt,
    text_lines,
    too_long,
)
from tsugiki.errors import DataError


def read_json_lines(path: Openable, how: Reading) -> Iterator[Document | BadRecord]:
    """One JSON object a line."""
    for number, line in text_lines(path, how):
        if isinstance(line, BadRecord):
            yield line
            continue
        record = parse_object(line, number)
        yield record if isinstance(record, BadRecord) else _document(record, how.text_key, number)


def parse_object(text: str, number: int) -> dict[str, Any] | BadRecord:
    """The JSON object that a text is, or what is wrong with it."""
    try:
        record = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except _DuplicateKeyError as error:
        return BadRecord("duplicate key", number, f"key {error} stands twice")
    except RecursionError:
        return BadRecord("malformed", number, "nested too deeply")
    except ValueError as error:
        return BadRecord("malformed", number, f"not one JSON object: {error}: {excerpt(text)}")
    if not isinstance(record, dict):
        hint = " (a JSON array; write one object a line)" if isinstance(record, list) else ""
        return BadRecord("malformed", number, f"a {type(record).__name__}, not an object{hint}: {excerpt(text)}")
    return record


def _document(record: dict[str, Any], text_key: str, number: int) -> Document | BadRecord:
    if text_key not in record:
        has = ", ".join(map(repr, list(record)[:8])) or "none"
        return BadRecord("missing key", number, f"no key {text_key!r}; it has {has[:200]}{_perhaps_chat(record)}")
    return checked_text(record[text_key], number, text_key)


def _perhaps_chat(keys: Iterable[str]) -> str:
    """A hint where keys without a text are those of a conversation."""
    try:
        detect_format(dict.fromkeys(keys))
    except DataError:
        return ""
    return " (conversations are read with format: chat)"


class _DuplicateKeyError(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(repr(next(key for key, _ in pairs if key in seen or seen.add(key))))  # type: ignore[func-returns-value]
    return record


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_text(path: Openable, how: Reading) -> Iterator[Document | BadRecord]:
    """The whole file as one document."""
    parts, size = [], 0
    for chunk in read_chunks(path, how.digest):
        size += len(chunk)
        if size <= how.max_bytes:
            parts.append(chunk)
    if size > how.max_bytes:
        yield too_long(1, how)
        return
    text = decoded(b"".join(parts).removeprefix(BOM), 1, how.encoding)
    yield text if isinstance(text, BadRecord) else checked_text(text.replace("\r\n", "\n"), 1, "text")


def read_parquet(path: Openable, how: Reading) -> Iterator[Document | BadRecord]:
    """Rows of a Parquet file."""
    import pyarrow

    size = digest_parquet(path, how)
    row = 0
    with open_parquet(path) as file:
        column = _text_column(file.schema_arrow, how.text_key, path)
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=[how.text_key]):
            cells = batch.column(0)
            if pyarrow.types.is_dictionary(column):
                cells = cells.dictionary_decode()
            # As bytes: pyarrow does not check that a string column holds UTF-8.
            for cell in cells.cast(pyarrow.large_binary()).to_pylist():
                row += 1
                yield _cell(cell, row, how)
            how.digest.bytes_read = size * row // max(file.metadata.num_rows, 1)


def _text_column(schema: Any, text_key: str, path: Openable) -> Any:
    """The Arrow type of the text column. Raises DataError when there is no such column, or it holds no text."""
    import pyarrow

    found = schema.get_all_field_indices(text_key)
    if len(found) != 1:
        has = "no column" if not found else f"{len(found)} columns"
        raise DataError(
            f"{path}: {has} {text_key!r}; it has {', '.join(schema.names[:12])} (set the source's text_key)"
            f"{_perhaps_chat(schema.names)}"
        )
    kind = schema.field(found[0]).type
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    types = pyarrow.types
    accepted = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)
    if not any(accepts(value) for accepts in (*accepted, types.is_string_view, types.is_binary_view)):
        raise DataError(f"{path}: column {text_key!r} is {kind}, not text")
    return kind


def _cell(cell: bytes | None, row: int, how: Reading) -> Document | BadRecord:
    if cell is None:
        return checked_text(None, row, how.text_key)
    if len(cell) > how.max_bytes:
        return too_long(row, how)
    text = decoded(cell, row, "utf-8")
    return text if isinstance(text, BadRecord) else checked_text(text, row, how.text_key)


class Format(NamedTuple):
    """A kind of file."""

    endings: tuple[str, ...]
    read: Callable[[Openable, Reading], Iterator[Document | BadRecord]]
    hub: str | None = None
    """What `datasets` calls files of this kind."""
    packed: bool = False
    """Whether its bytes are fewer than its text's."""
    read_records: Callable[[Openable, Reading], Iterator[Document | BadRecord]] | None = None
    """Its records as JSON, for sources of conversations; None where it cannot hold any."""


FORMATS = {
    "jsonl": Format((".jsonl", ".ndjson", ".json"), read_json_lines, hub="json", read_records=read_json_records),
    "parquet": Format((".parquet", ".pq"), read_parquet, hub="parquet", packed=True, read_records=read_parquet_records),
    "text": Format((".txt", ".md", ".text"), read_text, hub="text"),
}
"""Names that a source's `format` takes."""


def format_of(path: Openable, declared: str) -> str:
    """A name of FORMATS: declared, or (`auto`, and `chat`, which says what a record is and not the kind of file) by the
    name's ending without its compression."""
    if declared not in ("auto", "chat"):
        return declared
    name = path.name.lower()
    if compression_of(path):
        name = name.rsplit(".", 1)[0]
    for format_name, one in FORMATS.items():
        if name.endswith(one.endings):
            return format_name
    raise DataError(f"{path}: its ending names no format; set the source's `format` to {either(list(FORMATS))}")


def either(words: list[str]) -> str:
    """`a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def read_documents(
    path: Openable,
    *,
    format: str,
    text_key: str,
    encoding: str,
    max_bytes: int,
    digest: FileDigest,
    as_records: bool = False,
) -> Iterator[Document | BadRecord]:
    """Documents and bad records of one file, in order; `as_records`: whole records, as the JSON that they are. Raises
    DataError when the file as a whole cannot be read."""
    read = FORMATS[format].read_records if as_records else FORMATS[format].read
    if read is None:
        kinds = either([name for name, one in FORMATS.items() if one.read_records])
        raise DataError(f"{path}: conversations (format: chat) are read from files of {kinds}, not {format}")
    return read(path, Reading(text_key, encoding, max_bytes, digest))
