"""Small corpora and recipes over them, for the tests of the data room."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import mistral

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe


def texts(count: int, start: int = 0, size: int = 1200) -> list[str]:
    """Different documents of about `size` bytes, Japanese and English."""
    return [
        (f"文書{number}。川は谷を覚えている。" if number % 2 else f"Document {number}: the river remembers. ")
        * (size // 40)
        for number in range(start, start + count)
    ]


def write_jsonl(path: Path, documents: Iterable[Any], key: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (document if isinstance(document, str) and document.startswith("{") else json.dumps({key: document})
             for document in documents)  # fmt: skip
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_texts() -> Callable[..., list[str]]:
    """`make_texts(count, start=0, size=1200)`"""
    return texts


@pytest.fixture(scope="session")
def jsonl() -> Callable[..., Path]:
    """`jsonl(path, documents)`: write texts (or finished lines that begin with a brace) as JSON Lines."""
    return write_jsonl


@pytest.fixture(scope="session")
def tokenizer(tiny_tokenizer_folder: Path) -> TextTokenizer:
    return TextTokenizer.from_folder(tiny_tokenizer_folder)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """Mistral's vocabulary as tokenizer.json, which splits no words first."""
    folder = tmp_path_factory.mktemp("mistral")
    mistral("v1").backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
    return TextTokenizer.from_folder(folder)


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_tokenizer_folder: Path) -> Callable[..., Recipe]:
    """`make_recipe({"name": {...source keys}}, run="run", **data keys)`; the run directory is below tmp_path."""

    def make(sources: dict[str, dict[str, Any]], run: str = "run", **data: Any) -> Recipe:
        value = {
            "run_dir": str(tmp_path / run),
            "model": {
                "architecture": {"model_type": "mistral", "vocab_size": 384},
                "tokenizer": str(tiny_tokenizer_folder),
            },
            "data": {
                "sequence_length": 32, "held_out": 0.2, "workers": 1,
                "sources": {name: {"weight": 1, **source} for name, source in sources.items()}, **data,
            },
            "training": {
                "max_steps": 4, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "save_steps": 2,
            },
        }  # fmt: skip
        return parse_recipe(json.dumps(value), "recipe", [], False)

    return make
