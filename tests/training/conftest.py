"""A tiny prepared project for tests that run the loop in this process."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

TEXT = Path(__file__).parents[2] / "src/tsugiki/quickstart/text"


@dataclass
class PreparedTiny:
    text: str  # a recipe as YAML
    sources: Any
    tokenizer: Any


@pytest.fixture(scope="session")
def prepared_tiny(tmp_path_factory, tiny_tokenizer_folder) -> PreparedTiny:
    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.pipeline import load_tokenizer, run_prepare
    from tsugiki.recipe_file import parse_recipe

    folder = tmp_path_factory.mktemp("tiny")
    for language in ("en", "ja"):
        lines = [
            line for path in sorted(TEXT.glob(f"{language}-*.jsonl")) for line in path.read_text("utf-8").splitlines()
        ]
        (folder / f"{language}.jsonl").write_text("\n".join(lines[:140]) + "\n", encoding="utf-8")
    size = max(json.loads((tiny_tokenizer_folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"].values()) + 1
    recipe = {
        "run_dir": str(folder / "run"),
        "model": {
            "architecture": {
                "model_type": "mistral", "vocab_size": size + size % 2, "hidden_size": 16, "intermediate_size": 24,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
                "max_position_embeddings": 64, "sliding_window": None,
            },
            "tokenizer": str(tiny_tokenizer_folder),
        },
        "data": {
            "sequence_length": 32, "held_out": 0.3, "workers": 1, "prepared_dir": str(folder / "data"),
            "sources": {
                "ja": {"path": str(folder / "ja.jsonl"), "weight": 2}, "en": {"path": str(folder / "en.jsonl"), "weight": 1},
            },
        },
        "training": {
            "max_steps": 6, "global_batch_size": 6, "micro_batch_size": 6, "learning_rate": 5e-3, "precision": "fp32",
            "save_steps": 3, "eval_steps": 3, "eval_documents": 3,
        },
        "tracking": {"report_to": ["none"]},
    }  # fmt: skip
    text = yaml.safe_dump(recipe)
    parsed = parse_recipe(text)
    run_prepare(parsed)
    return PreparedTiny(text, open_prepared(parsed), load_tokenizer(parsed))
