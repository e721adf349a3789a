"""Parts of a file, of half a megabyte or so, that travel to the processes which make documents of them.

To find where records end is cheap, to parse them is not: so whoever reads a file cuts it into pieces, and each piece
knows how its documents are found. What a piece holds depends on the file alone, not on how its bytes arrived.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tsugiki.corpus.compression import FileDigest, Openable, read_chunks
from tsugiki.corpus.records import BOM, BadRecord, Document, Reading, decoded, too_long
from tsugiki.errors import DataError

PIECE = 1 << 19
"""Bytes of a piece: a tenth of a second's work for the reference tokenizer."""
RECORDS_PIECE = 1 << 15
"""Of records of conversations: to render one takes some thirty times as long as to tokenise it."""
GIVEN_DOCUMENTS = 256

Found = Document | BadRecord


class Piece(Protocol):
    """Some records of one file, in its order."""

    @property
    def size(self) -> int:
        """About how many bytes of text it has."""
        ...

    def items(self, how: Reading) -> Iterator[Found]:
        """Its documents and bad records."""
        ...


Reader = Callable[[Openable, Reading, FileDigest], Iterator[Found]]
"""Reads one file, front to back, in constant memory; the digest is of its bytes as they pass."""
Cutter = Callable[[Openable, Reading, FileDigest], Iterator[Piece]]
"""Cuts one file in the same way."""


@dataclass(frozen=True)
class Given:
    """Documents that were found by whoever read the file."""

    found: list[Found]
    size: int

    def items(self, how: Reading) -> Iterator[Found]:
        """As given."""
        return iter(self.found)


def piece_bytes(how: Reading) -> int:
    """About how large a piece is."""
    return RECORDS_PIECE if how.as_records else PIECE


def given(read: Reader) -> Cutter:
    """The cutter of a format whose documents cannot be found piece by piece, or at no cost: `read` gives them."""

    def cut(path: Openable, how: Reading, digest: FileDigest) -> Iterator[Piece]:
        found: list[Found] = []
        size, most = 0, piece_bytes(how)
        for item in read(path, how, digest):
            found.append(item)
            size += len(item.text) if isinstance(item, Document) else 0
            if len(found) >= GIVEN_DOCUMENTS or size >= most:
                digest.pass_all()
                yield Given(found, size)
                found, size = [], 0
        digest.pass_all()
        if found:
            yield Given(found, size)

    return cut


@dataclass(frozen=True)
class Lines:
    """Whole lines of a text file: the number of the first, from 1, and their bytes."""

    first: int
    data: bytes

    @property
    def size(self) -> int:
        """Of its bytes."""
        return len(self.data)

    def lines(self, how: Reading) -> Iterator[tuple[int, str | BadRecord]]:
        """The lines that are not blank, without their ending: number, and text or what is wrong."""
        data = self.data.removeprefix(BOM) if self.first == 1 else self.data
        for number, line in enumerate(data.split(b"\n"), self.first):
            if len(line) > how.max_bytes:
                yield number, too_long(number, how)
            elif line.strip():
                yield number, decoded(line.removesuffix(b"\r"), number, how.encoding)


@dataclass(frozen=True)
class TooLong:
    """A line over the limit, whose bytes nobody has kept."""

    line: int
    size = 0

    def lines(self, how: Reading) -> Iterator[tuple[int, BadRecord]]:
        """What is wrong with it."""
        yield self.line, too_long(self.line, how)

    def items(self, how: Reading) -> Iterator[BadRecord]:
        """The same."""
        yield too_long(self.line, how)


def cut_lines(path: Openable, how: Reading, digest: FileDigest) -> Iterator[Lines | TooLong]:
    """The lines of a file in pieces: cut at the last line end of so many bytes, or else at the next one. Lines end at
    `\\n` bytes only."""
    rest, number, passed, come, most = bytearray(), 1, 0, 0, piece_bytes(how)
    dropping = False  # in the middle of a line that is too long
    searched = 0  # bytes of `rest` that have no line end: a long line comes in thousands of chunks

    def told(data: bytes) -> bytes:
        """Bytes that are given out: how far that is in the file, in proportion to what has come of it."""
        nonlocal passed
        passed += len(data)
        digest.passed = max(digest.passed, digest.bytes_read * passed // max(come, 1))
        return data

    for chunk in read_chunks(path, digest):
        if come == 0:
            _check_byte_order(path, chunk)
        come += len(chunk)
        rest += chunk
        while len(rest) >= most or dropping:
            end = rest.find(b"\n", searched)
            if dropping or end == -1 or end >= most:
                if end == -1:
                    if dropping or len(rest) > how.max_bytes:
                        told(bytes(rest))
                        rest, dropping = bytearray(), True
                    searched = len(rest)
                    break
                line = told(bytes(rest[: end + 1]))
                yield TooLong(number) if dropping else Lines(number, line[:-1])
                number, dropping, searched = number + 1, False, 0
                del rest[: end + 1]
                continue
            end = rest.rfind(b"\n", 0, most)
            data = told(bytes(rest[:end]))
            del rest[: end + 1]
            searched = 0
            yield Lines(number, data)
            number += data.count(b"\n") + 1
    digest.pass_all()
    if dropping:
        yield TooLong(number)
    elif rest:
        yield Lines(number, bytes(rest))


def _check_byte_order(path: Openable, beginning: bytes) -> None:
    """UTF-16 and UTF-32 cannot be cut at newline bytes; nearly all such files begin with a byte order mark."""
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: this is UTF-16 or UTF-32 text; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
