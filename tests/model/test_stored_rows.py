"""Numbers and rows that are read from files, against whole tensors that safetensors reads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tsugiki.errors import ModelError, StorageError
from tsugiki.model.stored_rows import StoredWeights


@pytest.fixture
def folder(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Path:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder("phi"), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "phi", max_shard_size="8KB")
    return tmp_path / "phi"


def test_any_rows_and_numbers_of_any_tensor_are_those_of_the_files(folder: Path) -> None:
    whole = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    choose = np.random.default_rng(0)
    with StoredWeights(folder) as stored:
        assert stored.files.keys() == whole.keys()
        for name, tensor in whole.items():
            flat = tensor.reshape(-1)
            assert torch.equal(stored.numbers(name, 3, len(flat) - 2), flat[3:-2])
            rows = choose.integers(0, len(tensor), 20)
            expected = tensor[torch.from_numpy(rows)].reshape(20, -1)
            assert torch.equal(stored.rows(name, rows), expected)
            assert stored.rows(name, rows[:0]).shape == (0, expected.shape[1])


def test_a_file_that_is_cut_while_it_is_read_is_named(folder: Path) -> None:
    with StoredWeights(folder) as stored:
        name, file = next(iter(stored.files.items()))
        (folder / file).write_bytes(b"")
        with pytest.raises(StorageError, match=f"{file} ended early"):
            stored.numbers(name, 0, 1)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no weights"):
        StoredWeights(tmp_path)
