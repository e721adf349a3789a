"""Tiny models and a tiny tokenizer for every test folder: made once a session, on the CPU, without a network.

Vocabulary 101 is odd on purpose: it divides by neither 2 nor 3 processes.
"""

import copy
import gc
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked_scripts import Ranks
from hypothesis import settings

# The same cases in every run, and none judged by the clock.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
gc.set_threshold(20_000, 20, 20)  # of what torch and transformers bring, little is ever garbage
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background job of a script ignores it, and so would we

VOCABULARY = 101
_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GEMMA3_TEXT = {**_TEXT, "head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": 8}
_VISION = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
TINY_CONFIGS: dict[str, dict[str, Any]] = {
    "mistral": {"model_type": "mistral", **_TEXT, "sliding_window": None},
    "mistral-tied": {"model_type": "mistral", **_TEXT, "sliding_window": None, "tie_word_embeddings": True},
    "llama": {"model_type": "llama", **_TEXT},
    "qwen3": {"model_type": "qwen3", **_TEXT, "head_dim": 4, "tie_word_embeddings": True},
    "gemma2": {
        "model_type": "gemma2",
        **_TEXT,
        "head_dim": 4,
        "query_pre_attn_scalar": 4,
        "sliding_window": 8,
        "final_logit_softcapping": 3.0,
    },
    "gemma3": {"model_type": "gemma3_text", **_GEMMA3_TEXT},
    "gemma3-multimodal": {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", **_GEMMA3_TEXT},
        "vision_config": {"model_type": "siglip_vision_model", **_VISION, "vision_use_head": False},
        "mm_tokens_per_image": 1,
        "image_token_index": 90,
        "boi_token_index": 91,
        "eoi_token_index": 92,
    },
    "phi3": {"model_type": "phi3", **_TEXT},
    "gpt_neox": {"model_type": "gpt_neox", **_TEXT, "rotary_pct": 0.5},
    "granite": {
        "model_type": "granite",
        **_TEXT,
        "logits_scaling": 4.0,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.4,
    },
    "phi": {"model_type": "phi", **_TEXT, "num_key_value_heads": 4, "partial_rotary_factor": 0.5},
    "mixtral": {"model_type": "mixtral", **_TEXT, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        **_TEXT,
        "head_dim": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "norm_topk_prob": True,
    },
    "deepseek_v3": {  # has a buffer that its files hold
        "model_type": "deepseek_v3",
        **_TEXT,
        "num_key_value_heads": 4,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 4,
        "qk_rope_head_dim": 4,
        "v_head_dim": 4,
        "moe_intermediate_size": 12,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    },
}


def tiny_architecture(name: str, **changes: Any) -> dict[str, Any]:
    """The configuration called `name` as the recipe's `model.architecture` takes it, with `changes` on top."""
    return {**copy.deepcopy(TINY_CONFIGS[name]), **changes}


def make_model_folder(folder: Path, architecture: dict[str, Any], seed: int = 0, dtype: str = "float32") -> Path:
    """A Hugging Face folder with random weights (safetensors) of `architecture`."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CONFIG_MAPPING[architecture["model_type"]].from_dict(architecture)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        with torch.no_grad():  # drawn at random too: biases and norms of exactly 0 or 1 would hide mistakes
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            for name, buffer in model.named_buffers():
                if name in model.state_dict():
                    buffer.add_(0.1 * torch.randn_like(buffer))
        model.save_pretrained(folder)
    return folder


SENTENCES = [
    "A river remembers the valley that it made, and the valley remembers the river.",
    "She wrote down what the instrument showed before she allowed herself to think about it.",
    "The train left at seven; by nine the mountains stood in the window like old neighbours.",
    "When 12 is divided by 4 the answer is 3, and 3 times 4 is 12 again.",
    "川は自分が作った谷を覚えていて、谷もまた川を覚えている。",
    "彼女は考える前に、計器が示した値を書き留めた。",
    "汽車は七時に出て、九時には山々が古い隣人のように窓に立っていた。",
    "朝の市場では、魚と野菜の匂いが混ざり合い、人々の声が響いていた。",
]


def make_tokenizer_folder(folder: Path, vocabulary: int = 384) -> Path:
    """A byte-level BPE `tokenizer.json` of a few sentences, with <unk> 0, <s> 1, </s> 2, and its configuration."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "model_max_length": 128,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., dict[str, Any]]:
    """`tiny_config(name, **changes)`: see TINY_CONFIGS for the names."""
    return tiny_architecture


@pytest.fixture(scope="session")
def tiny_names() -> list[str]:
    """All names that `tiny_config` knows."""
    return list(TINY_CONFIGS)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_model_folder(name, **changes)`: a folder with random weights, made once; never write into it."""
    made: dict[str, Path] = {}

    def make(name: str, **changes: Any) -> Path:
        key = json.dumps([name, changes], sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"model-{name}")
            made[key] = make_model_folder(folder, tiny_architecture(name, **changes))
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer.json of 384 pieces (English and Japanese); never write into it."""
    return make_tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def tiny_language_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mistral with the tiny tokenizer in one folder, as a user's base model is; never write into it."""
    folder = tmp_path_factory.mktemp("language-model")
    make_model_folder(folder, tiny_architecture("mistral", vocab_size=384))
    return make_tokenizer_folder(folder)


@pytest.fixture(scope="session")
def fork_context():
    """Of processes that start at once: a process that imports torch and transformers takes seconds to start, so a fork
    server loads them once."""
    context = multiprocessing.get_context("forkserver")
    # The fork server imports before it is told pytest's path (bpo-126631), so it gets it by the environment.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    # With what a launch would otherwise import by itself, half a second each time.
    stages = ["training.stage", "training.preflight", "vocabulary.stage", "model.export", "samples", "report.write"]
    ours = [f"tsugiki.{name}" for name in ["cli", "pipeline", *stages, "evaluation.probes.while_training"]]
    others = ["transformers.models.mistral.modeling_mistral", "matplotlib.figure", "matplotlib.backends.backend_agg"]
    context.set_forkserver_preload([*ours, *others, "still_memory"])
    context.Process(target=print).start()  # starts the server while the environment holds
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return context


@pytest.fixture(scope="session")
def ranks(fork_context, tmp_path_factory) -> Ranks:
    """Runs a script as several processes (`forked_scripts`)."""
    return Ranks(fork_context, tmp_path_factory.mktemp)
