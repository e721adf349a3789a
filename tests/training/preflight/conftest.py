"""A tiny project (two languages, prepared once) and runs opened on it, to be probed whole and then broken."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tsugiki.corpus.prepare import open_prepared, prepare
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.recipe import Recipe
from tsugiki.training.distributed import Processes, start_processes
from tsugiki.training.run import Run, open_run
from tsugiki.training.signals import StopRequest

WORDS = {
    "en": "a river remembers the valley that it made and mountains stood in windows like old neighbours".split(),
    "ja": "川は 自分が 作った 谷を 覚えていて 朝の 市場では 人々の 声が 響いていた".split(),
}


def documents(language: str, count: int = 60) -> list[str]:
    """Texts of uneven length, the same at every call."""
    drawn = random.Random(language)
    glue = " " if language == "en" else ""
    return [glue.join(drawn.choices(WORDS[language], k=drawn.randint(5, 40))) for _ in range(count)]


def recipe_values(folder: Path, tokenizer: Path, model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The recipe of the tests as plain values; dotted keys in `changes` replace some."""
    values: dict[str, Any] = {
        "run_dir": str(folder / "run"),
        "seed": 7,
        "model": {**model, "tokenizer": str(tokenizer)},
        "data": {
            "sequence_length": 24, "held_out": 0.0, "workers": 1, "prepared_dir": str(folder / "data"),
            "sources": {
                "ja": {"path": str(folder / "ja.jsonl"), "weight": 70, "language": "ja"},
                "en": {"path": str(folder / "en.jsonl"), "weight": 30, "language": "en"},
            },
        },
        "training": {
            "max_steps": 20, "global_batch_size": 8, "micro_batch_size": 2, "learning_rate": 1e-3, "min_lr": 1e-4,
            "warmup_steps": 4, "adam_beta2": 0.7, "precision": "fp32", "save_steps": 10, "loss_chunk_tokens": 16,
        },
        "tracking": {"report_to": ["none"]},
    }  # fmt: skip
    for key, value in changes.items():
        *sections, last = key.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value
    return values


def open_from(values: dict[str, Any], processes: Processes, say: Callable[[str], None]) -> Run:
    """A run on prepared data, as the pipeline opens one."""
    recipe = Recipe.model_validate(values)
    folder = recipe.model.tokenizer or recipe.model.name_or_path
    tokenizer = TextTokenizer.from_folder(Path(str(folder)))
    base = Path(recipe.model.name_or_path) if recipe.model.name_or_path else None
    return open_run(recipe, open_prepared(recipe), tokenizer, base, processes, StopRequest(), say)


@pytest.fixture(scope="session")
def preflight_processes() -> Processes:
    torch.set_num_threads(1)
    return start_processes()


@pytest.fixture(scope="session")
def preflight_project(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path) -> Path:
    """A folder with corpora and their stores."""
    folder = tmp_path_factory.mktemp("preflight")
    for language in WORDS:
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in documents(language)]
        (folder / f"{language}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    architecture = {"architecture": {"model_type": "mistral", "vocab_size": 384}}
    recipe = Recipe.model_validate(recipe_values(folder, tiny_tokenizer_folder, architecture))
    prepare(recipe, TextTokenizer.from_folder(tiny_tokenizer_folder))
    return folder


@pytest.fixture
def open_tiny(
    preflight_project: Path, preflight_processes: Processes, tiny_tokenizer_folder: Path,
    tiny_config: Callable[..., dict[str, Any]], tmp_path: Path,
) -> Iterator[Callable[..., Run]]:  # fmt: skip
    """`open_tiny("llama", **{"training.max_steps": 5})`: a fresh run; what it says is in `run.said`."""

    def make(name: str = "mistral", folder: Path | None = None, **changes: Any) -> Run:
        model = {"name_or_path": str(folder)} if folder else {"architecture": tiny_config(name, vocab_size=384)}
        changes = {"run_dir": str(tmp_path / "run"), **changes}
        values = recipe_values(preflight_project, tiny_tokenizer_folder, model, **changes)
        said: list[str] = []
        run = open_from(values, preflight_processes, said.append)
        run.said = said  # type: ignore[attr-defined]
        return run

    yield make
