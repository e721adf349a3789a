"""Documents out of files: JSON Lines, Parquet and plain text, one at a time, in constant memory.

Nothing is inferred and nothing is lost: the text field is a string or the record is *bad*, with a kind and a place,
and the caller counts it. Lines are split at `\n` bytes only (U+2028, U+0085 and lone `\r` are text). Files are
decoded strictly; an encoding other than UTF-8 must be declared.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.corpus.compression import CHUNK, FileDigest, Openable, check_beginning, compression_of, read_chunks
from tsugiki.errors import DataError

HALF_WIDTH = re.compile("[\uff61-\uff9f]")
SURROGATE = re.compile("[\ud800-\udfff]")
ISO_2022_JP = (b"\x1b$B", b"\x1b$@", b"\x1b(B", b"\x1b(J")
BOM = b"\xef\xbb\xbf"
PARQUET_ROWS = 256
"""Rows decoded at a time."""


@dataclass(frozen=True)
class Document:
    """A document's text and its place: line (JSON Lines) or row (Parquet) from 1; 1 for a text file."""

    text: str
    line: int
    replaced: bool = False  # a lone surrogate was replaced by U+FFFD


@dataclass(frozen=True)
class BadRecord:
    """A record that gives no document: its kind, for counting, and where and what it is."""

    kind: str
    line: int
    detail: str


def format_of(path: Openable, declared: str) -> str:
    """`jsonl`, `parquet` or `text`: declared, or by the name's ending without its compression."""
    if declared != "auto":
        return declared
    name = path.name.lower()
    if compression_of(path):
        name = name.rsplit(".", 1)[0]
    for format_name, endings in (
        ("jsonl", (".jsonl", ".ndjson", ".json")), ("parquet", (".parquet", ".pq")), ("text", (".txt", ".md", ".text")),
    ):  # fmt: skip
        if name.endswith(endings):
            return format_name
    raise DataError(f"{path}: its ending names no format; set the source's `format` to jsonl, parquet or text")


def read_documents(
    path: Openable, *, format: str, text_key: str, encoding: str, max_bytes: int, digest: FileDigest
) -> Iterator[Document | BadRecord]:
    """Documents and bad records of one file, in order. Raises DataError when the file as a whole cannot be read."""
    if format == "parquet":
        yield from _read_parquet(path, text_key, max_bytes, digest)
    elif format == "text":
        yield from _read_text(path, encoding, max_bytes, digest)
    else:
        yield from _read_json_lines(path, text_key, encoding, max_bytes, digest)


def _lines(path: Openable, max_bytes: int, digest: FileDigest) -> Iterator[tuple[int, bytes | None]]:
    """(line number from 1, line without its ending); None in place of a line over `max_bytes`."""
    parts: list[bytes] = []
    number, size = 1, 0
    for chunk in read_chunks(path, digest):
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            size += len(piece)
            yield number, (b"".join([*parts, piece]) if size <= max_bytes else None)
            number, parts, size = number + 1, [], 0
        size += len(rest)
        parts = [*parts, rest] if size <= max_bytes else []
    if size:
        yield number, (b"".join(parts) if size <= max_bytes else None)


def _read_json_lines(
    path: Openable, text_key: str, encoding: str, max_bytes: int, digest: FileDigest
) -> Iterator[Document | BadRecord]:
    for number, line in _lines(path, max_bytes, digest):
        if line is None:
            yield BadRecord("too long", number, f"over {max_bytes:,} bytes (data.max_document_bytes)")
            continue
        if number == 1:
            _check_byte_order(path, line)
            line = line.removeprefix(BOM)
        line = line.removesuffix(b"\r")
        if not line.strip():
            continue
        try:
            content = _decode(line, encoding)
            record = json.loads(content, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        except UnicodeDecodeError as error:
            yield BadRecord("encoding", number, _encoding_hint(line, encoding, error))
        except _DuplicateKeyError as error:
            yield BadRecord("duplicate key", number, f"key {error} stands twice")
        except RecursionError:
            yield BadRecord("malformed", number, "nested too deeply")
        except ValueError as error:
            yield BadRecord("malformed", number, f"not one JSON object: {error}: {_excerpt(line)}")
        else:
            yield _document(record, text_key, number, line)


def _check_byte_order(path: Openable, first_line: bytes) -> None:
    """UTF-16 and UTF-32 cannot be cut at newline bytes; nearly all such files begin with a byte order mark."""
    if first_line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: this is UTF-16 or UTF-32 text; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")


def _document(record: Any, text_key: str, number: int, line: bytes) -> Document | BadRecord:
    if not isinstance(record, dict):
        hint = " (a JSON array; write one object a line)" if isinstance(record, list) else ""
        return BadRecord("malformed", number, f"a {type(record).__name__}, not an object{hint}: {_excerpt(line)}")
    if text_key not in record:
        has = ", ".join(map(repr, list(record)[:8])) or "none"
        return BadRecord("missing key", number, f"no key {text_key!r}; it has {has[:200]}")
    return checked_text(record[text_key], number, text_key)


def checked_text(text: Any, number: int, text_key: str) -> Document | BadRecord:
    """A value of a record as a document, if it is text that says something."""
    if not isinstance(text, str):
        return BadRecord("wrong type", number, f"{text_key!r} is {type(text).__name__}, not text")
    if not text.strip():
        return BadRecord("empty", number, "no text")
    replaced = SURROGATE.sub("\ufffd", text)
    return Document(replaced, number, replaced != text)


def _read_text(path: Openable, encoding: str, max_bytes: int, digest: FileDigest) -> Iterator[Document | BadRecord]:
    parts, size = [], 0
    for chunk in read_chunks(path, digest):
        size += len(chunk)
        if size <= max_bytes:
            parts.append(chunk)
    if size > max_bytes:
        yield BadRecord("too long", 1, f"over {max_bytes:,} bytes (data.max_document_bytes)")
        return
    content = b"".join(parts).removeprefix(BOM)
    try:
        yield checked_text(_decode(content, encoding).replace("\r\n", "\n"), 1, "text")
    except UnicodeDecodeError as error:
        yield BadRecord("encoding", 1, _encoding_hint(content, encoding, error))


def _read_parquet(path: Openable, text_key: str, max_bytes: int, digest: FileDigest) -> Iterator[Document | BadRecord]:
    """Rows of a Parquet file. A file on disk is read twice, once for its digest: Parquet is not read front to back."""
    import pyarrow
    import pyarrow.parquet

    size = 0
    for chunk in read_raw(path):
        if size == 0:
            check_beginning(path, chunk, expected="parquet")
            if not isinstance(path, Path):
                break  # its commit stands for its digest, and it need not travel twice
        digest.update(chunk, advance=False)
        size += len(chunk)
    else:
        if size == 0:
            check_beginning(path, b"", expected="parquet")
    row = 0
    try:
        with path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw, page_checksum_verification=True) as file:
            column = _text_column(file.schema_arrow, text_key, path)
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=[text_key]):
                cells = batch.column(0)
                if pyarrow.types.is_dictionary(column):
                    cells = cells.dictionary_decode()
                # As bytes: pyarrow does not check that a string column holds UTF-8.
                for cell in cells.cast(pyarrow.large_binary()).to_pylist():
                    row += 1
                    yield _cell(cell, row, text_key, max_bytes)
                digest.bytes_read = size * row // max(file.metadata.num_rows, 1)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file that can be read to its end ({error})") from None


def _text_column(schema: Any, text_key: str, path: Openable) -> Any:
    """The Arrow type of the text column. Raises DataError when there is no such column, or it holds no text."""
    import pyarrow

    found = schema.get_all_field_indices(text_key)
    if len(found) != 1:
        has = "no column" if not found else f"{len(found)} columns"
        raise DataError(
            f"{path}: {has} {text_key!r}; it has {', '.join(schema.names[:12])} (set the source's text_key)"
        )
    kind = schema.field(found[0]).type
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    types = pyarrow.types
    accepted = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)
    if not any(accepts(value) for accepts in (*accepted, types.is_string_view, types.is_binary_view)):
        raise DataError(f"{path}: column {text_key!r} is {kind}, not text")
    return kind


def _cell(cell: bytes | None, row: int, text_key: str, max_bytes: int) -> Document | BadRecord:
    if cell is None:
        return checked_text(None, row, text_key)
    if len(cell) > max_bytes:
        return BadRecord("too long", row, f"over {max_bytes:,} bytes (data.max_document_bytes)")
    try:
        return checked_text(_decode(cell, "utf-8"), row, text_key)
    except UnicodeDecodeError as error:
        return BadRecord("encoding", row, _encoding_hint(cell, "utf-8", error))


def read_raw(path: Openable) -> Iterator[bytes]:
    """The bytes of a file as they are."""
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                yield data
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


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


def _decode(data: bytes, encoding: str) -> str:
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8") and any(escape in data for escape in ISO_2022_JP):
        raise UnicodeDecodeError("utf-8", data, data.index(b"\x1b"), data.index(b"\x1b") + 1, "an ISO-2022-JP escape")
    return data.decode(encoding)


def _encoding_hint(data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    """What the bytes may be instead, tried in the order that is right for Japanese (CP932 before Shift_JIS)."""
    if error.reason == "an ISO-2022-JP escape":
        return "looks like ISO-2022-JP; set the source's encoding to iso-2022-jp"
    fits = []
    for candidate in ("utf-8", "cp932", "euc-jp", "gb18030"):
        if candidate != encoding.lower():
            with contextlib.suppress(UnicodeDecodeError):
                # EUC-JP is often valid CP932 too, but then reads as half-width katakana.
                fits.append((len(HALF_WIDTH.findall(data.decode(candidate))), candidate))
    if fits:
        best = min(fits, key=lambda fit: fit[0])[1]
        return f"not {encoding}; may be {best} (set the source's encoding): {_excerpt(data)}"
    return f"not {encoding} at byte {error.start}: {_excerpt(data)}"


def _excerpt(data: bytes) -> str:
    return ascii(data[:80])[1:]
