"""What reading a file gives, whatever its format: documents and bad records, none passed over.

Nothing is inferred and nothing is lost: text is a string or the record is *bad*, with a kind and a place, and the
caller counts it. Lines are split at `\n` bytes only (U+2028, U+0085 and lone `\r` are text). Bytes are decoded
strictly; an encoding other than UTF-8 must be declared.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tsugiki.corpus.compression import CHUNK, FileDigest, Openable, read_chunks
from tsugiki.errors import DataError

HALF_WIDTH = re.compile("[\uff61-\uff9f]")
SURROGATE = re.compile("[\ud800-\udfff]")
ISO_2022_JP = (b"\x1b$B", b"\x1b$@", b"\x1b(B", b"\x1b(J")
BOM = b"\xef\xbb\xbf"


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


@dataclass(frozen=True)
class Reading:
    """How a file is read: what the recipe says of its source, and the digest of the bytes as they pass."""

    text_key: str
    encoding: str
    max_bytes: int
    """Of a document."""
    digest: FileDigest


def checked_text(text: Any, number: int, text_key: str) -> Document | BadRecord:
    """A value of a record as a document, if it is text that says something."""
    if not isinstance(text, str):
        return BadRecord("wrong type", number, f"{text_key!r} is {type(text).__name__}, not text")
    if not text.strip():
        return BadRecord("empty", number, "no text")
    replaced = SURROGATE.sub("\ufffd", text)
    return Document(replaced, number, replaced != text)


def too_long(number: int, how: Reading) -> BadRecord:
    """A document over the limit."""
    return BadRecord("too long", number, f"over {how.max_bytes:,} bytes (data.max_document_bytes)")


def decoded(data: bytes, number: int, encoding: str) -> str | BadRecord:
    """Bytes as text, or the bad record that they are, with what they may be instead."""
    try:
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8") and any(escape in data for escape in ISO_2022_JP):
            return BadRecord("encoding", number, "looks like ISO-2022-JP; set the source's encoding to iso-2022-jp")
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        return BadRecord("encoding", number, _encoding_hint(data, encoding, error))


def text_lines(path: Openable, how: Reading) -> Iterator[tuple[int, str | BadRecord]]:
    """The lines of a file that are not blank, without their ending: number from 1, and text or what is wrong."""
    for number, line in _lines(path, how):
        if line is None:
            yield number, too_long(number, how)
            continue
        if number == 1:
            _check_byte_order(path, line)
            line = line.removeprefix(BOM)
        line = line.removesuffix(b"\r")
        if line.strip():
            yield number, decoded(line, number, how.encoding)


def _lines(path: Openable, how: Reading) -> Iterator[tuple[int, bytes | None]]:
    """(line number from 1, line without its ending); None in place of a line over the limit."""
    parts: list[bytes] = []
    number, size = 1, 0
    for chunk in read_chunks(path, how.digest):
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            size += len(piece)
            yield number, (b"".join([*parts, piece]) if size <= how.max_bytes else None)
            number, parts, size = number + 1, [], 0
        size += len(rest)
        parts = [*parts, rest] if size <= how.max_bytes else []
    if size:
        yield number, (b"".join(parts) if size <= how.max_bytes else None)


def _check_byte_order(path: Openable, first_line: bytes) -> None:
    """UTF-16 and UTF-32 cannot be cut at newline bytes; nearly all such files begin with a byte order mark."""
    if first_line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: this is UTF-16 or UTF-32 text; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")


def read_raw(path: Openable) -> Iterator[bytes]:
    """The bytes of a file as they are."""
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                yield data
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _encoding_hint(data: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    """What the bytes may be instead, tried in the order that is right for Japanese (CP932 before Shift_JIS)."""
    fits = []
    for candidate in ("utf-8", "cp932", "euc-jp", "gb18030"):
        if candidate != encoding.lower():
            with contextlib.suppress(UnicodeDecodeError):
                # EUC-JP is often valid CP932 too, but then reads as half-width katakana.
                fits.append((len(HALF_WIDTH.findall(data.decode(candidate))), candidate))
    if fits:
        best = min(fits, key=lambda fit: fit[0])[1]
        return f"not {encoding}; may be {best} (set the source's encoding): {excerpt(data)}"
    return f"not {encoding} at byte {error.start}: {excerpt(data)}"


def excerpt(data: bytes | str) -> str:
    """The beginning of something that is wrong, in ASCII."""
    return ascii(data[:80]).removeprefix("b")
