"""Bases of every kind that can be extended, small, trained on a little English, and text of the quickstart.

Each function writes a Hugging Face folder and returns it.
"""

import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT4_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 divides text into words; Qwen does with one digit at a time."""


@functools.cache
def quickstart_texts(language: str) -> list[str]:
    """Documents of the quickstart in English (`en`) or Japanese (`ja`)."""
    folder = resources.files("tsugiki.quickstart") / "text"
    paths = sorted((path for path in folder.iterdir() if path.name.startswith(f"{language}-")), key=lambda p: p.name)
    return [json.loads(line)["text"] for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(folder: Path, state: dict[str, Any] | str, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = state if isinstance(state, str) else json.dumps(state)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@functools.cache
def sentencepiece_model(vocabulary: int = 700, **options: Any) -> bytes:
    """A SentencePiece BPE model with byte fallback as Llama 2's is made, of some English."""
    import io

    import sentencepiece

    model = io.BytesIO()
    settings: dict[str, Any] = {
        "model_type": "bpe", "vocab_size": vocabulary, "byte_fallback": True, "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity", "split_digits": True, "allow_whitespace_only_pieces": True,
        "minloglevel": 2,
    }  # fmt: skip
    lines = [line for text in quickstart_texts("en")[:60] for line in text.split("\n") if line]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **settings | options)
    return model.getvalue()


def sentencepiece_folder(folder: Path, model: bytes, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def gemma_like(folder: Path) -> Path:
    """A `tokenizer.json` alone: pieces of characters, bytes for the others, spaces as marks and no mark before a text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False, max_token_length=16)
    tokenizer.train_from_iterator([word for text in quickstart_texts("en")[:30] for word in text.split("\n")], trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][:4]
    return write_json(folder, state, bos_token="<bos>", eos_token="<eos>")


def byte_level_state(size: int = 600, *, pattern: str | None = GPT4_PATTERN, nfc: bool = False) -> dict[str, Any]:
    """The content of a byte-level tokenizer.json of some English, without control tokens. The pattern None is GPT-2's,
    with a space put before a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC() if nfc else None
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(quickstart_texts("en")[:60], trainer)
    return json.loads(tokenizer.to_str())


def with_tokens_beside(state: dict[str, Any], tokens: list[str], first: int | None = None) -> dict[str, Any]:
    """Control tokens beside the model's vocabulary, from `first` on or right behind it."""
    first = len(state["model"]["vocab"]) if first is None else first
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": first + number, "content": token, **flags} for number, token in enumerate(tokens)]
    return {**state, "added_tokens": [*state["added_tokens"], *added]}


def gpt2_like(folder: Path) -> Path:
    """One control token behind the vocabulary, and a space put before a text."""
    state = with_tokens_beside(byte_level_state(pattern=None), ["<|endoftext|>"])
    return write_json(folder, state, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def llama3_like(folder: Path) -> Path:
    """Whole words are looked up before anything is merged; control tokens behind the vocabulary; BOS by a template."""
    tokens = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_{number}|>" for number in range(5))]
    state = with_tokens_beside(byte_level_state(), tokens)
    state["model"]["ignore_merges"] = True
    begin = next(token["id"] for token in state["added_tokens"])
    template = processors.TemplateProcessing(
        single=f"{tokens[0]} $A", pair=f"{tokens[0]} $A {tokens[0]} $B", special_tokens=[(tokens[0], begin)]
    )
    state["post_processor"] = json.loads(template.__getstate__())
    return write_json(folder, state, bos_token=tokens[0], eos_token=tokens[1])


def qwen_like(folder: Path) -> Path:
    """Text is put into NFC; control tokens behind the vocabulary, and none before a text."""
    pattern = GPT4_PATTERN.replace("{1,3}", "")
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]
    state = with_tokens_beside(byte_level_state(pattern=pattern, nfc=True), tokens)
    state["added_tokens"][-1]["special"] = False
    return write_json(folder, state, eos_token="<|endoftext|>")


BYTE_LEVEL = {"gpt2": gpt2_like, "llama3": llama3_like, "qwen": qwen_like}


def real_mistral(folder: Path) -> Path:
    """The tokenizer.model of Mistral 7B v0.1, from the package mistral-common."""
    import mistral_common

    model = (Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1").read_bytes()
    return sentencepiece_folder(folder, model, bos_token="<s>", eos_token="</s>")
