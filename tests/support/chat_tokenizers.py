"""Tokenizers of several families with the markers of their chat templates, small, as transformers loads them."""

import functools
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_bases import byte_level_state, gemma_like
from tekken import tekken_state
from tokenizers import Tokenizer

from tsugiki.chat.tokenizer import ChatTokenizer

THOUGHTS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
"""Tokens that are added and not flagged special."""
MARKERS = {
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "gpt2": ["<|endoftext|>"],
    "gemma": ["<start_of_turn>", "<end_of_turn>"],
    "cohere": [
        "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
        "<|SYSTEM_TOKEN|>",
    ],
    "glm": ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"],
    "phi3": ["<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
}  # fmt: skip
NAMES = {
    "llama3": ("<|begin_of_text|>", "<|end_of_text|>"),
    "qwen": (None, "<|endoftext|>"),
    "gpt2": ("<|endoftext|>", "<|endoftext|>"),
    "gemma": ("<bos>", "<eos>"),
    "cohere": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "glm": (None, "<|endoftext|>"),
    "phi3": ("<s>", "<|endoftext|>"),
}


@functools.cache
def family(name: str) -> Any:
    """A transformers tokenizer of a family, without a chat template."""
    from transformers import PreTrainedTokenizerFast

    if name == "gemma":
        with tempfile.TemporaryDirectory() as folder:
            state = json.loads((gemma_like(Path(folder) / "gemma") / "tokenizer.json").read_text(encoding="utf-8"))
    else:
        state = byte_level_state(pattern=None) if name == "gpt2" else byte_level_state(nfc=name == "qwen")
    first = max(state["model"]["vocab"].values()) + 1
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    thoughts = THOUGHTS if name in ("qwen", "glm") else []
    for number, piece in enumerate([*MARKERS[name], *thoughts]):
        token = {"id": first + number, "content": piece, "special": piece not in thoughts, **flags}
        state["added_tokens"].append(token)
    bos, eos = NAMES[name]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token=bos, eos_token=eos, pad_token=eos
    )


@functools.cache
def mistral(version: str) -> Any:
    """The real tokenizers of Mistral: `v1`, `v3` (SentencePiece) and `tekken`."""
    from transformers import PreTrainedTokenizerFast

    if version == "tekken":
        state = tekken_state()
        names = {3: "[INST]", 4: "[/INST]", 5: "[AVAILABLE_TOOLS]", 6: "[/AVAILABLE_TOOLS]", 7: "[TOOL_RESULTS]",
                 8: "[/TOOL_RESULTS]", 9: "[TOOL_CALLS]"}  # fmt: skip
        state["added_tokens"] = state["added_tokens"][:20]
        for number, piece in names.items():
            del state["model"]["vocab"][state["added_tokens"][number]["content"]]
            state["added_tokens"][number]["content"] = piece
            state["model"]["vocab"][piece] = number
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token="<s>", eos_token="</s>"
        )
    import mistral_common

    from tsugiki.scripts import TargetCharacters
    from tsugiki.vocabulary.sentencepiece_bpe import from_model_file

    # transformers 5.23 makes other merges of a tokenizer.model than SentencePiece's; the vocabulary stage makes its own.
    file = {"v1": "tokenizer.model.v1", "v3": "mistral_instruct_tokenizer_240323.model.v3"}[version]
    model = Path(mistral_common.__file__).parent / "data" / file
    state = from_model_file(model, TargetCharacters(["han"]), {}, bos="<s>").state([])
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token="<s>", eos_token="</s>"
    )


@functools.cache
def chat_tokenizer(name: str) -> ChatTokenizer:
    """That of a family or of a version of Mistral's, as conversations are encoded; never change it."""
    return ChatTokenizer.from_transformers(family(name) if name in MARKERS else mistral(name))


def trl_template(name: str) -> str:
    """A chat template that TRL ships; the test is skipped without TRL. The package is not imported: it takes long."""
    spec = find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("trl is not installed")
    return (Path(spec.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
