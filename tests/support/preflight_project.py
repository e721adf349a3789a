"""A tiny project (two languages, prepared once) and runs opened on it, for the tests of preflight."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import open_prepared
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.recipe import Recipe
from tsugiki.training.distributed import Processes
from tsugiki.training.run import Run, open_run
from tsugiki.training.signals import StopRequest

WORDS = {
    "en": ["a", "river", "remembers", "valley", "that", "it", "made", "and", "mountains", "stood", "in", "windows"],
    "ja": ["川は", "自分が", "作った", "谷を", "覚えていて", "朝の", "市場では", "人々の", "声が", "響いていた", "。"],
}


def documents(language: str, count: int = 60) -> list[str]:
    """Texts of uneven length, the same at every call."""
    drawn = random.Random(language)
    glue = " " if language == "en" else ""
    return [glue.join(drawn.choices(WORDS[language], k=drawn.randint(5, 40))) for _ in range(count)]


def conversations(count: int = 40) -> list[dict[str, Any]]:
    """Questions and answers in one or two turns, of which the last answer of some counts half."""
    drawn, found = random.Random("conversations"), []
    for number in range(count):
        said: list[dict[str, Any]] = []
        for _ in range(1 + number % 2):
            said.append({"role": "user", "content": " ".join(drawn.choices(WORDS["en"], k=drawn.randint(1, 6)))})
            said.append({"role": "assistant", "content": "".join(drawn.choices(WORDS["ja"], k=drawn.randint(1, 4)))})
        if number % 3 == 0:
            said[-1]["weight"] = 0.5
        found.append({"messages": said})
    return found


def chat_changes(folder: Path) -> dict[str, Any]:
    """Changes of `recipe_values` that bring in a chat source beside the text."""
    talk = {"path": str(folder / "talk.jsonl"), "format": "chat", "weight": 60, "language": "ja"}
    text = {"path": str(folder / "en.jsonl"), "weight": 40, "language": "en", "loss_weight": 0.25}
    return {
        "data.sources": {"talk": talk, "en": text}, "data.chat": {"template": "mistral-v1"},
        "data.prepared_dir": str(folder / "chat-data"), "data.sequence_length": 96,
    }  # fmt: skip


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


def make_project(folder: Path, tokenizer: Path) -> Path:
    """Writes the corpora and their stores into `folder`."""
    for language in WORDS:
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in documents(language)]
        (folder / f"{language}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [json.dumps(record, ensure_ascii=False) for record in conversations()]
    (folder / "talk.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    architecture = {"architecture": {"model_type": "mistral", "vocab_size": 384}}
    for changes in ({}, {"data.packing": "best_fit"}, chat_changes(folder)):
        recipe = Recipe.model_validate(recipe_values(folder, tokenizer, architecture, **changes))
        prepare(recipe, TextTokenizer.from_folder(tokenizer))
    return folder
