"""A checkpoint is whole or not there, on one process."""

import errno
import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_scripts import Ranks
from safetensors.torch import load_file

from tsugiki import checkpoint_files
from tsugiki.checkpoint_files import (
    check_disk_space,
    free_name,
    newest_name,
    parse_name,
    read_manifest,
    render_manifest,
    verify,
)
from tsugiki.errors import StorageError
from tsugiki.files import fsync_directory
from tsugiki.training import checkpoint as checkpoint_module
from tsugiki.training import checkpoint_writer
from tsugiki.training.checkpoint import Checkpointer, size_estimate
from tsugiki.training.distributed import Processes

MakeCheckpointer = Callable[..., Checkpointer]


def make_tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model.embedding.weight": torch.randn(101, 8, generator=generator),
        "model.norm.weight": torch.randn(8, generator=generator).bfloat16(),
        "optimizer.embedding.weight.exp_avg": torch.randn(101, 8, generator=generator),
        "optimizer.embedding.weight.step": torch.tensor(float(seed)),
        "optimizer.counts": torch.arange(5, dtype=torch.int64) + seed,
    }


@pytest.fixture
def make_checkpointer(processes: Processes) -> MakeCheckpointer:
    def make(directory: Path, **settings: Any) -> Checkpointer:
        return Checkpointer(directory, processes, **{"lineage": "test", "keep_last": None, **settings})

    return make


def save(checkpointer: Checkpointer, step: int) -> Path:
    checkpointer.begin(step, make_tensors(step), {"step": step, "text": "接ぎ木"})
    name = checkpointer.wait_and_commit()
    assert name is not None
    return checkpointer.directory / name


def blank(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_what_is_loaded_is_what_was_saved(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    path = save(make_checkpointer(tmp_path), 3)
    assert path.name == "step_00000003"
    fresh = make_checkpointer(tmp_path)
    found = fresh.newest_whole()
    assert found is not None
    assert (found.path, found.step, found.state, found.warnings) == (path, 3, {"step": 3, "text": "接ぎ木"}, [])
    tensors = blank(make_tensors(3))
    places = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    fresh.load(found, tensors)
    assert_equal(tensors, make_tensors(3))
    assert places == {name: tensor.data_ptr() for name, tensor in tensors.items()}
    assert fresh.newest_name() == "step_00000003"


def test_shards_are_plain_safetensors(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    path = save(make_checkpointer(tmp_path), 3)
    assert_equal(load_file(path / "shard-00000-00001.safetensors"), make_tensors(3))


def test_a_step_taken_while_the_save_is_in_flight_does_not_leak_into_it(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = threading.Event()
    write = checkpoint_writer._write_safetensors

    def write_late(*arguments: Any) -> tuple[int, str]:
        assert changed.wait(60)
        return write(*arguments)

    monkeypatch.setattr(checkpoint_writer, "_write_safetensors", write_late)
    checkpointer = make_checkpointer(tmp_path)
    for step in (1, 2):  # the second uses the buffers of the first
        tensors = make_tensors(step)
        changed.clear()
        checkpointer.begin(step, tensors, {})
        checkpointer.wait_copied()
        assert not checkpointer.local_done()
        for tensor in tensors.values():
            tensor.fill_(77)
        changed.set()
        checkpointer.wait_and_commit()
        found = checkpointer.newest_whole()
        assert found is not None
        loaded = blank(tensors)
        checkpointer.load(found, loaded)
        assert_equal(loaded, make_tensors(step))


def test_begin_does_not_wait_for_the_copy_but_wait_copied_does(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    copy = checkpoint_writer.Stager._copy

    def copy_late(*arguments: Any) -> Any:
        assert go_on.wait(60)
        return copy(*arguments)

    monkeypatch.setattr(checkpoint_writer.Stager, "_copy", copy_late)
    checkpointer = make_checkpointer(tmp_path)
    tensors = make_tensors(1)
    checkpointer.begin(1, tensors, {})  # returns while the copy is held up
    timer = threading.Timer(0.2, go_on.set)
    timer.start()
    checkpointer.wait_copied()
    assert go_on.is_set()
    for tensor in tensors.values():
        tensor.fill_(77)
    checkpointer.wait_and_commit()
    found = checkpointer.newest_whole()
    assert found is not None
    loaded = blank(tensors)
    checkpointer.load(found, loaded)
    assert_equal(loaded, make_tensors(1))


def test_training_goes_on_while_a_slow_disk_publishes(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def flush_late(path: Path) -> None:
        assert go_on.wait(60)
        fsync_directory(path)

    checkpointer = make_checkpointer(tmp_path)
    checkpointer.begin(1, make_tensors(1), {})
    while not checkpointer.local_done():
        pass
    monkeypatch.setattr(checkpoint_module, "fsync_directory", flush_late)
    assert checkpointer.proceed() is None  # returns while the flush is held up
    assert not checkpointer.local_done()
    assert checkpointer.newest_name() is None
    go_on.set()
    while not checkpointer.local_done():
        pass
    assert checkpointer.proceed() == "step_00000001" == checkpointer.newest_name()
    assert checkpointer.proceed() is None


def test_a_publication_that_fails_is_told_and_leaves_no_checkpoint(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "write_atomically", refuse)
        checkpointer.begin(2, make_tensors(2), {})
        assert checkpointer.proceed() is None
        with pytest.raises(StorageError, match=r"step_00000002 was not saved.*input/output error.*is step_00000001"):
            checkpointer.proceed()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001"]
    assert save(checkpointer, 2).name == "step_00000002"


def test_a_copy_that_fails_is_told_by_commit_and_leaves_no_checkpoint(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)

    def fail(*_: Any) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(checkpoint_writer.Stager, "_copy", fail)
    checkpointer.begin(2, make_tensors(2), {})
    checkpointer.wait_copied()
    with pytest.raises(StorageError, match=r"device lost.*the last one is step_00000001"):
        checkpointer.commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001"]


def test_tensors_may_come_and_go_between_saves(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)
    later = make_tensors(2) | {"optimizer.unfrozen.exp_avg": torch.ones(3)}
    del later["optimizer.counts"]
    checkpointer.begin(2, later, {})
    checkpointer.wait_and_commit()
    found = checkpointer.newest_whole()
    assert found is not None
    loaded = blank(later)
    checkpointer.load(found, loaded)
    assert_equal(loaded, later)


def test_polling_says_when_the_writing_has_ended(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    checkpointer = make_checkpointer(tmp_path)
    assert not checkpointer.local_done()
    assert checkpointer.commit() is None
    checkpointer.begin(1, make_tensors(1), {})
    assert newest_name(tmp_path) is None
    while not checkpointer.local_done():
        pass
    assert newest_name(tmp_path) is None  # written is not committed
    assert checkpointer.commit() == "step_00000001" == newest_name(tmp_path)
    assert not checkpointer.local_done()


@pytest.mark.parametrize(("file_bytes", "files"), [(1, 5), (4000, 2)])
def test_large_shards_are_cut_into_files(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch, file_bytes: int, files: int
) -> None:
    monkeypatch.setattr(checkpoint_writer, "FILE_BYTES", file_bytes)
    checkpointer = make_checkpointer(tmp_path)
    path = save(checkpointer, 3)
    assert len(list(path.glob("*.safetensors"))) == files
    found = checkpointer.newest_whole()
    assert found is not None
    tensors = blank(make_tensors(3))
    checkpointer.load(found, tensors)
    assert_equal(tensors, make_tensors(3))


def test_a_flipped_bit_in_any_file_is_noticed_and_the_previous_one_used(
    tmp_path: Path, make_checkpointer: MakeCheckpointer
) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)
    newest = save(checkpointer, 2)
    draw = random.Random(0)
    for file in sorted(newest.iterdir()):
        good = file.read_bytes()
        places = {0, len(good) - 1, *(draw.randrange(len(good)) for _ in range(10))}
        for place in places:
            bad = bytearray(good)
            bad[place] ^= 1 << draw.randrange(8)
            file.write_bytes(bad)
            found = make_checkpointer(tmp_path).newest_whole()
            assert found is not None
            assert found.step == 1
            assert len(found.warnings) == 1
            assert "step_00000002 is passed over" in found.warnings[0]
            assert file.name in found.warnings[0]
            assert verify(newest)
        file.write_bytes(good)
    assert verify(newest) == []


def test_missing_cut_and_foreign_pieces_are_named(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)
    for step in (2, 3, 4):
        save(checkpointer, step)
    (tmp_path / "step_00000002" / "shard-00000-00001.safetensors").unlink()
    with (tmp_path / "step_00000003" / "state.json").open("ab") as file:
        file.truncate(3)
    (tmp_path / "step_00000004" / "manifest.json").unlink()
    (tmp_path / "step_00000005.tmp-0123456789ab").mkdir()
    (tmp_path / "step_00000006_copy").mkdir()
    found = make_checkpointer(tmp_path).newest_whole()
    assert found is not None
    assert found.step == 1
    cut_off, four, three, two = found.warnings
    assert "step_00000005.tmp-0123456789ab is a save that was cut off" in cut_off
    assert "has no manifest.json" in four
    assert "state.json has 3 bytes" in three
    assert "shard-00000-00001.safetensors is missing" in two
    assert newest_name(tmp_path) == "step_00000001"


def test_without_a_whole_checkpoint_none_is_found(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    assert make_checkpointer(tmp_path / "nowhere").newest_whole() is None
    path = save(make_checkpointer(tmp_path), 1)
    (path / "manifest.json").write_text("{}")
    checkpointer = make_checkpointer(tmp_path)
    assert checkpointer.newest_whole() is None
    assert "manifest.json is damaged" in checkpointer.warnings[0]


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    save(make_checkpointer(tmp_path), 1)
    save(make_checkpointer(tmp_path, lineage="other"), 9)
    found = make_checkpointer(tmp_path).newest_whole()
    assert found is not None
    assert found.step == 1
    assert "it belongs to another run (other, not test)" in found.warnings[0]


def test_a_name_is_never_written_twice(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)
    damaged = save(checkpointer, 2)
    (damaged / "state.json").write_text("{")
    found = make_checkpointer(tmp_path).newest_whole()
    assert found is not None
    again = make_checkpointer(tmp_path)
    again.load(found, make_tensors(1))
    path = save(again, 2)
    assert path.name == "step_00000002_2"
    manifest = read_manifest(path)
    assert (manifest["parent"], manifest["ancestors"]) == ("step_00000001", ["step_00000001"])
    newest = make_checkpointer(tmp_path).newest_whole()
    assert newest is not None
    assert newest.path == path


def test_names_sort_by_number() -> None:
    texts = ["step_00000500", "step_00000500_2", "step_00000500_10", "step_99999999", "step_100000000"]
    names = [parse_name(text) for text in texts]
    assert None not in names
    assert sorted(names) == names  # type: ignore[type-var]
    assert [str(name) for name in names] == texts
    for text in ["step_5", "step_00000500_1", "step_00000500_02", "step_00000500.tmp-0123456789ab", "step_0000050x"]:
        assert parse_name(text) is None


def test_manifest_is_a_function_of_its_content(tmp_path: Path) -> None:
    text = render_manifest({"format": 1, "files": {"ä": {"size": 1}}})
    assert render_manifest(json.loads(text)) == text
    (tmp_path / "manifest.json").write_text(render_manifest({"format": 2}))
    with pytest.raises(StorageError, match=r"has format 2, .* reads 1"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), "model.norm.weight is in the checkpoint but not in this run"),
        (lambda t: t.update(new=torch.zeros(1)), "new is not in the checkpoint"),
        (
            lambda t: t.update({"model.norm.weight": torch.zeros(8)}),
            "model.norm.weight has dtype bfloat16 in the checkpoint, float32 here",
        ),
        (
            lambda t: t.update({"model.embedding.weight": torch.zeros(102, 8)}),
            "model.embedding.weight has shape [101, 8] in the checkpoint, [102, 8] here",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_before_any_is_touched(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, change: Any, message: str
) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)
    found = checkpointer.newest_whole()
    assert found is not None
    tensors = blank(make_tensors(1))
    change(tensors)
    with pytest.raises(StorageError) as caught:
        checkpointer.load(found, tensors)
    assert message in str(caught.value)
    assert all(not tensor.any() for tensor in tensors.values())


def test_misuse_is_refused(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    checkpointer = make_checkpointer(tmp_path)
    with pytest.raises(TypeError, match="belongs into state: lr"):
        checkpointer.begin(1, {"lr": 0.1}, {})  # type: ignore[dict-item]
    with pytest.raises(StorageError, match="not JSON compliant"):
        checkpointer.begin(1, make_tensors(1), {"loss": float("nan")})
    with pytest.raises(RuntimeError, match="lineage"):
        make_checkpointer(tmp_path, lineage=None).begin(1, make_tensors(1), {})
    checkpointer.begin(1, make_tensors(1), {})
    with pytest.raises(RuntimeError, match="in flight"):
        checkpointer.begin(2, make_tensors(2), {})
    checkpointer.wait_and_commit()


def test_size_estimate_is_what_is_written(tmp_path: Path, make_checkpointer: MakeCheckpointer) -> None:
    path = save(make_checkpointer(tmp_path), 1)
    written = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    assert 0 < written - size_estimate(make_tensors(1)) < 2000


def test_room_for_the_checkpoints_is_checked_before_the_first(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_disk_space(tmp_path, 1000, 3)
    monkeypatch.setattr(checkpoint_files, "free_bytes", lambda path: 3999)
    with pytest.raises(StorageError, match=r"3 to keep and one being written"):
        check_disk_space(tmp_path, 1000, 3)
    save(make_checkpointer(tmp_path), 1)  # newer ones replace it, so its bytes count as room
    check_disk_space(tmp_path, 1000, 3)


def test_no_save_begins_on_a_full_disk(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)
    left = tmp_path / "step_00000009.tmp-0123456789ab"
    left.mkdir()
    monkeypatch.setattr(checkpoint_module, "free_bytes", lambda path: 10)
    with pytest.raises(StorageError, match="the disk is full"):
        save(checkpointer, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]  # what a crash left made way first


def test_enospc_is_named_and_nothing_is_lost(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = make_checkpointer(tmp_path)
    save(checkpointer, 1)

    def full(*arguments: Any) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer, "_write_safetensors", full)
        with pytest.raises(
            StorageError, match=r"step_00000002 was not saved.*the disk is full.*last one is step_00000001"
        ):
            save(checkpointer, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert save(checkpointer, 2).name == "step_00000002"  # and the run can go on


def test_a_disk_that_returns_other_bytes_is_noticed_while_saving(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checkpoint_writer._write_safetensors

    def write_wrongly(path: Path, *arguments: Any) -> tuple[int, str]:
        result = write(path, *arguments)
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        return result

    monkeypatch.setattr(checkpoint_writer, "_write_safetensors", write_wrongly)
    with pytest.raises(StorageError, match="holds other bytes than were written"):
        save(make_checkpointer(tmp_path), 1)


FILE_SIZE_LIMIT = """
import resource, sys, pathlib, torch
from tsugiki.errors import StorageError
from tsugiki.training.checkpoint import Checkpointer
from tsugiki.training.distributed import start_processes
checkpointer = Checkpointer(pathlib.Path(sys.argv[1]), start_processes(), lineage="test")
checkpointer.begin(1, {"a": torch.ones(100)}, {})
checkpointer.wait_and_commit()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
checkpointer.begin(2, {"a": torch.ones(100), "b": torch.ones(100_000)}, {})
try:
    checkpointer.wait_and_commit()
except StorageError as error:
    print(error)
"""


def test_a_file_size_limit_is_named_and_the_previous_checkpoint_is_intact(tmp_path: Path, ranks: Ranks) -> None:
    script, checkpoints = tmp_path / "limited.py", tmp_path / "checkpoints"
    script.write_text(FILE_SIZE_LIMIT)
    (said,) = ranks(script, [[checkpoints]])
    assert "would pass the file-size limit of this shell (`ulimit -f`)" in said
    assert "shard-00000-00001.safetensors" in said
    assert [path.name for path in checkpoints.iterdir()] == ["step_00000001"]
    assert verify(checkpoints / "step_00000001") == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="a small tmpfs needs root")
def test_a_full_disk_is_named_and_the_previous_checkpoint_is_intact(
    tmp_path: Path, make_checkpointer: MakeCheckpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        checkpointer = make_checkpointer(tmp_path / "checkpoints")
        save(checkpointer, 1)
        monkeypatch.setattr(checkpoint_module, "free_bytes", lambda path: 1 << 40)  # Lustre may say so
        checkpointer.begin(2, {"model.large": torch.ones(50_000)}, {})
        with pytest.raises(StorageError, match="the disk is full"):
            checkpointer.wait_and_commit()
        assert [path.name for path in checkpointer.directory.iterdir()] == ["step_00000001"]
        assert verify(checkpointer.directory / "step_00000001") == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_free_name_passes_over_files_too(tmp_path: Path) -> None:
    (tmp_path / "step_00000001").write_text("mine")
    assert str(free_name(tmp_path, 1)) == "step_00000001_2"
