"""A tiny run with a base that has a licence, and plain transformers without a process of its own."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from one_process import one_process_group, processes  # noqa: F401 - fixtures
from run_directories import make_run  # noqa: F401 - a fixture
from tiny_project import prepare_tiny

from tsugiki.pipeline import run_training
from tsugiki.recipe_file import parse_recipe
from tsugiki.release import plain, verify
from tsugiki.training import distributed
from tsugiki.training.preflight import PROBES

CARD = "---\nlicense: other\nlicense_name: our-licence\nlicense_link: LICENSE\n---\n# base\n"


@pytest.fixture(scope="session")
def trained_once(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path, tiny_language_model_folder: Path
) -> Path:
    """A folder with `base/` and the finished run `run/` that continued it: checkpoints of steps 2, 4 and 6."""
    place = tmp_path_factory.mktemp("release")
    tiny = prepare_tiny(place, tiny_tokenizer_folder)
    base = shutil.copytree(tiny_language_model_folder, place / "base")
    (base / "README.md").write_text(CARD)
    (base / "LICENSE").write_text("All may use it.\n")
    (base / "NOTICE.txt").write_text("Made by us.\n")
    (base / "licensed_words.txt").write_text("no licence\n")
    changes = {
        "run_dir": place / "run", "model.architecture": "null", "model.name_or_path": base, "model.tokenizer": "null",
        "training.save_steps": 2, "training.eval_steps": 2, "data.prepared_dir": place / "data",
        "training.preflight.skip": json.dumps([probe.name for probe in PROBES]),
    }  # fmt: skip
    recipe = parse_recipe(tiny.text, overrides=[f"{key}={value}" for key, value in changes.items()])
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "stop_processes", lambda: None)  # the group is that of the session
        assert run_training(recipe, lambda _text: None)
    return place


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may break, beside its base and data (which may not)."""
    for name in ("base", "data"):
        (tmp_path / name).symlink_to(trained_once / name)
    shutil.copytree(trained_once / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def talked_once(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path) -> Path:
    """The finished run of a model with random weights on conversations alone."""
    place = tmp_path_factory.mktemp("talked")
    tree = yaml.safe_load(prepare_tiny(place, tiny_tokenizer_folder, chat=True).text)
    del tree["data"]["sources"]["en"]
    tree["training"] |= {
        "max_steps": 2,
        "save_steps": 2,
        "eval_steps": 2,
        "preflight": {"skip": [probe.name for probe in PROBES]},
    }
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "stop_processes", lambda: None)  # the group is that of the session
        assert run_training(parse_recipe(yaml.safe_dump(tree)), lambda _text: None)
    return place / "run"


@pytest.fixture
def plain_here(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Plain transformers in this process: seconds saved. How often it was asked."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        calls.append(command)
        plain.main(Path(command[-2]), Path(command[-1]))
        return SimpleNamespace(returncode=0, stderr=b"")

    monkeypatch.setattr(verify, "subprocess", SimpleNamespace(run=run, PIPE=subprocess.PIPE))
    return lambda: len(calls)
