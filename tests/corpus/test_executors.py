"""Parts of preparing by datatrove's executors: the bytes of one process, here, by Slurm and by Ray where they are
installed."""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from executor_parts import divides, killed
from one_node_slurm import one_node_slurm, said, why_not
from tiny_project import prepare_tiny

from tsugiki.corpus import executors
from tsugiki.errors import DataError, RecipeError, StorageError
from tsugiki.pipeline import run_all, run_prepare
from tsugiki.recipe import Recipe
from tsugiki.recipe_executor import ExecutorSection
from tsugiki.recipe_file import parse_recipe

SOURCE = Path(__file__).parents[2] / "src"
SLURM = {"kind": "slurm", "partition": "all", "time": "10:00", "memory_per_cpu": 1, "setup": ["umask 022"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_tokenizer_folder) -> tuple[Path, str, dict[str, str]]:
    """A folder with corpora, a recipe, and the digests of what one process makes of it."""
    folder = tmp_path_factory.mktemp("executors")
    tiny = prepare_tiny(folder, tiny_tokenizer_folder)
    return folder, tiny.text, digests(folder / "data")


def digests(prepared: Path) -> dict[str, str]:
    """Of all files of tokens and documents: manifests hold times."""
    return {
        str(path.relative_to(prepared)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(prepared.glob("[!.]*/*"))
        if path.is_file() and path.name != "manifest.json"
    }


@pytest.fixture
def recipe_with(project, tmp_path) -> Callable[..., Recipe]:
    """The recipe with an executor, and a folder of its own."""

    def make(executor: dict[str, object], **data: object) -> Recipe:
        recipe = yaml.safe_load(project[1])
        recipe["run_dir"] = str(tmp_path / "run")
        recipe["data"] |= {"prepared_dir": str(tmp_path / "data"), "executor": {"tasks": 3, **executor}, **data}
        return parse_recipe(yaml.safe_dump(recipe))

    return make


def test_parts_made_here_give_the_bytes_of_one_process_and_are_not_made_again(project, recipe_with):
    recipe, said = recipe_with({"kind": "local", "at_once": 2}), []
    assert run_prepare(recipe, say=said.append)
    assert digests(recipe.prepared_dir) == project[2]
    assert sum(line.startswith("prepared") for line in said) == 2
    logs = sorted((recipe.prepared_dir / executors.FOLDER / "parts/logs").iterdir())
    assert len(logs) == 3
    made = logs[0].stat().st_mtime_ns
    assert run_prepare(recipe)
    assert logs[0].stat().st_mtime_ns == made


def test_what_a_failed_part_said_is_the_message(recipe_with, tmp_path, capfd):
    (tmp_path / "cut.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\x24\xff")
    recipe = recipe_with({"kind": "local"}, sources={"cut": {"path": str(tmp_path / "cut.jsonl.zst"), "weight": 1}})
    with pytest.raises(DataError, match=r"^data\.executor: parts failed: 0, 1, 2\. The first said: .*cut\.jsonl\.zst"):
        run_prepare(recipe)
    assert "Traceback" not in capfd.readouterr().err


def test_a_part_that_is_killed_is_told_of(tmp_path):
    """Its process alone, as the kernel does where memory ends; the others are made."""
    section = ExecutorSection(kind="local", tasks=3, at_once=2)
    with pytest.raises(DataError, match=r"parts failed: 1\. The first said: its process was killed \(signal 9\)"):
        executors.make_parts(section, tmp_path, partial(killed, tmp_path, 1), lambda: None)
    assert sorted(path.name for path in tmp_path.glob("made *")) == ["made 0", "made 2"]


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_part_that_fails_unforeseen_is_an_error_and_ends_the_others(tmp_path, tasks):
    section = ExecutorSection(kind="local", tasks=tasks, at_once=2)
    with pytest.raises(RuntimeError, match="part 0 failed"):
        executors.make_parts(section, tmp_path, partial(divides, tmp_path), lambda: None)
    deadline, beats = time.monotonic() + 20, -1
    while (found := len(list(tmp_path.glob("beat *")))) != beats:
        assert time.monotonic() < deadline
        beats = found
        time.sleep(1)
    assert bool(beats) is (tasks == 2)


def test_ray_gives_the_bytes_of_one_process(project, recipe_with):
    ray = pytest.importorskip("ray")
    recipe = recipe_with({"kind": "ray", "memory_per_cpu": 1})
    try:
        assert run_prepare(recipe)
    finally:
        ray.shutdown()
    assert digests(recipe.prepared_dir) == project[2]


@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_slurm_itself_makes_the_parts_and_puts_them_together(project, recipe_with, monkeypatch):
    """A real cluster of one node."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # paths of sockets are short
    path = str(Path(sys.executable).parent)
    recipe, submitted = recipe_with({**SLURM, "setup": [f"export PATH={path}:$PATH"]}), []
    try:
        with one_node_slurm(folder) as environment:
            for name, value in {**environment, "PYTHONPATH": str(SOURCE)}.items():
                monkeypatch.setenv(name, value)
            assert not run_prepare(recipe, say=submitted.append)
            with pytest.raises(StorageError, match=r"\.executor: job \d+ is not done; wait for it, or scancel it"):
                run_prepare(recipe)
            deadline = time.monotonic() + 120
            while said(["squeue", "-h"], environment).strip():
                assert time.monotonic() < deadline, said(["squeue"], environment)
                time.sleep(0.2)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    logs = "".join(path.read_text() for path in (recipe.prepared_dir / executors.FOLDER).rglob("*.out"))
    assert digests(recipe.prepared_dir) == project[2], logs
    assert submitted[0].startswith("submitted  when job ")
    assert run_prepare(recipe)  # up to date


def test_a_run_whose_corpora_are_being_prepared_goes_on_later(recipe_with, tmp_path, monkeypatch):
    recipe, said = recipe_with(SLURM), []
    monkeypatch.setattr(executors, "make_parts", lambda *_: "17")
    assert run_all(recipe, said.append) is False
    assert said == [f"submitted  when job 17 has ended, {tmp_path / 'data'} is ready"]


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ({"kind": "slurm", "partition": "all"}, r"data\.executor: slurm needs time"),
        ({"kind": "ray", "time": "1:00"}, r"data\.executor\.time: belongs to kind: slurm; kind is ray"),
    ],
)
def test_what_contradicts_itself_is_refused(recipe_with, executor, message):
    with pytest.raises(RecipeError, match=message):
        recipe_with(executor)


def test_what_is_not_installed_is_named(recipe_with, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipeError, match=r"data\.executor: slurm needs sbatch, which is not here"):
        run_prepare(recipe_with(SLURM))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"data\.executor: ray needs ray: pip install ray"):
        run_prepare(recipe_with({"kind": "ray"}))
    monkeypatch.setitem(sys.modules, "datatrove", None)
    with pytest.raises(RecipeError, match=r"local needs datatrove: pip install 'tsugiki\[data\]'"):
        run_prepare(recipe_with({"kind": "local"}))


def test_what_slurm_refuses_is_told(recipe_with, monkeypatch, tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StorageError, match=r"sbatch refused .*parts/launch_script\.slurm"):
        run_prepare(recipe_with(SLURM))


def test_the_last_job_tells_what_failed_and_puts_nothing_together(tmp_path, capsys):
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed/000002").write_text("a.jsonl cannot be read")
    with pytest.raises(SystemExit) as end:
        executors._merge(pytest.fail, Path.cwd(), tmp_path, None, 0, 1)
    assert end.value.code == DataError.exit_code
    assert capsys.readouterr().err == "error: data.executor: parts failed: 2. The first said: a.jsonl cannot be read\n"
