"""What reading a file gives, whatever its format: documents and bad records, none passed over.

Nothing is inferred and nothing is lost: text is a string or the record is *bad*, with a kind and a place, and the
caller counts it. Lines are split at `\n` bytes only (U+2028, U+0085 and lone `\r` are text). Bytes are decoded
strictly; an encoding other than UTF-8 must be declared.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tsugiki.chat.conversations import detect_format
from tsugiki.corpus.compression import CHUNK, Openable
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
    part: int = 0  # of a text that was too long to be tokenised at once
    whole: str | None = None  # that text


@dataclass(frozen=True)
class BadRecord:
    """A record that gives no document: its kind, for counting, and where and what it is."""

    kind: str
    line: int
    detail: str


@dataclass(frozen=True)
class Reading:
    """What the recipe says of how a source's files are read."""

    text_key: str
    encoding: str
    max_bytes: int
    """Of a document."""
    as_records: bool = False
    """Whole records, as the JSON that they are, for sources of conversations."""
    split: int | None = None
    """Characters beyond which a text becomes several documents."""


def checked_text(text: Any, number: int, text_key: str) -> Document | BadRecord:
    """A value of a record as a document, if it is text that says something."""
    if not isinstance(text, str):
        return BadRecord("wrong type", number, f"{text_key!r} is {type(text).__name__}, not text")
    if not text.strip():
        return BadRecord("empty", number, "no text")
    try:
        text.encode("utf-8")  # a tenth of what it costs to search every text for surrogates
    except UnicodeEncodeError:
        return Document(SURROGATE.sub("\ufffd", text), number, replaced=True)
    return Document(text, number)


def split_document(document: Document, most: int) -> Iterator[Document]:
    """A document as several of at most so many characters, cut behind the last line end of a half of them, where there
    is one. Each is a document of its own; they stay on one side of the held-out split (`whole`)."""
    text, start, part = document.text, 0, 0
    while start < len(text):
        end = start + most
        if end < len(text):
            end = text.rfind("\n", start + most // 2, end) + 1 or end
        yield replace(document, text=text[start:end], part=part, whole=text)
        start, part = end, part + 1


def perhaps_chat(keys: Iterable[str]) -> str:
    """A hint where keys without a text are those of a conversation."""
    try:
        detect_format(dict.fromkeys(keys))
    except DataError:
        return ""
    return " (conversations are read with format: chat)"


def too_long(number: int, how: Reading) -> BadRecord:
    """A document over the limit."""
    return BadRecord("too long", number, f"over {how.max_bytes:,} bytes (data.max_document_bytes)")


def decoded(data: bytes, number: int, encoding: str) -> str | BadRecord:
    """Bytes as text, or the bad record that they are, with what they may be instead."""
    try:
        if b"\x1b" in data and _is_utf_8(encoding) and any(escape in data for escape in ISO_2022_JP):
            return BadRecord("encoding", number, "looks like ISO-2022-JP; set the source's encoding to iso-2022-jp")
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        return BadRecord("encoding", number, _encoding_hint(data, encoding, error))
    except UnicodeError as error:  # of codecs for names of hosts and the like
        return BadRecord("encoding", number, f"not {encoding}: {error}: {excerpt(data)}")


def read_raw(path: Openable) -> Iterator[bytes]:
    """The bytes of a file as they are."""
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                yield data
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _is_utf_8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


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
