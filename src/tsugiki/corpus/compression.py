"""Bytes of a plain or compressed file, read to its clean end or not at all.

A truncated Zstandard file ends without an error in python-zstandard's stream reader, and a truncated gzip file
yields most of its lines before its error; both would be a silently shorter corpus. Here every format must reach the
end of its last frame, or DataError names the file.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, Protocol

import xxhash
import zstandard

from tsugiki.errors import DataError

CHUNK = 1 << 20
COMPRESSED_CHUNK = 1 << 16
"""Bytes read at a time of a compressed file: what comes of them is told as read when they are."""
MAX_WINDOW = 1 << 27
"""Largest Zstandard window accepted, in bytes (zstd -19 uses 2^23, --long 2^27): bounds memory."""
ZSTD_SLICE = 1 << 10
"""Compressed bytes given to Zstandard at a time: they stand for at most 32 MB."""

SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}

# First bytes, in lower case, of files that are not what their name says: what they are instead.
IMPOSTORS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the real file with `git lfs pull`",
    b"<!doctype": "an HTML page, most likely an error page that was saved in the file's place",
    b"<html": "an HTML page, most likely an error page that was saved in the file's place",
    b"pk\x03\x04": "a zip archive; unpack it and give the files that it holds",
}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PAR1": "parquet"}


class Openable(Protocol):
    """What is read: a `pathlib.Path`, or a file of the hub that answers like one; `str` of it names it in errors."""

    @property
    def name(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...


class FileDigest:
    """Digest of the raw bytes of a file as they are read, and how far the reading is."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()
        self.bytes_read = 0
        self.passed = 0
        """About how many of them hold the records that have been given out."""

    def update(self, data: bytes, *, advance: bool = True) -> None:
        """Take in the next bytes; without `advance`, `bytes_read` is left to the caller (who reads them twice)."""
        self._hash.update(data)
        self.bytes_read += len(data) if advance else 0

    def pass_all(self) -> None:
        """All records of what has been read have been given out."""
        self.passed = self.bytes_read

    def hexdigest(self) -> str:
        """Of what has been read so far."""
        return self._hash.hexdigest()


def compression_of(path: Openable) -> str | None:
    """`gzip`, `zstd`, `bzip2`, `xz` or None, by the file's ending."""
    return SUFFIXES.get(path.suffix.lower())


def read_chunks(path: Openable, digest: FileDigest | None = None) -> Iterator[bytes]:
    """Decompressed bytes of `path` in chunks. Raises DataError for a damaged, truncated or empty file."""
    digest = digest or FileDigest()
    try:
        with path.open("rb") as file:
            kind = compression_of(path)
            size = COMPRESSED_CHUNK if kind else CHUNK
            first = file.read(size)
            check_beginning(path, first, expected=kind)
            raw = _raw_chunks(first, file, size, digest)
            yield from raw if kind is None else _decompress(raw, kind, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def check_beginning(path: Openable, first: bytes, expected: str | None) -> None:
    """Raise DataError when a file's first bytes show that it is empty or not what its name says.

    `expected`: a value of MAGIC, or None for text.
    """
    if not first:
        raise DataError(f"{path}: the file is empty")
    start = first[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, what in IMPOSTORS.items():
        if start.startswith(beginning):
            raise DataError(f"{path}: this is {what}")
    found = next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), None)
    if found not in (None, expected):
        raise DataError(f"{path}: by its first bytes this is {found} data; give it the ending that says so")


def _raw_chunks(first: bytes, file: Any, size: int, digest: FileDigest) -> Iterator[bytes]:
    data = first
    while data:
        digest.update(data)
        yield data
        data = file.read(size)


def _decompress(raw: Iterator[bytes], kind: str, path: Openable) -> Iterator[bytes]:
    """Frames or members one after another; each must end cleanly before the file does.

    Pieces are of bounded size whatever the data: a kilobyte of zeros compressed well stands for 32 MB.
    """
    new = DECODERS[kind]
    decoder, started = new(), False
    try:
        for data in raw:
            rest = data
            while rest:
                if not started and kind in ("gzip", "xz"):
                    rest = rest.lstrip(b"\0")  # both formats allow zeros after a member, as tape and xz padding
                    if not rest:
                        break
                started = True
                yield from decoder.feed(rest)
                if not decoder.eof:
                    break
                rest, decoder, started = decoder.unused, new(), False
    except (zlib.error, OSError, lzma.LZMAError, EOFError, zstandard.ZstdError, ValueError) as error:
        raise DataError(f"{path}: damaged {kind} data ({error})") from None
    if started:
        raise DataError(f"{path}: the {kind} data ends in the middle of a frame: the file is truncated")


class _Decoder:
    """One bzip2 stream or one xz stream: `feed` yields the bytes of the next input in pieces of at most CHUNK."""

    def __init__(self, decoder: Any):
        self._decoder = decoder

    @property
    def eof(self) -> bool:
        """Whether the frame has ended cleanly."""
        return self._decoder.eof

    @property
    def unused(self) -> bytes:
        """What followed the end of the frame in the last input."""
        return self._decoder.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        out = self._decoder.decompress(data, CHUNK)
        while True:
            if out:
                yield out
            if self._decoder.eof or self._decoder.needs_input:
                return
            out = self._decoder.decompress(b"", CHUNK)


class _GzipDecoder(_Decoder):
    """One gzip member."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        # A full piece may have more behind it even when all input is taken.
        out = b""
        while not self._decoder.eof and (data or len(out) == CHUNK):
            out = self._decoder.decompress(data, CHUNK)
            if out:
                yield out
            data = self._decoder.unconsumed_tail


class _ZstdDecoder(_Decoder):
    """One Zstandard frame (a skippable one gives no bytes). The library has no output limit, so input is fed in
    slices: a block of 128 kB takes at least 4 bytes. Slices cost nothing measurable."""

    def __init__(self, decoder: Any):
        super().__init__(decoder)
        self._after = b""

    @property
    def unused(self) -> bytes:
        return self._decoder.unused_data + self._after

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_SLICE):
            out = self._decoder.decompress(data[start : start + ZSTD_SLICE])
            if out:
                yield out
            if self._decoder.eof:
                self._after = data[start + ZSTD_SLICE :]
                return


DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: _GzipDecoder(zlib.decompressobj(wbits=31)),
    "bzip2": lambda: _Decoder(bz2.BZ2Decompressor()),
    "xz": lambda: _Decoder(lzma.LZMADecompressor(memlimit=1 << 30)),
    "zstd": lambda: _ZstdDecoder(zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()),
}
