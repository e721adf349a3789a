"""Whether three models compute alike, so that the difference of two of them means something in the third.

Their configurations are compared as transformers reads them: with defaults filled in, and older spellings brought to
one. What is left out decides nothing that the weights take part in: sizes of the vocabulary, ids of tokens, names and
versions, and what only training uses.
"""

import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from tsugiki.errors import ModelError
from tsugiki.printable import one_line

_UNIMPORTANT = re.compile(
    r"vocab_size|\w*token_ids?|dtype|torch_dtype|transformers_version|architectures|_name_or_path|return_dict|"
    r"use_cache|output_\w+|id2label|label2id|problem_type|chunk_size_feed_forward|initializer_range|pretraining_tp|"
    r"max_window_layers|router_aux_loss_coef|router_jitter_noise|\w*dropout\w*|\w*pdrop|tie_word_embeddings"
)
"""Keys that may differ. Windows are compared as layer_types and sliding_window; tying by what the files hold."""
_LENGTH = "max_position_embeddings"
_FIXED_ROPE = ("default", "linear", "llama3", "proportional")
"""Kinds of RoPE whose angles do not depend on max_position_embeddings."""


def compare_settings(configs: Mapping[str, PreTrainedConfig]) -> list[str]:
    """Raise ModelError, with all values, where a setting differs that decides what the models compute.

    configs: those of the models, by what messages call them. Returns what differs and decides nothing, in words: the
    longest text that a model is meant for, which no weight depends on where the kind of RoPE does not.
    """
    kinds = {config.model_type for config in configs.values()}
    if len(kinds) > 1:
        raise ModelError(f"the models are of different kinds: {_values('model_type', configs)}")
    found = {label: _flat(config) for label, config in configs.items()}
    every = [key for key in next(iter(found.values())) if all(key in one for one in found.values())]
    different = [key for key in every if len({repr(one[key]) for one in found.values()}) > 1]
    lengths = [key for key in different if key.split(".")[-1] == _LENGTH and _rope_is_fixed(found)]
    problems = [_list(key, found) for key in different if key not in lengths]
    if problems:
        raise ModelError(
            f"the models compute differently, so a difference of weights would mean something else: "
            f"{'; '.join(problems[:5])}{' …' if len(problems) > 5 else ''}. Take a base and a chat model of the same "
            "family and version as yours"
        )
    return [f"{_list(key, found)}; that of ours stays" for key in lengths]


def _flat(config: PreTrainedConfig, prefix: str = "") -> dict[str, Any]:
    """Keys that matter, dotted where they are of a part (the text model of a multimodal one)."""
    flat: dict[str, Any] = {}
    for key, value in config.to_dict().items():
        part = getattr(config, key, None)
        if isinstance(part, PreTrainedConfig):
            flat |= _flat(part, f"{prefix}{key}.")
        elif not _UNIMPORTANT.fullmatch(key):
            flat[prefix + key] = value
    return flat


def _rope_is_fixed(found: Mapping[str, Mapping[str, Any]]) -> bool:
    for one in found.values():
        for key, value in one.items():
            if key.split(".")[-1] == "rope_parameters" and isinstance(value, dict):
                parts = value.values() if all(isinstance(part, dict) for part in value.values()) else [value]
                if any(part.get("rope_type") not in _FIXED_ROPE for part in parts):
                    return False
    return True


def _list(key: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    return f"{key}: " + ", ".join(f"{label} {one_line(repr(one[key]), 120)}" for label, one in found.items())


def _values(key: str, configs: Mapping[str, PreTrainedConfig]) -> str:
    return ", ".join(f"{label} {getattr(config, key)}" for label, config in configs.items())
