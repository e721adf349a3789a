"""Every format is read to its clean end, byte for byte, or not at all."""

import bz2
import gzip
import io
import lzma
import random
import struct
import zipfile

import pytest
import xxhash
import zstandard

from tsugiki.corpus.compression import CHUNK, FileDigest, read_chunks
from tsugiki.errors import DataError

TEXT = "".join(f'{{"text": "line {number}: 川は谷を覚えている {number * 7919}"}}\n' for number in range(3000)).encode()
PACK = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress, "txt": lambda data: data,
}  # fmt: skip
COMPRESSED = ["gz", "bz2", "xz", "zst"]


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.jsonl"), data)  # its time is fixed: workers must collect the same names
    return file.getvalue()


def read(path):
    digest = FileDigest()
    content = b"".join(read_chunks(path, digest))
    assert digest.hexdigest() == xxhash.xxh3_128_hexdigest(path.read_bytes())
    assert digest.bytes_read == path.stat().st_size
    return content


@pytest.mark.parametrize("ending", PACK)
def test_content_comes_back(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(PACK[ending](TEXT))
    assert read(path) == TEXT


@pytest.mark.parametrize("ending", COMPRESSED)
def test_members_and_frames_one_after_another_are_all_read(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(PACK[ending](TEXT) + PACK[ending](b"") + PACK[ending](b"end\n"))
    assert read(path) == TEXT + b"end\n"


def test_skippable_zstandard_frames_are_skipped(tmp_path):
    path = tmp_path / "a.zst"
    skippable = struct.pack("<II", 0x184D2A50, 8) + b"metadata"
    path.write_bytes(skippable + PACK["zst"](TEXT) + skippable)
    assert read(path) == TEXT


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_file_cut_anywhere_is_refused(tmp_path, ending):
    whole = PACK[ending](TEXT) + PACK[ending](TEXT[:5000])
    first = len(PACK[ending](TEXT))
    random.seed(1)
    places = {1, 2, 5, first - 1, first + 1, first + 3, len(whole) - 1, len(whole) - 4}
    places |= set(random.sample(range(1, len(whole)), 40))
    path = tmp_path / f"a.{ending}"
    for place in places - {first}:  # a cut between two members leaves a whole file
        path.write_bytes(whole[:place])
        with pytest.raises(DataError, match=r"a\..*(truncated|damaged|by its first bytes)"):
            read(path)


@pytest.mark.parametrize("ending", COMPRESSED)
def test_something_after_the_end_is_refused(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(PACK[ending](TEXT) + b"garbage after the end")
    with pytest.raises(DataError, match=f"a.{ending}: "):
        read(path)


@pytest.mark.parametrize("ending", ["gz", "xz"])
def test_zeros_after_a_member_are_the_padding_that_the_format_allows(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(PACK[ending](TEXT) + bytes(100) + PACK[ending](TEXT) + bytes(2 * CHUNK))
    assert read(path) == 2 * TEXT


@pytest.mark.parametrize("ending", COMPRESSED)
def test_pieces_stay_small_whatever_is_compressed(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(PACK[ending](bytes(60 << 20)))
    sizes = [len(chunk) for chunk in read_chunks(path)]
    assert sum(sizes) == 60 << 20
    assert max(sizes) <= 32 << 20


def test_a_flipped_bit_is_refused_where_the_format_has_a_checksum(tmp_path):
    pack = {**PACK, "zst": zstandard.ZstdCompressor(write_checksum=True).compress}
    random.seed(2)
    for ending in COMPRESSED:
        whole = bytearray(pack[ending](TEXT))
        path = tmp_path / f"a.{ending}"
        for _ in range(25):
            at = random.randrange(20, len(whole))  # behind a gzip header, whose name and time nothing covers
            changed = bytes(whole[:at]) + bytes([whole[at] ^ (1 << random.randrange(8))]) + bytes(whole[at + 1 :])
            path.write_bytes(changed)
            try:
                assert b"".join(read_chunks(path)) == TEXT  # a bit that nothing depends on
            except DataError:
                continue


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl.gz", b"", "the file is empty"),
        ("a.jsonl.zst", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("a.jsonl", b"\n<!DOCTYPE html><title>404</title>", "an HTML page"),
        ("a.jsonl.gz", b"<HTML>rate limited</HTML>", "an HTML page"),
        ("a.jsonl", gzip.compress(b"x", mtime=0), "by its first bytes this is gzip data"),
        ("a.jsonl.gz", zstandard.compress(b"x"), "by its first bytes this is zstd data"),
        ("a.jsonl.zst", b'{"text": "not compressed"}\n', "damaged zstd data"),
        ("a.jsonl", b"PAR1....", "by its first bytes this is parquet data"),
        ("a.jsonl", zipped(b"{}"), "a zip archive; unpack it"),
        ("a.jsonl.gz", zipped(b"{}"), "a zip archive; unpack it"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_recognised(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        b"".join(read_chunks(path))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jsonl: No such file"):
        list(read_chunks(tmp_path / "gone.jsonl"))


def test_a_zstandard_window_that_would_take_too_much_memory_is_refused(tmp_path):
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    path = tmp_path / "a.zst"
    stream = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    path.write_bytes(stream.compress(TEXT) + stream.flush())
    with pytest.raises(DataError, match="damaged zstd data"):
        read(path)


def test_chunks_keep_memory_bounded(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (3 * CHUNK + 7))
    assert [len(chunk) for chunk in read_chunks(path)] == [CHUNK, CHUNK, CHUNK, 7]
