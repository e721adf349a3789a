"""What a recipe names is found where a run was moved to."""

from pathlib import Path

import pytest

from tsugiki.moved import found_at


@pytest.mark.parametrize(
    ("own", "named", "folder", "lies"),
    [
        ("runs/a", "runs/a/data", "elsewhere/b", "elsewhere/b/data"),  # inside the run directory
        ("runs/a", "corpora/x", "home/runs/a", "home/corpora/x"),  # moved with all that lay where it was started
        ("quick/continued", "quick/data", "renamed/continued", "renamed/data"),  # beside it, under another name
        ("/old/quick/continued", "/old/quick/data", "new/continued", "new/data"),
        ("/old/runs/a", "/old/base", "new/runs/a", "new/base"),
    ],
)
def test_it_is_found_beside_a_run_that_was_moved(tmp_path, own, named, folder, lies):
    for path in (folder, lies):
        (tmp_path / path).mkdir(parents=True)
    assert found_at(tmp_path / folder, Path(own), Path(named)) == tmp_path / lies


def test_what_has_stayed_is_found_and_what_is_gone_is_not(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "base").mkdir()
    assert found_at(tmp_path / "run", Path("/somewhere/else"), tmp_path / "base") == tmp_path / "base"
    assert found_at(tmp_path / "run", Path("runs/a"), Path("no/such")) is None
