"""A tiny base model that knows English only, of either family of tokenizers, and a recipe that extends it for Japanese.

The bases are made by the libraries themselves. The Qwen one has spare rows: more than its tokenizer has ids.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_project import TEXT
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FAMILIES = ("llama", "qwen3")
ROWS = {"llama": 420, "qwen3": 448}
"""Of the base models. The first is no multiple of 64, the second has 58 rows that no id uses."""
IDS = {"llama": 420, "qwen3": 390}
ENDS: dict[str, dict[str, Any]] = {
    "llama": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None},
    "qwen3": {"bos_token_id": None, "eos_token_id": 388, "pad_token_id": 388},
}
"""Ids of the tokenizers below."""


def lines_of(language: str, count: int = 140) -> list[str]:
    """Documents of the quickstart as JSON lines."""
    found = [line for path in sorted(TEXT.glob(f"{language}-*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return found[:count]


def texts_of(language: str) -> list[str]:
    return [json.loads(line)["text"] for line in lines_of(language)]


def make_base(folder: Path, family: str, tiny_model_folder: Callable[..., Path]) -> Path:
    """A model's folder, new: `llama` untied with a `tokenizer.model`, `qwen3` tied with a byte-level `tokenizer.json`.
    The last argument is the fixture of that name."""
    shutil.copytree(tiny_model_folder(family, vocab_size=ROWS[family], **ENDS[family]), folder)
    (sentencepiece_files if family == "llama" else byte_level_files)(folder)
    return folder


def sentencepiece_files(folder: Path) -> None:
    """SentencePiece BPE with byte fallback, trained by its own library on English."""
    from sentencepiece import SentencePieceTrainer

    SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in texts_of("en") for line in text.splitlines()),
        model_prefix=str(folder / "tokenizer"), model_type="bpe", vocab_size=IDS["llama"], byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False,
        num_threads=1, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "add_bos_token": True, "add_eos_token": False, "legacy": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def byte_level_files(folder: Path) -> None:
    """Byte-level BPE with NFC, as Qwen has, trained on English; its control tokens stand beside the model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=IDS["qwen3"] - 2, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts_of("en"), trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|endoftext|>",
              "pad_token": "<|endoftext|>", "model_max_length": 128}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def extension_recipe(folder: Path, base: Path) -> dict[str, Any]:
    """A recipe below `folder` that adds pieces, trains embeddings first and then everything."""
    for language in ("en", "ja"):
        (folder / f"{language}.jsonl").write_text("\n".join(lines_of(language)) + "\n", encoding="utf-8")
    return {
        "run_dir": str(folder / "run"),
        "model": {"name_or_path": str(base)},
        "vocabulary": {"add": 200, "language": "ja", "min_character_count": 4},
        "data": {
            "sequence_length": 64, "held_out": 0.3, "workers": 1,
            "sources": {
                "ja": {"path": str(folder / "ja.jsonl"), "weight": 2, "language": "ja"},
                "en": {"path": str(folder / "en.jsonl"), "weight": 1, "language": "en"},
            },
        },
        "training": {
            "max_steps": 6, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 5e-3, "precision": "fp32",
            "save_steps": 2, "embedding_warmup_steps": 3, "eval_steps": 3, "eval_documents": 3,
        },
        "tracking": {"report_to": ["none"]},
    }  # fmt: skip
