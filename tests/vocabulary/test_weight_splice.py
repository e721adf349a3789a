"""Spliced safetensors files, read back by the safetensors library."""

import json
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tsugiki.model.weight_files import read_header
from tsugiki.vocabulary import weight_splice
from tsugiki.vocabulary.weight_splice import NewRows, copy_with_rows


def make_file(path: Path) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a": torch.randn(5, 7, generator=generator),
        "b": torch.randn(9, 3, generator=generator).bfloat16(),
        "c": torch.randn(9, generator=generator).half(),
        "d": torch.arange(11),
        "e": torch.tensor(3.5, dtype=torch.float64),
        "f": torch.zeros(0, 4),
        "g": torch.tensor([True, False, True]),
        "h": torch.randn(2, 3, 4, generator=generator).bfloat16(),
    }
    save_file(tensors, path, metadata={"format": "pt", "made": "by ä test"})
    return tensors


@pytest.mark.parametrize("chunk", [1, 10, 8 << 20])
@pytest.mark.parametrize(("at", "count"), [(9, 4), (7, 4), (6, 3), (0, 12), (3, 2), (9, 0)])
def test_rows_are_put_where_they_belong_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, at: int, count: int
) -> None:
    monkeypatch.setattr(weight_splice, "CHUNK", chunk)
    tensors = make_file(tmp_path / "in.safetensors")
    grown = {"b": NewRows(at, torch.randn(count, 3).bfloat16()), "c": NewRows(at, torch.randn(count).half())}
    copy_with_rows(tmp_path / "in.safetensors", tmp_path / "out.safetensors", grown)
    made = load_file(tmp_path / "out.safetensors")
    assert made.keys() == tensors.keys()
    for name, tensor in tensors.items():
        if name in grown:
            tensor = torch.cat([tensor[:at], grown[name].rows, tensor[at + count :]])
        assert made[name].dtype == tensor.dtype
        assert torch.equal(made[name], tensor), name
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "made": "by ä test"}
    assert read_header(tmp_path / "out.safetensors").start % 8 == 0


def test_a_file_without_new_rows_is_copied_byte_for_byte(tmp_path: Path) -> None:
    make_file(tmp_path / "in.safetensors")
    content = (tmp_path / "in.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])  # a header in an order and with spaces that nobody would write again
    values = json.loads(content[8 : 8 + length])
    header = json.dumps(dict(reversed(values.items())), indent=3).encode()
    content = struct.pack("<Q", len(header)) + header + content[8 + length :]
    (tmp_path / "in.safetensors").write_bytes(content)
    copy_with_rows(tmp_path / "in.safetensors", tmp_path / "out.safetensors", {})
    assert (tmp_path / "out.safetensors").read_bytes() == content
    assert not (tmp_path / "out.safetensors").is_symlink()


def test_a_tensor_is_never_whole_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_splice, "CHUNK", 1 << 16)
    save_file({"large": torch.zeros(1 << 21), "matrix": torch.zeros(1 << 19, 4)}, tmp_path / "in.safetensors")
    rows = torch.ones(3, 4)
    tracemalloc.start()
    copy_with_rows(tmp_path / "in.safetensors", tmp_path / "out.safetensors", {"matrix": NewRows(1 << 19, rows)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20  # of 16 MiB
    assert torch.equal(load_file(tmp_path / "out.safetensors")["matrix"][-3:], rows)
