"""Tiny models with a chat template: random weights, and the small tokenizers of several families."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_tokenizers import chat_tokenizer, family, mistral

from tsugiki.chat.templates import choose_template

TEMPLATES = {"llama3": "llama-3", "qwen": "qwen", "gemma": "gemma", "v1": "mistral-v1", "v3": "mistral-v3"}
"""The named template of each tokenizer."""


def tokenizer_named(name: str) -> Any:
    return mistral(name) if name in ("v1", "v3") else family(name)


def chat_folder(folder: Path, name: str, tiny_model_folder: Callable[..., Path], **changes: Any) -> Path:
    """A tiny Llama with the tokenizer `name` and its template; `changes` are the model's."""
    tokenizer = tokenizer_named(name)
    shutil.copytree(tiny_model_folder("llama", **{"vocab_size": -(-len(tokenizer) // 8) * 8, **changes}), folder)
    tokenizer.save_pretrained(folder)
    source = choose_template(chat_tokenizer(name), TEMPLATES[name]).source
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    return folder
