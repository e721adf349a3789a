"""One-process models of this package, and the plain Hugging Face model they are compared with."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from one_process import one_process_group, processes  # noqa: F401 - fixtures
from run_directories import make_run  # noqa: F401 - a fixture
from transformers import AutoModelForCausalLM

from tsugiki.model.load import load_model
from tsugiki.model.loss import TrainingModel
from tsugiki.model.shard import make_mesh


@pytest.fixture(scope="session")
def settings() -> Callable[..., SimpleNamespace]:
    """The recipe's `model` section, with only what loading reads."""

    def make(**values: Any) -> SimpleNamespace:
        defaults = dict.fromkeys(("name_or_path", "architecture", "revision", "attn_implementation"))
        return SimpleNamespace(**{**defaults, "allow_pickle": False, **values})

    return make


@pytest.fixture(scope="session")
def load(settings: Callable[..., SimpleNamespace]) -> Callable[..., TrainingModel]:
    """`load(folder, **options)`: our model on this one process, in fp32 unless told."""

    def make(folder: Path, attn_implementation: str | None = None, **options: Any) -> TrainingModel:
        chosen = settings(name_or_path=folder, attn_implementation=attn_implementation)
        return load_model(chosen, mesh=make_mesh("full"), **{"precision": "fp32", **options})

    return make


@pytest.fixture(scope="session")
def load_plain() -> Callable[..., Any]:
    """`load_plain(folder)`: the unsharded model as anyone would load it."""

    def make(folder: Path, **options: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).train()

    return make


@pytest.fixture(scope="session")
def worker() -> ModuleType:
    """The script of the multi-process tests, as a module, for its batch and its training code."""
    path = Path(__file__).with_name("parallel_worker.py")
    spec = importlib.util.spec_from_file_location("parallel_worker", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
