"""Which checkpoints are released."""

from pathlib import Path

import pytest

from tsugiki.checkpoint_files import MANIFEST, render_manifest
from tsugiki.errors import RecipeError, StorageError
from tsugiki.release.choose import choose_checkpoints, parse_average


def make(run: Path, *names: str, missing: str = "") -> None:
    """Checkpoints in the order in which they were written, each with those before it as its line."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text("")
    for place, name in enumerate(names):
        folder = run / "checkpoints" / name
        folder.mkdir()
        content = {
            "format": 1, "step": int(name[5:13]), "lineage": "a", "ancestors": list(reversed(names[:place])),
            "files": {missing: {"size": 1, "xxh3": ""}} if missing and place == 1 else {}, "tensors": {},
        }  # fmt: skip
        (folder / MANIFEST).write_text(render_manifest(content))


def steps(found: tuple[Path, list[Path]]) -> list[str]:
    return [path.name for path in found[1]]


def test_the_newest_or_the_one_that_is_named(tmp_path):
    make(tmp_path, "step_00000002", "step_00000010", "step_00000030")
    assert steps(choose_checkpoints(tmp_path)) == ["step_00000030"]
    run, found = choose_checkpoints(tmp_path / "checkpoints/step_00000010")
    assert (run, [path.name for path in found]) == (tmp_path, ["step_00000010"])


def test_the_last_few_are_oldest_first_and_count_back_from_the_one_that_is_named(tmp_path):
    make(tmp_path, "step_00000002", "step_00000010", "step_00000030", "step_00000040")
    assert steps(choose_checkpoints(tmp_path, 3)) == ["step_00000010", "step_00000030", "step_00000040"]
    found = choose_checkpoints(tmp_path / "checkpoints/step_00000030", 2)
    assert steps(found) == ["step_00000010", "step_00000030"]


def test_what_the_run_went_back_from_and_what_another_left_is_not_averaged(tmp_path):
    make(tmp_path, "step_00000002", "step_00000010", "step_00000010_2", "step_00000030")
    newest = tmp_path / "checkpoints/step_00000030" / MANIFEST
    newest.write_text(render_manifest({
        "format": 1, "step": 30, "lineage": "a", "ancestors": ["step_00000010_2", "step_00000002"], "files": {}, "tensors": {},
    }))  # fmt: skip
    assert steps(choose_checkpoints(tmp_path, 3)) == ["step_00000002", "step_00000010_2", "step_00000030"]


def test_one_that_was_cut_off_does_not_count(tmp_path):
    make(tmp_path, "step_00000002", "step_00000010", "step_00000030", missing="shard.safetensors")
    assert steps(choose_checkpoints(tmp_path, 2)) == ["step_00000002", "step_00000030"]
    with pytest.raises(RecipeError, match=r"2 whole checkpoints up to step_00000030 \(of step 2, 30\).*last:2"):
        choose_checkpoints(tmp_path, 3)


def test_what_cannot_be_released_is_named(tmp_path):
    with pytest.raises(RecipeError, match="no such folder"):
        choose_checkpoints(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match=r"no recipe\.yaml"):
        choose_checkpoints(tmp_path)
    make(tmp_path)
    with pytest.raises(StorageError, match="no whole checkpoint yet"):
        choose_checkpoints(tmp_path)


@pytest.mark.parametrize("text", ["5", "last:1", "last:0", "last:", "first:3", "last:99999", "last: 3", "last:-2"])
def test_an_average_is_last_n(text):
    with pytest.raises(RecipeError, match="it is last:N"):
        parse_average(text)
    assert parse_average("last:5") == 5
