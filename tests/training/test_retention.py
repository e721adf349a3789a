"""Nothing is deleted but what a newer, verified checkpoint of the same run makes superfluous."""

import shutil
import threading
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.checkpoint_files import Name, list_names
from tsugiki.training import retention
from tsugiki.training.checkpoint import Checkpointer
from tsugiki.training.distributed import Processes
from tsugiki.training.loop import train
from tsugiki.training.retention import superseded

TENSORS = {"a": torch.ones(3)}


def save(checkpointer: Checkpointer, *steps: int) -> None:
    for step in steps:
        checkpointer.begin(step, TENSORS, {"step": step})
        checkpointer.wait_and_commit()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_newest_and_every_mth_stay(tmp_path: Path, processes: Processes) -> None:
    save(Checkpointer(tmp_path, processes, lineage="x", keep_last=2, keep_every=1000), *range(500, 10_501, 500))
    kept = [name.step for name in reversed(list_names(tmp_path))]
    assert kept == [*range(1000, 10_001, 1000), 10_500]


def test_without_keep_every_the_last_ones_stay_and_no_other(tmp_path: Path, processes: Processes) -> None:
    checkpointer = Checkpointer(tmp_path, processes, lineage="x", keep_last=2)
    for step, kept in ((100, [100]), (200, [100, 200]), (300, [200, 300]), (1000, [300, 1000]), (1100, [1000, 1100])):
        save(checkpointer, step)
        assert names(tmp_path) == [f"step_{step:08d}" for step in kept]


def test_a_run_that_was_killed_at_its_end_deletes_the_rest_when_it_is_opened_again(
    tmp_path: Path, processes: Processes
) -> None:
    save(Checkpointer(tmp_path, processes, lineage="x", keep_last=None), 1, 2, 3)
    checkpointer = Checkpointer(tmp_path, processes, lineage="x", keep_last=1)
    found = checkpointer.newest_whole()
    assert found is not None
    assert len(names(tmp_path)) == 3
    checkpointer.load(found, {"a": torch.zeros(3)})
    checkpointer.retain_loaded()
    assert names(tmp_path) == ["step_00000003"]


def test_other_lineages_unknown_names_and_damaged_manifests_are_never_touched(
    tmp_path: Path, processes: Processes
) -> None:
    save(Checkpointer(tmp_path, processes, lineage="other"), 1)
    save(Checkpointer(tmp_path, processes, lineage="x"), 2, 3)
    (tmp_path / "step_00000003" / "manifest.json").write_text("{")
    foreign = ["step_5", "step_00000001.tmp-mine", "step_00000001.bak", "best", "export"]
    for name in foreign:
        (tmp_path / name).mkdir()
    (tmp_path / "step_00000001.tmp-0123456789ab").mkdir()  # left by crashes: these are ours
    (tmp_path / ".trash-step_00000001-0123456789ab").mkdir()
    (tmp_path / "notes.txt").write_text("keep")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "step_00000004").symlink_to(outside)
    save(Checkpointer(tmp_path, processes, lineage="x", keep_last=1), 10)
    assert names(tmp_path) == sorted(
        [*foreign, "notes.txt", "step_00000001", "step_00000003", "step_00000004", "step_00000010"]
    )
    assert outside.exists()


def test_a_damaged_newer_one_does_not_push_out_the_new(tmp_path: Path, processes: Processes) -> None:
    first = Checkpointer(tmp_path, processes, lineage="x", keep_last=1)
    save(first, 1, 2, 3)
    (tmp_path / "step_00000003").rename(tmp_path / "step_00000009")  # as if the run had gone on and been damaged
    (tmp_path / "step_00000009" / "state.json").write_text("{")
    second = Checkpointer(tmp_path, processes, lineage="x", keep_last=1)
    save(second, 4)
    assert names(tmp_path) == ["step_00000004", "step_00000009"]
    save(second, 9)
    assert names(tmp_path) == ["step_00000009_2"]  # passed at last


def test_a_failed_deletion_is_a_warning(tmp_path: Path, processes: Processes, monkeypatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    checkpointer = Checkpointer(tmp_path, processes, lineage="x", keep_last=1)
    with monkeypatch.context() as patch:
        patch.setattr(retention.shutil, "rmtree", refuse)
        save(checkpointer, 1, 2)
    assert len(checkpointer.warnings) == 1
    assert f"could not delete {tmp_path}/.trash-step_00000001-" in checkpointer.warnings[0]
    save(checkpointer, 3)  # which tries again
    assert names(tmp_path) == ["step_00000003"]


def test_a_run_says_what_could_not_be_deleted(open_tiny, monkeypatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(retention.shutil, "rmtree", refuse)
    run = open_tiny(**{"training.max_steps": 3, "training.save_steps": 1, "training.save_total_limit": 1})
    assert train(run, [])
    told = [line for line in run.said if line.startswith("warning: could not delete ")]
    assert len(told) == 2
    assert ".trash-step_00000001-" in told[0]
    assert told[0].endswith(": Permission denied")


def test_deleting_does_not_hold_training_up(tmp_path: Path, processes: Processes, monkeypatch) -> None:
    go_on, remove = threading.Event(), shutil.rmtree

    def remove_slowly(path: Path) -> None:
        assert go_on.wait(60)
        remove(path)

    monkeypatch.setattr(retention.shutil, "rmtree", remove_slowly)
    checkpointer = Checkpointer(tmp_path, processes, lineage="x", keep_last=1)
    save(checkpointer, 1)
    checkpointer.begin(2, TENSORS, {})
    assert checkpointer.commit() == "step_00000002"
    assert [str(name) for name in list_names(tmp_path)] == ["step_00000002"]
    go_on.set()
    checkpointer.begin(3, TENSORS, {})
    checkpointer.wait_and_commit()
    assert names(tmp_path) == ["step_00000003"]


all_names = st.builds(Name, st.integers(0, 40), st.integers(1, 3))


@given(
    own=st.sets(all_names),
    newest=all_names,
    ancestors=st.sets(all_names),
    keep_last=st.integers(0, 4) | st.none(),
    keep_every=st.integers(1, 7) | st.none(),
)
def test_what_is_deleted_is_older_than_the_new_one_and_not_asked_to_stay(own, newest, ancestors, keep_last, keep_every):
    deleted = superseded(own, newest, ancestors, keep_last, keep_every)
    assert set(deleted) <= own
    assert all(name < newest for name in deleted)
    if keep_last is None:
        assert deleted == []
        return
    if keep_every:
        assert all(name.step % keep_every for name in deleted)
    left = own - set(deleted)
    line = sorted(((own & ancestors) | {newest}), reverse=True)
    assert all(name in left or name == newest for name in line[: max(keep_last, 1)])
    assert superseded(left, newest, ancestors, keep_last, keep_every) == []
