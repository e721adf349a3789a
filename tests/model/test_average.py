"""The mean of checkpoints is that of NumPy, taken in fp32 and rounded once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from run_directories import MakeRun
from safetensors.torch import load_file

from tsugiki.checkpoint_files import is_export_of, mark_of
from tsugiki.errors import ModelError, StorageError
from tsugiki.model import average
from tsugiki.model.average import read_mean
from tsugiki.model.export import export, read_weights

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def stored(checkpoint: Path) -> dict[str, np.ndarray]:
    """The weights of a checkpoint by safetensors alone, in double precision."""
    found = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        found |= {
            name.removeprefix("model."): value.double().numpy()
            for name, value in load_file(path).items() if name.startswith("model.")
        }  # fmt: skip
    return found


def three(run_dir: Path) -> list[Path]:
    return [run_dir / "checkpoints" / f"step_{step:08d}" for step in (7, 8, 9)]


@pytest.mark.parametrize(
    ("name", "kept_in"),
    [("mistral-tied", "float32"), ("mixtral", "float32"), ("gpt_neox", "bfloat16"), ("deepseek_v3", "float32")],
)
def test_the_mean_is_numpys_rounded_once(
    name: str, kept_in: str, tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    make_run(tmp_path / "run", tiny_model_folder(name), dtype=kept_in, more=2)
    checkpoints = three(tmp_path / "run")
    parts = [stored(path) for path in checkpoints]
    exact = {key: np.mean([part[key] for part in parts], axis=0) for key in parts[0]}
    found = read_weights(checkpoints, "float32").tensors
    assert found.keys() == exact.keys()
    for key, value in exact.items():
        np.testing.assert_allclose(found[key].double().numpy(), value, rtol=1e-6, atol=1e-7, err_msg=key)
    rounded = read_weights(checkpoints, "bfloat16").tensors
    for key, value in found.items():
        same = value if rounded[key].dtype == torch.float32 else value.to(torch.bfloat16)
        assert torch.equal(rounded[key], same), key
    assert any(rounded[key].dtype == torch.bfloat16 for key in rounded)


def test_a_mean_of_rounded_weights_would_differ(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    make_run(tmp_path / "run", tiny_model_folder("llama"), more=2)
    checkpoints = three(tmp_path / "run")
    once = read_weights(checkpoints, "bfloat16").tensors
    singles = [read_weights([path], "bfloat16").tensors for path in checkpoints]
    twice = {name: ((singles[0][name] + singles[1][name] + singles[2][name]) / 3) for name in once}
    assert any(not torch.equal(once[name], twice[name]) for name in once)


def test_no_more_than_one_tensor_is_held_besides_the_result(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run", tiny_model_folder("llama"), more=2)
    asked: list[set[str]] = []
    read = average.read_tensors
    monkeypatch.setattr(
        average, "read_tensors", lambda reader, tensors: (asked.append(set(tensors)), read(reader, tensors))
    )
    tensors = read_weights(three(tmp_path / "run"), "bfloat16").tensors
    assert {len(names) for names in asked} == {1}
    assert len(asked) == 3 * len(tensors)


def test_whole_numbers_are_those_of_the_last(tmp_path: Path, processes) -> None:
    from tsugiki.training.checkpoint import Checkpointer

    checkpointer = Checkpointer(tmp_path, processes, lineage="test")
    for step, value in ((1, 2), (2, 5)):
        checkpointer.begin(step, {"model.count": torch.tensor([value])}, {"step": step})
        checkpointer.wait_and_commit()
    result = torch.zeros(1, dtype=torch.int64)
    read_mean([tmp_path / "step_00000001", tmp_path / "step_00000002"], {"model.count": result})
    assert result.tolist() == [5]


def test_each_checkpoint_is_verified_first(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    make_run(tmp_path / "run", tiny_model_folder("llama"), more=2)
    checkpoints = three(tmp_path / "run")
    shard = next(checkpoints[1].glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StorageError, match=r"step_00000008 cannot be exported.*damaged"):
        read_weights(checkpoints, "bfloat16")


def test_a_mean_over_other_shapes_is_refused(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    make_run(tmp_path / "one", tiny_model_folder("llama"))
    make_run(tmp_path / "other", tiny_model_folder("llama", num_hidden_layers=3))
    with pytest.raises(ModelError, match="does not fit"):
        read_weights([tmp_path / f"{run}/checkpoints/step_00000007" for run in ("one", "other")], "bfloat16")


def test_the_mark_of_a_mean_is_not_that_of_its_newest_checkpoint(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    make_run(tmp_path / "run", tiny_model_folder("llama"), more=2)
    checkpoints = three(tmp_path / "run")
    export(checkpoints[-1], tmp_path / "out")
    assert is_export_of(checkpoints[-1], tmp_path / "out", "bfloat16")
    assert not is_export_of(checkpoints, tmp_path / "out", "bfloat16")
    assert mark_of(checkpoints, "bfloat16").get("averaged") == [path.name for path in checkpoints]
