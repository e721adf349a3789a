"""A resized base opens in plain transformers, has the asked rows, and is otherwise the base, bit by bit."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tsugiki.errors import ModelError, StorageError
from tsugiki.vocabulary import resize, weight_splice
from tsugiki.vocabulary.resize import ResizeFacts, resize_model

ARCHITECTURES = [
    "mistral", "mistral-tied", "llama", "qwen3", "gemma2", "gemma3", "gemma3-multimodal", "phi3", "gpt_neox", "granite",
    "phi", "mixtral", "qwen3_moe", "deepseek_v3",
]  # fmt: skip
ROWS, USED = 101, 97  # four spare rows
PIECES = [[5, 9, 30], [30, 9, 5], [96], [40, 41], [40, 41, 40], [8, 8, 3], [77, 3], [12, 60, 61, 62], [90, 3], [1, 2]]
SIZE = USED + len(PIECES)


def extend(base: Path, output: Path, **changes: Any) -> ResizeFacts:
    settings: dict[str, Any] = {
        "used": USED,
        "size": SIZE,
        "pieces": PIECES,
        "method": "mean",
        "noise": 1e-3,
        "seed": 4,
    }
    return resize_model(base, output, **(settings | changes))


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def opened(folder: Path) -> Any:
    """The model, in the dtype of its files, none of whose tensors is missing, left over or of another shape."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def copy_of(folder: Path, target: Path, max_shard_size: str | None = None, dtype: str = "float32") -> Path:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model.save_pretrained(target, max_shard_size=max_shard_size or "5GB")
    return target


def is_vocabulary(tensor: torch.Tensor) -> bool:
    return tensor.shape[0] == ROWS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_result_is_the_base_with_more_rows(
    name: str, dtype: str, tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    base = copy_of(tiny_model_folder(name), tmp_path / "base", dtype=dtype)
    facts = extend(base, tmp_path / "out", noise=0)
    old, new = tensors_of(base), tensors_of(tmp_path / "out")
    assert old.keys() == new.keys()
    for key, tensor in old.items():
        assert new[key].dtype == tensor.dtype
        if not is_vocabulary(tensor):
            assert torch.equal(new[key], tensor), key
            continue
        assert new[key].shape == (SIZE, *tensor.shape[1:])
        assert torch.equal(new[key][:USED], tensor[:USED]), key
        for row, piece in zip(new[key][USED:], PIECES, strict=True):
            expected = sum(tensor[token].double() for token in piece) / len(piece)
            assert torch.allclose(row.double(), expected, rtol=2**-8 if dtype == "bfloat16" else 1e-5, atol=1e-6)
    assert facts.matrices == tuple(sorted(key for key, tensor in old.items() if is_vocabulary(tensor)))
    assert (facts.old_rows, facts.new_rows, facts.dtype) == (ROWS, SIZE, dtype)

    small, large = opened(base), opened(tmp_path / "out")
    assert facts.tied == (small.get_input_embeddings().weight is small.get_output_embeddings().weight)
    assert facts.tied == (large.get_input_embeddings().weight is large.get_output_embeddings().weight)
    assert large.config.get_text_config().vocab_size == SIZE
    tokens = torch.arange(3, 43).reshape(2, 20)
    with torch.no_grad():
        # In fp32: torch has no bf16 products for experts as narrow as these.
        before, after = (model.float()(input_ids=tokens, use_cache=False).logits for model in (small, large))
    assert after.shape[-1] == SIZE
    # Not bit by bit: a product with more columns is summed in another order.
    assert torch.allclose(after[..., :USED], before[..., :USED], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_files_have_the_tensors_that_transformers_own_resizing_gives(
    name: str, tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    extend(tiny_model_folder(name), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder(name))
    model.resize_token_embeddings(SIZE, mean_resizing=False)
    model.save_pretrained(tmp_path / "plain")
    ours, plain = (
        {key: (tensor.dtype, tensor.shape) for key, tensor in tensors_of(tmp_path / folder).items()}
        for folder in ("out", "plain")
    )
    assert ours == plain
    ours, plain = (json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("out", "plain"))
    assert ours == plain


@pytest.mark.parametrize("name", ["mistral", "gemma3-multimodal", "phi", "gpt_neox"])
def test_a_model_in_several_files(
    name: str, tmp_path: Path, tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = copy_of(tiny_model_folder(name), tmp_path / "base", max_shard_size="8KB")
    files = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(files) > 3
    (base / "consolidated.safetensors").write_bytes(b"Mistral's second copy, which no index names")
    read: list[str] = []
    original = resize.safe_open

    class Recorder:
        """The library's own reader, noting which tensors are asked for."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            self.manager = original(*arguments, **named)

        def __enter__(self) -> Any:
            self.file = self.manager.__enter__()
            return self

        def __exit__(self, *reason: Any) -> None:
            self.manager.__exit__(*reason)

        def get_tensor(self, key: str) -> torch.Tensor:
            read.append(key)
            return self.file.get_tensor(key)

    monkeypatch.setattr(resize, "safe_open", Recorder)
    facts = extend(base, tmp_path / "out")
    assert sorted(read) == list(facts.matrices)  # no other tensor is ever loaded
    old, new = tensors_of_files(base, files), tensors_of_files(tmp_path / "out", files)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == files
    for file in files:
        assert old[file].keys() == new[file].keys()
        untouched = not set(facts.matrices) & old[file].keys()
        same = (base / file).read_bytes() == (tmp_path / "out" / file).read_bytes()
        assert untouched == same, file
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    before = json.loads((base / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == before["weight_map"]
    sizes = [tensor.nbytes for tensors in new.values() for tensor in tensors.values()]
    assert index["metadata"]["total_size"] == sum(sizes)
    counts = [tensor.numel() for tensors in new.values() for tensor in tensors.values()]
    assert index["metadata"]["total_parameters"] == sum(counts)
    opened(tmp_path / "out")


def tensors_of_files(folder: Path, files: list[str]) -> dict[str, dict[str, torch.Tensor]]:
    return {file: load_file(folder / file) for file in files}


@pytest.mark.parametrize("method", ["mean", "normal", "random"])
def test_input_and_output_rows_differ_and_a_second_run_gives_the_same_bits(
    method: str, tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    base = tiny_model_folder("mistral")
    for output in ("one", "two"):
        extend(base, tmp_path / output, method=method)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    new, old = tensors_of(tmp_path / "one"), tensors_of(base)
    shifts = [new[key][USED:] - old[key][:USED].mean(dim=0) for key in ("model.embed_tokens.weight", "lm_head.weight")]
    assert (shifts[0] != shifts[1]).any(dim=1).all()
    extend(base, tmp_path / "other", method=method, seed=5)
    assert not torch.equal(tensors_of(tmp_path / "other")["lm_head.weight"], new["lm_head.weight"])


@pytest.mark.parametrize(("count", "size"), [(1, ROWS), (4, ROWS), (6, 103)])
def test_spare_rows_are_used_first_and_kept_where_not_needed(
    count: int, size: int, tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    base = tiny_model_folder("qwen3")
    facts = extend(base, tmp_path / "out", pieces=PIECES[:count], size=size)
    assert facts.new_rows == size
    old, new = (tensors_of(folder)["model.embed_tokens.weight"] for folder in (base, tmp_path / "out"))
    assert torch.equal(new[:USED], old[:USED])
    assert torch.equal(new[USED + count : ROWS], old[USED + count :])
    assert not (new[USED : USED + count][: ROWS - USED] == old[USED : USED + count]).all(dim=1).any()


def test_spare_rows_do_not_enter_the_new_ones(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> None:
    base = copy_of(tiny_model_folder("qwen3"), tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.embed_tokens.weight"][USED:] = 1e6
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    for method in ("mean", "normal", "random"):
        extend(base, tmp_path / method, method=method)
        assert tensors_of(tmp_path / method)["model.embed_tokens.weight"].abs().max() < 10


@pytest.mark.parametrize("equal", [True, False])
def test_a_tied_matrix_that_is_stored_twice_stays_as_equal_as_it_was(
    equal: bool, tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    base = copy_of(tiny_model_folder("mistral-tied"), tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * (1 if equal else 2)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    facts = extend(base, tmp_path / "out")
    assert facts.matrices == ("lm_head.weight", "model.embed_tokens.weight")
    assert facts.tied == equal
    new = tensors_of(tmp_path / "out")
    assert torch.equal(new["lm_head.weight"], new["model.embed_tokens.weight"]) == equal
    model = opened(tmp_path / "out")
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == equal


def test_names_without_the_models_prefix(tmp_path: Path) -> None:
    """GPT-2's files on the hub lack `transformer.`, and hold masks that are no part of the model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=ROWS, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    model.save_pretrained(tmp_path / "base")
    path = tmp_path / "base/model.safetensors"
    tensors = {key.removeprefix("transformer."): tensor for key, tensor in load_file(path).items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    save_file(tensors, path, metadata={"format": "pt"})
    facts = extend(tmp_path / "base", tmp_path / "out")
    assert facts.matrices == ("wte.weight",)
    assert facts.tied
    assert torch.equal(tensors_of(tmp_path / "out")["h.0.attn.bias"], tensors["h.0.attn.bias"])
    assert opened(tmp_path / "out").transformer.wte.weight.shape == (SIZE, 16)


def test_copies_in_layers_that_transformers_skips_get_the_same_rows(
    tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    base = copy_of(tiny_model_folder("deepseek_v3"), tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    copies = {
        "model.layers.61.embed_tokens.weight": "model.embed_tokens.weight",
        "model.layers.61.shared_head.head.weight": "lm_head.weight",
    }
    tensors |= {name: tensors[source].clone() for name, source in copies.items()}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    facts = extend(base, tmp_path / "out")
    assert facts.matrices == tuple(sorted([*copies, *copies.values()]))
    assert not facts.tied
    new = tensors_of(tmp_path / "out")
    for name, source in copies.items():
        assert torch.equal(new[name], new[source])
    opened(tmp_path / "out")


def test_configurations_keep_every_other_key(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> None:
    base = copy_of(tiny_model_folder("gemma3-multimodal"), tmp_path / "base")
    path = base / "config.json"
    values = {"zeta": [1, {"vocab_size": ROWS}], "vocab_size": ROWS, **json.loads(path.read_text())}
    values |= {"limit": float("inf"), "auto_map": {"AutoModel": "code.Model"}, "author": "雪", "rate": 1e-05}
    values["vision_config"]["vocab_size"] = ROWS  # a tower's own
    path.write_text(json.dumps(values))
    (base / "tokenizer.json").write_text("{}")
    (base / "LICENSE").write_text("mine")
    (base / "preprocessor_config.json").write_text('{"size": 3 }')
    extend(base, tmp_path / "out")
    made = json.loads((tmp_path / "out/config.json").read_text())
    assert list(made) == list(values)
    values["vocab_size"] = values["text_config"]["vocab_size"] = SIZE
    assert made == values
    assert "雪" in (tmp_path / "out/config.json").read_text(encoding="utf-8")
    generation = (json.loads((folder / "generation_config.json").read_text()) for folder in (base, tmp_path / "out"))
    assert next(generation) == next(generation)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "LICENSE", "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    assert (tmp_path / "out/preprocessor_config.json").read_text() == '{"size": 3 }'


def test_ids_that_a_configuration_names_stay_and_others_are_filled_in(
    tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    base = copy_of(tiny_model_folder("llama"), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    del config["bos_token_id"]
    config["eos_token_id"], config["pad_token_id"] = [2, 7], None
    (base / "config.json").write_text(json.dumps(config))
    (base / "generation_config.json").write_text('{"bos_token_id": 3, "eos_token_id": null, "top_p": 0.7}')
    extend(base, tmp_path / "out", token_ids={"bos_token_id": 1, "eos_token_id": 9, "pad_token_id": 9})
    made = json.loads((tmp_path / "out/config.json").read_text())
    assert made == config | {"vocab_size": SIZE, "bos_token_id": 1}
    generation = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert generation == {"bos_token_id": 3, "eos_token_id": 9, "top_p": 0.7, "pad_token_id": 9}


def test_a_run_that_broke_off_leaves_no_model_and_is_made_good_by_the_next(
    tmp_path: Path, tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    extend(tiny_model_folder("mistral-tied"), output)  # another base's, in one file
    (output / "tokenizer.json").write_text("{}")
    base = copy_of(tiny_model_folder("llama"), tmp_path / "base", max_shard_size="8KB")
    original, copied = weight_splice.copy_with_rows, []

    def full_disk(source: Path, target: Path, grown: Any) -> int:
        copied.append(target)
        if len(copied) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return original(source, target, grown)

    with monkeypatch.context() as patch:
        patch.setattr(resize, "copy_with_rows", full_disk)
        with pytest.raises(StorageError, match=r"out/model-00003-of-.*the disk is full"):
            extend(base, output)
    assert not (output / "config.json").exists()
    assert not (output / "model.safetensors").exists()
    extend(base, output)
    extend(base, tmp_path / "clean")
    (output / "tokenizer.json").unlink()
    assert {path.name: path.read_bytes() for path in output.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "clean").iterdir()
    }


def test_refusals_write_nothing(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> None:
    base = copy_of(tiny_model_folder("llama"), tmp_path / "base")
    content = (base / "model.safetensors").read_bytes()
    output = tmp_path / "out"
    with pytest.raises(ModelError, match="overwritten by its own extension"):
        extend(base, base / ".." / "base")
    with pytest.raises(ModelError, match="has 102 pieces, but the model has 101 rows"):
        extend(base, output, used=102, size=112)
    with pytest.raises(ValueError, match="size is 128"):
        extend(base, output, size=128)
    with pytest.raises(ValueError, match="0 to 96 are in use"):
        extend(base, output, pieces=[*PIECES[1:], [USED]])

    (base / "model.safetensors").write_bytes(content[:-10])
    with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file"):
        extend(base, output)
    tensors = tensors_of(tiny_model_folder("llama"))
    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lm_head\.weight is stored as torch\.float8_e4m3fn"):
        extend(base, output)
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"pickles only.*Save them as safetensors first"):
        extend(base, output)
    (base / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="no vocab_size of one text model"):
        extend(base, output)
    shutil.rmtree(base)
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        extend(base, output)
    assert not output.exists()
