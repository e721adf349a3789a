"""A one-process model of this package, its tokenizer, and the plain Hugging Face model they are compared with."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from one_process import one_process_group  # noqa: F401 - a fixture
from transformers import AutoModelForCausalLM

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.model.load import load_model
from tsugiki.model.loss import TrainingModel
from tsugiki.model.shard import make_mesh


@pytest.fixture(scope="session")
def load() -> Callable[[Path], TrainingModel]:
    def make(folder: Path) -> TrainingModel:
        settings = dict.fromkeys(("architecture", "revision", "attn_implementation"))
        named = SimpleNamespace(name_or_path=folder, allow_pickle=False, **settings)
        return load_model(named, mesh=make_mesh("full"), precision="fp32")

    return make


@pytest.fixture(scope="session")
def model(load: Callable[[Path], TrainingModel], tiny_language_model_folder: Path) -> TrainingModel:
    return load(tiny_language_model_folder)


@pytest.fixture(scope="session")
def plain(tiny_language_model_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_language_model_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def tokenizer(tiny_language_model_folder: Path) -> TextTokenizer:
    return TextTokenizer.from_folder(tiny_language_model_folder)
