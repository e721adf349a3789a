"""Headers and indexes of weights: what the safetensors library reads in them, and damage told by the file's name."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from tsugiki.errors import ModelError
from tsugiki.model.load import read_pretrained
from tsugiki.model.weight_files import INDEX, check_weight_files, read_header, read_headers
from tsugiki.training.preflight.weights import tensor_files

TENSORS = {
    "z": torch.randn(5, 7),
    "b": torch.randn(9, 3).bfloat16(),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(3.5, dtype=torch.float64),
    "flags": torch.tensor([True, False, True]),
    "eighth": torch.zeros(4, dtype=torch.float8_e4m3fn),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt", "made": "by ä test"})
    return tmp_path / "model.safetensors"


@pytest.fixture
def shards(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Path:
    """A model in several files, as transformers cuts it."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder("llama"))
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    return tmp_path / "shards"


def test_the_bytes_that_a_header_names_are_the_tensors(file: Path) -> None:
    header, content = read_header(file), file.read_bytes()
    assert header.metadata == {"format": "pt", "made": "by ä test"}
    assert header.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        stored = header.tensors[name]
        assert stored.shape == tuple(tensor.shape)
        own = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert content[header.start + stored.begin : header.start + stored.end] == own
    places = [stored.begin for stored in header.tensors.values()]
    assert places == sorted(places)


@pytest.mark.parametrize("damage", ["short", "long", "header", "length", "gap", "shape", "type", "empty"])
def test_a_damaged_file_is_named(file: Path, damage: str) -> None:
    content = file.read_bytes()
    changed = {
        "short": content[:-1],
        "long": content + b"\0",
        "header": content[:8] + b"[" + content[9:],
        "length": struct.pack("<Q", 1 << 40) + content[8:],
        "gap": content.replace(b'"data_offsets":[0,', b'"data_offsets":[1,'),
        "shape": content.replace(b'"shape":[5,7]', b'"shape":[7,7]'),
        "type": content.replace(b'"dtype":"F32"', b'"dtype":"F16"'),
        "empty": b"",
    }[damage]
    assert changed != content
    file.write_bytes(changed)
    for read in (
        lambda: read_header(file),
        lambda: check_weight_files(file.parent, False),
        lambda: tensor_files(file.parent),
    ):
        with pytest.raises(ModelError, match=r"/model\.safetensors is no whole safetensors file"):
            read()


def test_every_tensor_of_several_files_is_found_where_it_lies(shards: Path) -> None:
    found = tensor_files(shards)
    for path in shards.glob("*.safetensors"):
        with safe_open(path, framework="pt") as part:
            assert {name for name, place in found.items() if place == path} == set(part.keys())
    assert found.keys() == json.loads((shards / INDEX).read_text())["weight_map"].keys()


def test_one_damaged_file_of_several_is_named_before_a_tensor_is_read(shards: Path) -> None:
    last = sorted(shards.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    for read in (check_weight_files, tensor_files, read_pretrained):
        with pytest.raises(ModelError, match=f"/{last.name} is no whole safetensors file"):
            read(shards, False) if read is check_weight_files else read(shards)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must be a mapping"),
        ("{}", "weight_map is missing"),
        ('{"weight_map": ["a"]}', "weight_map must be a mapping"),
        ('{"weight_map": {"a": 3}}', r"weight_map\.a must be text"),
        ('{"weight_map": {"a": "../a.safetensors"}}', r"weight_map\.a is no name of a file in the same folder"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "names gone.safetensors, which is missing"),
    ],
)
def test_an_index_that_cannot_be_followed_is_named(tmp_path: Path, index: str, said: str) -> None:
    (tmp_path / INDEX).write_text(index)
    for read in (read_headers, tensor_files):
        with pytest.raises(ModelError, match=rf"/{INDEX}.* {said}"):
            read(tmp_path)


def test_a_folder_without_weights_has_no_tensors(tmp_path: Path) -> None:
    assert read_headers(tmp_path) == {}
    assert tensor_files(tmp_path) == {}
