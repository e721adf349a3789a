"""Durable files: the old one or the whole new one, and refusals in words."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xxhash

from tsugiki.errors import DataError, StorageError
from tsugiki.files import (
    explain_os_error,
    free_bytes,
    fsync_directory,
    read_json,
    write_atomically,
    write_json,
    xxh3_file,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"\x00\xff", "川", b"", ""])
def test_what_is_written_is_read_back_and_nothing_else_is_left(tmp_path: Path, data: bytes | str) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    write_atomically(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names(tmp_path) == ["file"]


def test_a_file_has_the_mode_that_the_umask_allows(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("os.fsync", errno.ENOSPC),
        ("pathlib.Path.replace", errno.EACCES),
        ("os.open", errno.EROFS),
    ],
)
def test_a_refusal_keeps_the_old_file_and_leaves_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, kind: int
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(kind, os.strerror(kind))

    monkeypatch.setattr(function, refuse)
    with pytest.raises(StorageError) as refused:
        write_atomically(path, "new")
    assert str(path) in str(refused.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_file_is_flushed_before_it_takes_its_name_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "file", []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append(("directory" if is_directory else "file", path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"x")
    assert seen == [("file", False), ("directory", True)]


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = (
        "import itertools, sys; from pathlib import Path; from tsugiki.files import write_atomically\n"
        "for n in itertools.count(): write_atomically(Path(sys.argv[1]), bytes([n % 256]) * 1_000_000)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for moment in (0.01, 0.02, 0.035, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment)
        try:
            deadline = time.monotonic() + 60
            before = path.stat().st_mtime_ns if path.exists() else None
            while (path.stat().st_mtime_ns if path.exists() else None) == before and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(moment)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        content = path.read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1


def test_json_is_read_back_and_text_in_it_stays_readable(tmp_path: Path) -> None:
    value = {"名": ["川", 1, 2.5, None, True], "n": {"x": -1}}
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == value
    assert "川" in (tmp_path / "v.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_refused_and_writes_nothing(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "v.json", {"loss": number})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"{} {}"])
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"v\.json"):
        read_json(path)


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"v\.json: there is no such file"):
        read_json(tmp_path / "v.json")


def test_the_digest_is_that_of_the_whole_content(tmp_path: Path) -> None:
    content = os.urandom(100_000) * 200  # over two blocks
    (tmp_path / "f").write_bytes(content)
    assert xxh3_file(tmp_path / "f") == xxhash.xxh3_128_hexdigest(content)


def test_free_space_is_asked_where_a_folder_will_lie(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_a_directory_that_cannot_be_flushed_is_accepted_only_where_nothing_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_with(kind: int) -> None:
        def refuse(_: int) -> None:
            raise OSError(kind, os.strerror(kind))

        monkeypatch.setattr(os, "fsync", refuse)

    refuse_with(errno.EINVAL)
    fsync_directory(tmp_path)
    refuse_with(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        fsync_directory(tmp_path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "file-size limit"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EPIPE, os.strerror(errno.EPIPE)),
    ],
)
def test_refusals_are_explained_in_words(kind: int, words: str) -> None:
    message = explain_os_error(OSError(kind, os.strerror(kind)), "/data/x")
    assert message.startswith("Cannot write /data/x: ")
    assert words in message


def test_json_written_is_what_json_reads(tmp_path: Path) -> None:
    write_json(tmp_path / "v.json", [1])
    assert json.loads((tmp_path / "v.json").read_bytes()) == [1]
