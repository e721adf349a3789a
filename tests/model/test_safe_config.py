"""A configuration from a stranger: what could fetch or run code is dropped, what cannot be trained is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tsugiki.errors import ModelError
from tsugiki.model.safe_config import build_config, check_architecture, clean_config, read_config

GOOD = {"model_type": "mistral", "hidden_size": 16, "vocab_size": 101}

EVIL = {
    "auto_map": {"AutoModelForCausalLM": "modeling_evil.EvilForCausalLM"},
    "_attn_implementation": "someone/kernels",
    "attn_implementation": "someone/kernels",
    "_attn_implementation_internal": "someone/kernels",
    "_attn_implementation_autoset": True,
    "_experts_implementation": "someone/kernels",
    "trust_remote_code": True,
    "use_kernels": True,
    "kernel_config": {"kernel_mapping": {"RMSNorm": "someone/kernels:Evil"}},
    "kernels": "someone/kernels",
    "custom_pipelines": {"text-generation": {"impl": "evil.py"}},
    "vocab_file": "/etc/passwd",
    "other_file": "../../.ssh/id_ed25519",
    "windows_file": "C:\\Users\\someone\\secret",
    "home_file": "~/.netrc",
    "remote": "https://example.org/evil.py",
}


@pytest.mark.parametrize("key", EVIL)
def test_key_that_could_run_or_fetch_code_is_dropped_and_named(key: str) -> None:
    values, dropped = clean_config({**GOOD, key: EVIL[key]}, "config.json")
    assert values == GOOD
    assert dropped == [key]


@pytest.mark.parametrize("key", EVIL)
def test_the_same_in_a_nested_part(key: str) -> None:
    raw = {"model_type": "gemma3", "text_config": {"vocab_size": 101, key: EVIL[key]}, "parts": [{key: EVIL[key]}]}
    values, dropped = clean_config(raw, "config.json")
    assert values == {"model_type": "gemma3", "text_config": {"vocab_size": 101}, "parts": [{}]}
    assert dropped == [f"text_config.{key}", f"parts[0].{key}"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hiddn_size": 16}, "model.architecture.hiddn_size: MistralConfig has no such key; did you mean hidden_size?"),
        ({"Vocab_size": 16}, "model.architecture.Vocab_size: MistralConfig has no such key; did you mean vocab_size?"),
        ({"model_type": "mistrl"}, "model_type 'mistrl' is not one that the installed transformers knows"),
        ({"vocab_size": -1}, "model.architecture: vocab_size must be from 1 to 10,000,000, not -1"),
        (
            {"num_hidden_layers": 10**12},
            "model.architecture: num_hidden_layers must be from 1 to 1,000, not 1000000000000",
        ),
        ({"num_attention_heads": 6, "num_key_value_heads": 4, "head_dim": 4}, "num_key_value_heads 4 must divide"),
        ({"hidden_size": "16"}, "model.architecture is refused by transformers"),
    ],
)
def test_an_architecture_that_cannot_be_meant_is_refused_by_key(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_architecture({**GOOD, **change})
    assert said in str(caught.value)


def test_a_misspelt_key_of_a_part_is_named_with_its_place() -> None:
    with pytest.raises(ModelError, match=r"architecture\.text_config\.hiden_size: .* did you mean hidden_size\?"):
        check_architecture({"model_type": "gemma3", "text_config": {"hiden_size": 16}})


def test_architectures_that_classes_take_are_taken(tiny_config: Any, tiny_names: list[str]) -> None:
    for name in tiny_names:  # with keys that a class uses without declaring them, and as transformers writes them back
        check_architecture(tiny_config(name))
        check_architecture(build_config(clean_config(tiny_config(name), name)[0], name).to_dict())


def test_numbers_with_kernel_in_their_name_stay() -> None:
    raw = {**GOOD, "conv_kernel": 4, "mamba_d_conv_kernel_size": [3, 3]}
    assert clean_config(raw, "config.json") == (raw, [])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "model_type None"),
        ({"model_type": "mistrall"}, "nearest known one is 'mistral'"),
        ({"model_type": ["mistral"]}, "not one that the installed transformers knows"),
        ([GOOD], "must be a mapping"),
        ({**GOOD, "quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_configuration_that_cannot_be_trained_is_refused(raw: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        clean_config(raw, "config.json")


def test_deep_nesting_is_refused() -> None:
    raw: dict[str, Any] = dict(GOOD)
    for _ in range(60):
        raw = {**GOOD, "inner": raw}
    with pytest.raises(ModelError, match="nested deeper"):
        clean_config(raw, "config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "config.json is missing"), ("{", "cannot be read"), ("[" * 100_000, "cannot be read"), ("\xff", "read")],
)
def test_missing_or_damaged_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=message) as caught:
        read_config(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_adapter_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="merge it"):
        read_config(tmp_path)


def test_refusal_of_transformers_is_one_message_with_the_file() -> None:
    with pytest.raises(ModelError, match=r"config\.json is refused by transformers"):
        build_config({**GOOD, "hidden_size": "many"}, "config.json")
