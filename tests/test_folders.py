"""A folder made anew: the old one or the whole new one, and nothing left beside it."""

import multiprocessing
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tsugiki.errors import StorageError
from tsugiki.folders import made_anew, only_one, tidy


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def make(target: Path, text: str) -> None:
    with only_one(target), made_anew(target) as work:
        (work / "below").mkdir()
        (work / "below/file").write_text(text)


def test_a_new_folder_takes_the_place_of_all_that_had_its_name(tmp_path: Path) -> None:
    target = tmp_path / "not/yet/folder"
    make(target, "old")
    (target / "more").write_text("")
    make(target, "new")
    assert contents(tmp_path) == {"not/yet/folder/below/file": "new"}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device", "f")])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    make(tmp_path / "folder", "old")

    def fail() -> None:
        with only_one(tmp_path / "folder"), made_anew(tmp_path / "folder") as work:
            (work / "file").write_text("half")
            raise error

    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        fail()
    assert contents(tmp_path) == {"folder/below/file": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_all_is_on_the_disk_before_the_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, sync = [], os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    make(tmp_path / "folder", "new")
    assert seen == [".folder.new/below/file", ".folder.new/below", ".folder.new", "."]


def test_a_former_folder_whose_name_was_taken_by_a_killed_process_gets_it_back(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    make(target, "old")
    target.rename(tmp_path / ".folder.old")
    make(tmp_path / ".folder.new", "half")
    tidy(target)
    assert contents(tmp_path) == {"folder/below/file": "old"}


def test_a_former_folder_that_cannot_get_its_name_back_at_once_is_kept_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "folder", Path.rename
    make(target, "old")

    def refuse(path: Path, name: Path) -> Path:
        if Path(name) == target:
            raise OSError(28, "No space left on device", str(name))
        return rename(path, name)

    with monkeypatch.context() as full:
        full.setattr(Path, "rename", refuse)
        with pytest.raises(StorageError, match="the disk is full"):
            make(target, "new")
    assert contents(tmp_path) == {".folder.old/below/file": "old"}
    tidy(target)
    assert contents(tmp_path) == {"folder/below/file": "old"}


def test_leftovers_beside_a_whole_folder_go(tmp_path: Path) -> None:
    for name, text in (("folder", "new"), (".folder.old", "old"), (".folder.new", "half")):
        make(tmp_path / name, text)
    (tmp_path / ".folder.lock").touch()
    tidy(tmp_path / "folder")
    assert contents(tmp_path) == {"folder/below/file": "new"}
    (tmp_path / ".folder.lock").touch()
    tidy(tmp_path / "folder")
    assert contents(tmp_path) == {"folder/below/file": "new"}


def add_one(target: Path) -> None:
    for _ in range(20):
        with only_one(target):
            count = int(target.with_suffix(".txt").read_text())
            target.with_suffix(".txt").write_text(str(count + 1))


def test_one_process_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    """Each removes the lock's file as it leaves, while others wait for it."""
    (tmp_path / "folder.txt").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_one, args=(tmp_path / "folder",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert (tmp_path / "folder.txt").read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["folder.txt"]


def test_who_waits_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two openings of the lock's file exclude each other as two processes do; the first ends when the other has spoken."""
    with ExitStack() as first:
        first.enter_context(only_one(tmp_path / "folder"))
        monkeypatch.setattr(caplog.handler, "emit", lambda record: (caplog.records.append(record), first.close()))
        with only_one(tmp_path / "folder"):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for another process, which is making {tmp_path / 'folder'}"
    ]


def test_what_another_process_is_making_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with only_one(target), made_anew(target) as work:
        (work / "file").write_text("")
        tidy(target)
        assert (work / "file").exists()
        with pytest.raises(StorageError), only_one(target, wait=False):
            pass
    assert contents(tmp_path) == {"folder/file": ""}


def test_a_link_to_a_folder_elsewhere_stays_and_its_folder_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/folder").symlink_to(tmp_path / "disk/folder")
    for text in ("first", "second", "third"):
        make(tmp_path / "run/folder", text)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["folder"]
    assert (tmp_path / "run/folder").is_symlink()
    assert contents(tmp_path / "disk") == {"folder/below/file": "third"}
