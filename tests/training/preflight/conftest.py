"""Runs on a tiny project, to be probed whole and then broken."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from preflight_project import make_project, open_from, recipe_values

from tsugiki.training.distributed import Processes, start_processes
from tsugiki.training.run import Run


@pytest.fixture(scope="session")
def preflight_processes() -> Processes:
    torch.set_num_threads(1)
    return start_processes()


@pytest.fixture(scope="session")
def preflight_project(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path) -> Path:
    """A folder with corpora and their stores."""
    return make_project(tmp_path_factory.mktemp("preflight"), tiny_tokenizer_folder)


@pytest.fixture(scope="session")
def open_in(
    preflight_project: Path, preflight_processes: Processes, tiny_tokenizer_folder: Path,
    tiny_config: Callable[..., dict[str, Any]],
) -> Callable[..., Run]:  # fmt: skip
    """`open_in(run_dir, "llama", **{"training.max_steps": 5})`: a fresh run; what it says is in `run.said`."""

    def make(run_dir: Path, /, name: str = "mistral", folder: Path | None = None, **changes: Any) -> Run:
        model = {"name_or_path": str(folder)} if folder else {"architecture": tiny_config(name, vocab_size=384)}
        changes = {"run_dir": str(run_dir), **changes}
        values = recipe_values(preflight_project, tiny_tokenizer_folder, model, **changes)
        said: list[str] = []
        run = open_from(values, preflight_processes, said.append)
        run.said = said  # type: ignore[attr-defined]
        return run

    return make


@pytest.fixture
def open_tiny(open_in: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """`open_tiny("llama", **changes)`: the same in the test's own folder."""
    return partial(open_in, tmp_path / "run")
