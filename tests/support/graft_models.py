"""Bases, chat models and continued ones of the same tiny architecture, and the chat vector by a naive loop."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"
"""A template that needs no token which a base lacks."""
WEIGHTS = "model.safetensors"


def make_base(folder: Path, model: Path, tokenizer: Path | None, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A copy of a model's folder in a number format, with a tokenizer."""
    shutil.copytree(model, folder)
    if tokenizer is not None:
        shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    change_weights(folder, lambda name, tensor: tensor.to(dtype))
    return folder


def varied(source: Path, target: Path, seed: int, amount: float = 0.05) -> Path:
    """A model that differs from `source` by a little in about two of three numbers of every tensor."""
    shutil.copytree(source, target)
    generator = torch.Generator().manual_seed(seed)

    def move(_: str, tensor: torch.Tensor) -> torch.Tensor:
        noise = amount * torch.randn(tensor.shape, generator=generator)
        noise *= torch.rand(tensor.shape, generator=generator) < 0.67
        return (tensor.float() + noise).to(tensor.dtype)

    return change_weights(target, move)


def as_chat(folder: Path, template: str = PLAIN) -> Path:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def change_weights(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    tensors = load_file(folder / WEIGHTS)
    save_file(
        {name: change(name, tensor).contiguous() for name, tensor in tensors.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    return folder


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    change(values)
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def naive(ours: Path, base: Path, chat: Path, scale: float) -> dict[str, torch.Tensor]:
    """Whole tensors of models with one vocabulary, in fp32, one after the other."""
    a, b, c = map(tensors_of, (ours, base, chat))
    return {name: (a[name].float() + scale * (c[name].float() - b[name].float())).to(a[name].dtype) for name in a}


def add_chat_tokens(folder: Path, tokens: list[str], seed: int = 5) -> Path:
    """Tokens behind all others, with rows of their own in every matrix that has a row for each piece."""
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    first = max([*state["model"]["vocab"].values(), *(token["id"] for token in state["added_tokens"])]) + 1
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    state["added_tokens"] += [{"id": first + at, "content": text, **flags} for at, text in enumerate(tokens)]
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
    old = json.loads((folder / "config.json").read_text())["vocab_size"]
    size = max(old, first + len(tokens))
    generator = torch.Generator().manual_seed(seed)

    def grow(_: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[0] != old:
            return tensor
        new = tensor.new_zeros(size, *tensor.shape[1:])
        new[:old] = tensor
        rows = slice(first, first + len(tokens))
        new[rows] = torch.randn(new[rows].shape, generator=generator).to(new.dtype)
        return new

    change_weights(folder, grow)
    edit(folder / "config.json", lambda config: config.update(vocab_size=size))
    return folder
