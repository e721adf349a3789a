"""Which keys of three configurations must agree."""

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedConfig

from tsugiki.errors import ModelError
from tsugiki.model.graft_settings import compare_settings
from tsugiki.model.safe_config import build_config


def compare(values: dict[str, Any], **of_chat: Any) -> list[str]:
    def built(**changes: Any) -> PreTrainedConfig:
        return build_config({**values, **changes}, "it")

    return compare_settings({"base": built(), "chat": built(**of_chat), "ours": built()})


def test_what_decides_nothing_may_differ(tiny_config: Callable[..., Any]) -> None:
    assert not compare(
        tiny_config("mixtral"), vocab_size=120, eos_token_id=[2, 7], dtype="bfloat16", use_cache=False,
        initializer_range=0.5, attention_dropout=0.1, router_aux_loss_coef=0.3, transformers_version="4.1", unsloth_fixed=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("mistral", "sliding_window", 64, "sliding_window: base None, chat 64, ours None"),
        ("llama", "hidden_act", "gelu", "hidden_act: base 'silu', chat 'gelu', ours 'silu'"),
        ("gemma2", "final_logit_softcapping", 5.0, r"final_logit_softcapping: base 3\.0, chat 5\.0"),
        ("qwen3", "layer_types", ["full_attention", "sliding_attention"], "layer_types: base"),
        ("mixtral", "num_experts_per_tok", 1, "num_experts_per_tok: base 2, chat 1"),
        ("llama", "rope_theta", 5e5, r"rope_parameters: base .*10000\.0.* chat .*500000\.0"),
    ],
)
def test_what_decides_is_refused_with_all_values(
    name: str, key: str, value: Any, said: str, tiny_config: Callable[..., Any]
) -> None:
    with pytest.raises(ModelError, match=said):
        compare(tiny_config(name), **{key: value})


def test_parts_are_compared_by_their_own_names(tiny_config: Callable[..., Any]) -> None:
    values = tiny_config("gemma3-multimodal")
    with pytest.raises(ModelError, match=r"text_config\.rms_norm_eps: base 1e-06, chat 0\.001"):
        compare(values, text_config={**values["text_config"], "rms_norm_eps": 1e-3})


def test_the_longest_text_matters_where_angles_depend_on_it(tiny_config: Callable[..., Any]) -> None:
    assert compare(tiny_config("llama"), max_position_embeddings=512)[0].startswith("max_position_embeddings: base 128")
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(ModelError, match="max_position_embeddings: base 128, chat 512"):
        compare({**tiny_config("llama"), "rope_parameters": dynamic}, max_position_embeddings=512)
