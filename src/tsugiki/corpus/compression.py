"""Bytes of a plain or compressed file, read to its clean end or not at all.

A truncated Zstandard file ends without an error in python-zstandard's stream reader, and a truncated gzip file
yields most of its lines before its error; both would be a silently shorter corpus. Here every format must reach the
end of its last frame, or DataError names the file.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xxhash
import zstandard

from tsugiki.errors import DataError

CHUNK = 1 << 20
MAX_WINDOW = 1 << 27
"""Largest Zstandard window accepted, in bytes (zstd -19 uses 2^23, --long 2^27): bounds memory."""

SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}

# First bytes of files that are not what their name says: what they are instead.
IMPOSTORS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the real file with `git lfs pull`",
    b"<!doctype": "an HTML page, most likely an error page that was saved in the file's place",
    b"<html": "an HTML page, most likely an error page that was saved in the file's place",
}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PAR1": "parquet"}


class FileDigest:
    """Digest of the raw bytes of a file as they are read, and how far the reading is."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()
        self.bytes_read = 0

    def update(self, data: bytes, *, advance: bool = True) -> None:
        """Take in the next bytes; without `advance`, `bytes_read` is left to the caller (who reads them twice)."""
        self._hash.update(data)
        self.bytes_read += len(data) if advance else 0

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def compression_of(path: Path) -> str | None:
    """`gzip`, `zstd`, `bzip2`, `xz` or None, by the file's ending."""
    return SUFFIXES.get(path.suffix.lower())


def read_chunks(path: Path, digest: FileDigest | None = None) -> Iterator[bytes]:
    """Decompressed bytes of `path` in chunks. Raises DataError for a damaged, truncated or empty file."""
    digest = digest or FileDigest()
    try:
        with path.open("rb") as file:
            first = file.read(CHUNK)
            check_beginning(path, first, expected=compression_of(path))
            raw = _raw_chunks(first, file, digest)
            kind = compression_of(path)
            yield from raw if kind is None else _decompress(raw, kind, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def check_beginning(path: Path, first: bytes, expected: str | None) -> None:
    """Raise DataError when a file's first bytes show that it is empty or not what its name says.

    `expected`: a value of MAGIC, or None for text.
    """
    if not first:
        raise DataError(f"{path}: the file is empty")
    start = first[:64].lstrip().lower()
    for beginning, what in IMPOSTORS.items():
        if start.startswith(beginning):
            raise DataError(f"{path}: this is {what}")
    found = next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), None)
    if found not in (None, expected):
        raise DataError(f"{path}: by its first bytes this is {found} data; give it the ending that says so")


def _raw_chunks(first: bytes, file: Any, digest: FileDigest) -> Iterator[bytes]:
    data = first
    while data:
        digest.update(data)
        yield data
        data = file.read(CHUNK)


def _decompress(raw: Iterator[bytes], kind: str, path: Path) -> Iterator[bytes]:
    """Frames or members one after another; each must end cleanly before the file does."""
    new: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lzma.LZMADecompressor,
        "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj(),
    }
    decoder, started = new[kind](), False
    try:
        for data in raw:
            while data:
                started = True
                out = decoder.decompress(data)
                if out:
                    yield out
                if not decoder.eof:
                    break
                data, decoder, started = decoder.unused_data, new[kind](), False
    except (zlib.error, OSError, lzma.LZMAError, EOFError, zstandard.ZstdError) as error:
        raise DataError(f"{path}: damaged {kind} data ({error})") from None
    if started:
        raise DataError(f"{path}: the {kind} data ends in the middle of a frame: the file is truncated")
