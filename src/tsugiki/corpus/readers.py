"""The formats of a corpus: each cuts one file, front to back and in constant memory, into pieces.

`FORMATS` is the one place that knows them: the recipe and its page, the hub and every message read it. What pieces
give stands in `records`. How to add one: docs/extending.md.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tsugiki.corpus.compression import FileDigest, Openable, compression_of, read_chunks
from tsugiki.corpus.json_lines import cut_json
from tsugiki.corpus.parquet import cut_parquet
from tsugiki.corpus.pieces import Cutter, Found, Piece, cut_lines, given
from tsugiki.corpus.records import BOM, BadRecord, Reading, checked_text, decoded, too_long
from tsugiki.errors import DataError


def text_lines(path: Openable, how: Reading, digest: FileDigest) -> Iterator[tuple[int, str | BadRecord]]:
    """The lines of a file that are not blank, without their ending: number from 1, and text or what is wrong."""
    for piece in cut_lines(path, how, digest):
        yield from piece.lines(how)


def read_text(path: Openable, how: Reading, digest: FileDigest) -> Iterator[Found]:
    """The whole file as one document."""
    parts, size = [], 0
    for chunk in read_chunks(path, digest):
        size += len(chunk)
        if size <= how.max_bytes:
            parts.append(chunk)
    if size > how.max_bytes:
        yield too_long(1, how)
        return
    text = decoded(b"".join(parts).removeprefix(BOM), 1, how.encoding)
    yield text if isinstance(text, BadRecord) else checked_text(text.replace("\r\n", "\n"), 1, "text")


class Format(NamedTuple):
    """A kind of file."""

    endings: tuple[str, ...]
    cut: Cutter
    hub: str | None = None
    """What `datasets` calls files of this kind."""
    packed: bool = False
    """Whether its bytes are fewer than its text's."""
    holds_records: bool = False
    """Whether it can hold conversations."""


FORMATS = {
    "jsonl": Format((".jsonl", ".ndjson", ".json"), cut_json, hub="json", holds_records=True),
    "parquet": Format((".parquet", ".pq"), cut_parquet, hub="parquet", packed=True, holds_records=True),
    "text": Format((".txt", ".md", ".text"), given(read_text), hub="text"),
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


def cut_file(path: Openable, format_name: str, how: Reading, digest: FileDigest) -> Iterator[Piece]:
    """One file in pieces, in its order. Raises DataError when it cannot be read as a whole."""
    if how.as_records and not FORMATS[format_name].holds_records:
        kinds = either([name for name, one in FORMATS.items() if one.holds_records])
        raise DataError(f"{path}: conversations (format: chat) are read from files of {kinds}, not {format_name}")
    return FORMATS[format_name].cut(path, how, digest)


def read_documents(path: Openable, format_name: str, how: Reading) -> Iterator[Found]:
    """Documents and bad records of one file, in order. Raises DataError when it cannot be read as a whole."""
    for piece in cut_file(path, format_name, how, FileDigest()):
        yield from piece.items(how)
