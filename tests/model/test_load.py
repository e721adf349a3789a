"""A model is loaded whole or not at all."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tsugiki.errors import ModelError
from tsugiki.model.load import load_model, read_pretrained
from tsugiki.model.loss import TrainingModel
from tsugiki.model.shard import make_mesh

Load = Callable[..., TrainingModel]
Folder = Callable[..., Path]


@pytest.fixture
def copy_of(tiny_model_folder: Folder, tmp_path: Path) -> Folder:
    def make(name: str, **changes: Any) -> Path:
        return Path(shutil.copytree(tiny_model_folder(name, **changes), tmp_path / "model"))

    return make


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(QUERY), "not in the files"),
        (lambda tensors: tensors.update({"model.layers.7.mlp.weight": torch.ones(2)}), "in the files but not in"),
        (lambda tensors: tensors.update({QUERY: torch.ones(3, 3)}), r"q_proj\.weight \[3, 3\] instead of \[16, 16\]"),
        (lambda tensors: tensors[QUERY].fill_(float("nan")), "NaN or infinity"),
        (lambda tensors: tensors["model.norm.weight"].fill_(float("inf")), "NaN or infinity"),
        (lambda tensors: tensors.pop("lm_head.weight"), "lm_head"),
    ],
    ids=["missing", "unexpected", "other shape", "NaN", "infinity", "untied head missing"],
)
def test_file_that_does_not_fit_the_model_is_refused(
    change: Callable[[Any], Any], message: str, copy_of: Folder, load: Load
) -> None:
    folder = copy_of("mistral")
    edit(folder, change)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_tied_head_is_not_missed(copy_of: Folder, load: Load) -> None:
    folder = copy_of("mistral-tied")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    assert load(folder).tied


def test_head_that_differs_in_the_file_is_untied_whatever_the_configuration_says(
    copy_of: Folder, load: Load, load_plain: Callable[..., Any]
) -> None:
    folder = copy_of("mistral-tied")
    head = torch.randn(101, 16)
    edit(folder, lambda tensors: tensors.update({"lm_head.weight": head}))
    model = load(folder)
    assert not model.tied
    assert torch.equal(model.hf.get_output_embeddings().weight.full_tensor(), head)
    inputs = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.logits(inputs), load_plain(folder)(input_ids=inputs).logits)


def test_truncated_safetensors_is_named(copy_of: Folder, load: Load) -> None:
    folder = copy_of("mistral")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file"):
        load(folder)


@pytest.fixture
def pickled(copy_of: Folder, load_plain: Callable[..., Any]) -> Path:
    folder = copy_of("mistral")
    torch.save(load_plain(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickle_needs_the_key_that_the_error_names(
    pickled: Path, load: Load, settings: Callable[..., SimpleNamespace], tiny_model_folder: Folder
) -> None:
    with pytest.raises(ModelError, match=r"model\.allow_pickle"):
        load(pickled)
    allowed = load_model(settings(name_or_path=pickled, allow_pickle=True), mesh=make_mesh(), precision="fp32")
    expected = dict(load(tiny_model_folder("mistral")).named_hf_parameters())
    assert all(torch.equal(p.full_tensor(), expected[n].full_tensor()) for n, p in allowed.named_hf_parameters())


def test_pickle_that_runs_code_does_not_run_even_when_allowed(
    pickled: Path, settings: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    target = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (target,)

    torch.save({"model.norm.weight": Evil()}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="more than tensors"):
        load_model(settings(name_or_path=pickled, allow_pickle=True), mesh=make_mesh(), precision="fp32")
    assert not target.exists()


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/passwd", "missing.safetensors"])
def test_index_that_leaves_the_folder_is_refused(name: str, copy_of: Folder, load: Load) -> None:
    folder = copy_of("mistral")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        load(folder)


def test_folder_without_weights_is_named(copy_of: Folder, load: Load) -> None:
    folder = copy_of("mistral")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load(folder)


def test_evil_attention_key_is_dropped_and_the_model_loads(copy_of: Folder, load: Load) -> None:
    folder = copy_of("mistral")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_attn_implementation": "someone/kernels"}))
    facts = load(folder, attn_implementation="sdpa").describe()
    assert facts["attention"] == "sdpa"
    assert facts["dropped_config_keys"] == ["_attn_implementation"]


def test_attention_that_this_machine_cannot_do_is_one_clear_error(tiny_model_folder: Folder, load: Load) -> None:
    with pytest.raises(ModelError, match=r"(?i)flash"):
        load(tiny_model_folder("mistral"), attn_implementation="flash_attention_2")


@pytest.mark.parametrize(
    "name", ["mistral", "gemma2", "gemma3", "gemma3-multimodal", "phi3", "gpt_neox", "qwen3_moe", "deepseek_v3"]
)
def test_parameters_and_buffers_are_those_of_a_plain_load(
    name: str, tiny_model_folder: Folder, load: Load, load_plain: Callable[..., Any]
) -> None:
    """RoPE's inv_freq and Gemma's embed_scale are in no file: after a meta build they must come back."""
    model, plain = load(tiny_model_folder(name)), load_plain(tiny_model_folder(name))
    buffers, expected = dict(model.hf.named_buffers()), dict(plain.named_buffers())
    assert buffers.keys() == expected.keys()
    assert any("inv_freq" in key for key in buffers)
    for key, value in expected.items():
        assert torch.equal(buffers[key], value), key
        assert buffers[key].dtype == value.dtype, key
    parameters = dict(model.named_hf_parameters())
    for key, value in plain.named_parameters():
        assert torch.equal(parameters[key].full_tensor(), value), key


def test_long_context_rope_scaling_survives(
    tiny_model_folder: Folder, load: Load, load_plain: Callable[..., Any]
) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    folder = tiny_model_folder("llama", rope_parameters=scaling)
    inputs = torch.arange(60)[None] % 90
    with torch.no_grad():
        expected = load_plain(folder)(input_ids=inputs, use_cache=False).logits
        torch.testing.assert_close(load(folder).logits(inputs), expected, rtol=1e-5, atol=1e-5)


def test_vision_tower_is_frozen_named_and_unchanged(
    tiny_model_folder: Folder, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = load(tiny_model_folder("gemma3-multimodal"))
    frozen = [name for name, parameter in model.named_hf_parameters() if not parameter.requires_grad]
    assert frozen == model.describe()["frozen"]
    assert {".".join(name.split(".")[:2]) for name in frozen} == {"model.vision_tower", "model.multi_modal_projector"}
    assert "model.vision_tower" in caplog.text
    assert model.describe()["trained_parameters"] < model.describe()["parameters"]


@pytest.mark.parametrize("name", ["mistral", "mixtral", "qwen3_moe", "gpt_neox", "deepseek_v3"])
def test_nothing_is_frozen_in_a_text_model(name: str, tiny_model_folder: Folder, load: Load) -> None:
    model = load(tiny_model_folder(name))
    assert model.describe()["frozen"] == []
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_random_weights_are_those_of_the_seed(
    settings: Callable[..., SimpleNamespace], tiny_config: Callable[..., Any]
) -> None:
    def draw(seed: int, precision: str = "fp32") -> dict[str, torch.Tensor]:
        before = torch.random.get_rng_state()
        model = load_model(
            settings(architecture=tiny_config("llama")), mesh=make_mesh(), seed=seed, precision=precision
        )
        assert torch.equal(torch.random.get_rng_state(), before)
        return {name: parameter.full_tensor() for name, parameter in model.named_hf_parameters()}

    first, again, other, rounded = draw(1), draw(1), draw(2), draw(1, "pure-bf16")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert all(torch.equal(first[name].bfloat16(), rounded[name]) for name in first)


def test_plain_read_equals_from_pretrained(tiny_model_folder: Folder) -> None:
    ours, _ = read_pretrained(tiny_model_folder("mixtral"))
    plain = AutoModelForCausalLM.from_pretrained(tiny_model_folder("mixtral"), dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


def test_dropout_is_reported(tiny_model_folder: Folder, load: Load) -> None:
    facts = load(tiny_model_folder("llama", attention_dropout=0.1)).describe()
    assert facts["dropout"] == {"config.attention_dropout": 0.1}
    assert load(tiny_model_folder("llama")).describe()["dropout"] == {}
    json.dumps(facts)
