"""Data and models for the tests of evaluation: the real sets where they are on this machine, made-up ones of their
formats, and tiny models."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_data import write_official_data
from evaluation_models import POSITIONS, join_folders
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="session")
def evaldata() -> Path:
    """The folder of real evaluation sets: TSUGIKI_EVALDATA, or shared/evaldata beside the checkout. Skips without."""
    named = os.environ.get("TSUGIKI_EVALDATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared/evaldata"
    if not folder.is_dir():
        pytest.skip(f"no evaluation data in {folder} (set TSUGIKI_EVALDATA)")
    return folder


@pytest.fixture(scope="session")
def official_data(tmp_path_factory) -> Path:
    """A folder with made-up files of every set in its official format. Shared: write nothing into it."""
    folder = tmp_path_factory.mktemp("official")
    write_official_data(folder)
    return folder


@pytest.fixture(scope="session")
def language_model(tiny_model_folder, tiny_tokenizer_folder, tmp_path_factory) -> Callable[..., Path]:
    """`language_model(name, **changes)`: a tiny model of that architecture with the tiny tokenizer and room for long
    prompts; made once. Write nothing into it."""
    made: dict[str, Path] = {}

    def make(name: str = "mistral", **changes: Any) -> Path:
        changes = {"vocab_size": 384, "max_position_embeddings": POSITIONS} | changes
        key = f"{name} {sorted(changes.items())}"
        if key not in made:
            weights = tiny_model_folder(name, **changes)
            made[key] = join_folders(tmp_path_factory.mktemp("lm") / name, weights, tiny_tokenizer_folder)
        return made[key]

    return make


@pytest.fixture(scope="session")
def diverged(language_model, tmp_path_factory):
    """A model of which one matrix in the middle has become NaN."""
    folder = tmp_path_factory.mktemp("diverged") / "model"
    shutil.copytree(language_model(), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "down_proj" in name)
    weights[name].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
