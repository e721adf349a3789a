"""Read a model's configuration as data from a stranger: nothing in it may fetch or run code.

transformers refuses remote code unless asked, but a configuration has other ways: `_attn_implementation` naming a
hub repository overrides the argument of the same name, kernel keys load compiled code, `auto_map` names Python
files. Such keys are dropped before a configuration object is built, in nested parts too, and named. A
`model_type` that transformers does not know is an error, as are quantised weights and adapters, which cannot be
trained as they are.
"""

import difflib
import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tsugiki.errors import ModelError
from tsugiki.model_folder import own_files
from tsugiki.printable import one_line

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 40
SIZES = {"vocab_size": 10**7, "hidden_size": 10**6, "num_hidden_layers": 1000, "num_attention_heads": 10**4}
"""The largest that is believed; far above any model that there is."""
A_LETTER_AWAY = 0.9
"""Likeness of two keys; `moe_intermediate_size` and `intermediate_size` are 0.89."""
_CODE_KEYS = re.compile(r"auto_map|trust_remote_code|kernel|_implementation|custom_pipelines|custom_generate")
# Convolution widths (`conv_kernel`, `kernel_size`, `short_conv_kernel_size`) are numbers and stay.
_NUMBERS = (int, float, list, type(None))


def read_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """`config.json` of `folder` without what is dangerous, and the dotted keys that were dropped.

    Raises ModelError where it is missing, damaged, a link out of the folder, of an unknown `model_type`, quantised, or
    an adapter's.
    """
    path = folder / "config.json"
    own_files(folder, [path.name])
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} holds an adapter (adapter_config.json): merge it into its base model first")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES >> 20} MiB: not a model configuration")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder} is no model folder: config.json is missing (model.name_or_path names a Hugging Face folder)"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    return clean_config(raw, str(path))


def clean_config(raw: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """The same for a configuration at hand (`model.architecture`, or a JSON value); `where` is named in errors."""
    if not isinstance(raw, dict):
        raise ModelError(f"{where} must be a mapping with model_type, not {type(raw).__name__}")
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(model_type), list(CONFIG_MAPPING.keys()), n=1)
        hint = f"; the nearest known one is {near[0]!r}" if near else ""
        raise ModelError(
            f"{where}: model_type {model_type!r} is not one that the installed transformers knows{hint} "
            "(code that comes with a model is never run)"
        )
    if raw.get("quantization_config"):
        raise ModelError(f"{where}: quantised weights cannot be trained; use the model they were made from")
    dropped: list[str] = []
    return _clean(raw, "", dropped, where, 0), dropped


def build_config(values: dict[str, Any], where: str) -> PreTrainedConfig:
    """The configuration object of cleaned `values`; ModelError with transformers' reason where it refuses them, or
    where no model can have the sizes that they give."""
    try:
        config = CONFIG_MAPPING[values["model_type"]].from_dict(values)
    except Exception as error:  # each configuration class raises what it likes
        raise ModelError(
            f"{where} is refused by transformers: {one_line(error, 300) or type(error).__name__}"
        ) from error
    _check_sizes(config.get_text_config(), where)
    return config


def _check_sizes(config: PreTrainedConfig, where: str) -> None:
    """torch would say it later, after minutes for a long list of layers, and without a key."""
    for key, most in SIZES.items():
        size = getattr(config, key, None)
        if isinstance(size, int) and not 0 < size <= most:
            raise ModelError(f"{where}: {key} must be from 1 to {most:,}, not {str(size)[:40]}")
    heads, groups = (getattr(config, key, None) for key in ("num_attention_heads", "num_key_value_heads"))
    if isinstance(heads, int) and isinstance(groups, int) and (groups < 1 or heads % groups):
        raise ModelError(
            f"{where}: num_key_value_heads {str(groups)[:40]} must divide num_attention_heads {str(heads)[:40]}"
        )


def check_architecture(raw: Any) -> None:
    """Refuse a `model.architecture` that cannot be built, or that has a misspelt key.

    transformers takes any key and uses none that it does not know, so that the model would be trained with a default.
    Not every unknown key is a mistake (Qwen3-MoE reads a `head_dim` that its class does not declare), but one that is a
    letter away from a known one is. Raises ModelError.
    """
    where = "model.architecture"
    values, _ = clean_config(raw, where)
    _require_well_spelt(values, build_config(values, where), where)


def _require_well_spelt(values: dict[str, Any], config: PreTrainedConfig, where: str) -> None:
    known = [name for name in {*dir(type(config)()), *config.attribute_map} if not name.startswith("_")]
    for key, value in values.items():
        if key not in known and not key.startswith("_"):
            near = difflib.get_close_matches(key[:80], known, n=1, cutoff=A_LETTER_AWAY)
            if near:
                raise ModelError(
                    f"{where}.{key[:80]}: {type(config).__name__} has no such key; did you mean {near[0]}?"
                )
        part = getattr(config, key, None)
        if isinstance(value, dict) and isinstance(part, PreTrainedConfig):
            _require_well_spelt(value, part, f"{where}.{key}")


def _clean(value: Any, key: str, dropped: list[str], where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ModelError(f"{where} is nested deeper than {MAX_DEPTH} levels: not a model configuration")
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            dotted = f"{key}.{name}" if key else str(name)
            if _runs_code(str(name), inner) or _is_path(inner):
                dropped.append(dotted)
            else:
                kept[name] = _clean(inner, dotted, dropped, where, depth + 1)
        return kept
    if isinstance(value, list):
        return [_clean(inner, f"{key}[{place}]", dropped, where, depth + 1) for place, inner in enumerate(value)]
    return value


def _runs_code(name: str, value: Any) -> bool:
    if not _CODE_KEYS.search(name.lower()):
        return False
    is_width = "kernel" in name.lower() and not isinstance(value, bool) and isinstance(value, _NUMBERS)
    return not is_width


def _is_path(value: Any) -> bool:
    """An absolute path, one that climbs, or a URL: a configuration has no business outside its folder."""
    if not isinstance(value, str):
        return False
    return (
        PurePosixPath(value).is_absolute()
        or PureWindowsPath(value).is_absolute()
        or ".." in re.split(r"[/\\]", value)
        or value.startswith("~")
        or "://" in value
    )
