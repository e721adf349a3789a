"""What `export` writes is what plain transformers would have written, and loads with the same logits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_directories import MakeRun
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tsugiki.checkpoint_files import newest_name
from tsugiki.errors import ModelError, RecipeError, StorageError
from tsugiki.model.export import export

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

ARCHITECTURES = [
    "mistral", "mistral-tied", "llama", "qwen3", "gemma2", "gemma3", "gemma3-multimodal", "phi3", "gpt_neox", "granite",
    "phi", "mixtral", "qwen3_moe", "deepseek_v3",
]  # fmt: skip


def tensors_of(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape of every tensor in the safetensors files of a folder."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                part = file.get_slice(name)
                found[name] = (part.get_dtype(), tuple(part.get_shape()))
    return found


def logits(model: Any) -> torch.Tensor:
    tokens = torch.arange(3, 23).reshape(2, 10)
    with torch.no_grad():
        return model.eval()(input_ids=tokens, use_cache=False).logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_export_equals_plain_save_pretrained(
    name: str, tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    folder = tiny_model_folder(name)
    model, checkpoint = make_run(tmp_path / "run", folder)
    export(checkpoint, tmp_path / "out", dtype="float32")

    model.save_pretrained(tmp_path / "plain")
    assert tensors_of(tmp_path / "out") == tensors_of(tmp_path / "plain")
    assert tensors_of(tmp_path / "out") == tensors_of(folder)
    ours, plain = (json.loads((tmp_path / out / "config.json").read_text()) for out in ("out", "plain"))
    assert ours == plain

    reloaded, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits(reloaded), logits(model))


@pytest.mark.parametrize("name", ["mistral-tied", "mixtral"])
def test_export_is_bfloat16_by_default(
    name: str, tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    model, checkpoint = make_run(tmp_path / "run", tiny_model_folder(name))
    export(checkpoint, tmp_path / "out")
    assert {dtype for dtype, _ in tensors_of(tmp_path / "out").values()} == {"BF16"}
    assert AutoConfig.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for (key, got), expected in zip(reloaded.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(got, expected.to(torch.bfloat16)), key


def test_tied_head_is_written_once(tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]) -> None:
    _, checkpoint = make_run(tmp_path / "run", tiny_model_folder("mistral-tied"))
    export(checkpoint, tmp_path / "out")
    names = tensors_of(tmp_path / "out")
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


def test_buffers_that_decide_in_fp32_are_exported_in_fp32(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    model, checkpoint = make_run(tmp_path / "run", tiny_model_folder("deepseek_v3"))
    export(checkpoint, tmp_path / "out", dtype="bfloat16")
    kinds = {found: kind for found, (kind, _) in tensors_of(tmp_path / "out").items()}
    assert {found for found, kind in kinds.items() if kind != "BF16"} == {name}
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        stored = file.get_tensor(name)
    assert stored.dtype == torch.float32
    assert torch.equal(stored, model.state_dict()[name])
    assert not torch.equal(stored, stored.bfloat16().float())  # rounding would show


def test_tokenizer_files_are_copied_byte_for_byte(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path], tiny_tokenizer_folder: Path
) -> None:
    _, checkpoint = make_run(tmp_path / "run", tiny_model_folder("llama"), tiny_tokenizer_folder)
    (tmp_path / "run" / "model" / "generation_config.json").write_text('{"top_p": 0.7}\n')
    export(checkpoint, tmp_path / "out")
    for path in tiny_tokenizer_folder.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "out" / "generation_config.json").read_text() == '{"top_p": 0.7}\n'
    AutoTokenizer.from_pretrained(tmp_path / "out")


def test_large_models_are_cut_into_shards_with_an_index(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path]
) -> None:
    model, checkpoint = make_run(tmp_path / "run", tiny_model_folder("llama"))
    export(checkpoint, tmp_path / "out", dtype="float32", max_shard_size="8KB")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(tensors_of(tmp_path / "out"))
    assert len(set(index["weight_map"].values())) > 1
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(model))


def test_refusals_leave_nothing_behind(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, checkpoint = make_run(tmp_path / "run", tiny_model_folder("llama"))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    with pytest.raises(RecipeError, match="taken exists already"):
        export(checkpoint, taken)
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]
    with pytest.raises(RecipeError, match="int8"):
        export(checkpoint, tmp_path / "out", dtype="int8")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RecipeError, match="the folder that this command runs in"):
        export(checkpoint, Path())
    monkeypatch.undo()
    (tmp_path / "here").rmdir()

    config = tmp_path / "run" / "model" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"model\.layers\.2\..* is missing"):
        export(checkpoint, tmp_path / "out")
    config.unlink()
    with pytest.raises(StorageError, match=r"no config\.json"):
        export(checkpoint, tmp_path / "out")
    config.write_text(json.dumps(values))

    shard = next(checkpoint.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StorageError, match=r"shard-00000-00001[.]safetensors is damaged"):
        export(checkpoint, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "taken"]
    assert newest_name(checkpoint.parent) == checkpoint.name  # sizes alone do not show it: digests do
