"""What a recipe names and this machine must have: files, folders, extras, and a model with positions enough.

Problems are given as in `recipe_checks`. Hub ids are not asked for: that takes a network.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from tsugiki.errors import TsugikiError
from tsugiki.files import read_json
from tsugiki.model.weight_files import check_weight_files
from tsugiki.recipe import Recipe
from tsugiki.recipe_corpus import CorpusSection
from tsugiki.recipe_evaluation import split_tasks
from tsugiki.shapes import Path, Problem

POSITION_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


def missing_inputs(recipe: Recipe) -> Iterator[Problem]:
    """Inputs that are not on this machine, and places of outputs that are taken."""
    corpora: list[tuple[Path, CorpusSection]] = [
        (("data", "sources", name), source) for name, source in recipe.data.sources.items()
    ]
    if recipe.vocabulary is not None:
        corpora += [(("vocabulary", "corpora", name), corpus) for name, corpus in recipe.vocabulary.corpora.items()]
    for here, corpus in corpora:
        for index, pattern in enumerate(corpus.paths):
            path: Path = (*here, "path", *([index] if len(corpus.paths) > 1 else []))
            if os.path.isdir(pattern):  # noqa: PTH112 (pathlib raises on names that are too long)
                yield Problem(path, f"{pattern} is a folder; write {pattern.rstrip('/')}/*.jsonl or the like")
            elif not any(map(os.path.isfile, glob.iglob(pattern, recursive=True))):  # noqa: PTH207
                kind = "no file matches" if glob.has_magic(pattern) else "no such file:"
                yield Problem(path, f"{kind} {pattern} (from {os.getcwd()})")  # noqa: PTH109
    if recipe.evaluation is not None:
        needed = recipe.evaluation.suite != "quick" and split_tasks(recipe.evaluation.tasks)[0] != []
        if needed and importlib.util.find_spec("lm_eval") is None:
            yield Problem(("evaluation",), "needs: pip install 'tsugiki[eval]'; suite: quick does without")
        if recipe.evaluation.task_dir is not None and not recipe.evaluation.task_dir.is_dir():
            yield Problem(("evaluation", "task_dir"), f"no such folder: {recipe.evaluation.task_dir}")
    for key in ("name_or_path", "tokenizer"):
        named = getattr(recipe.model, key)
        if named is None:
            continue
        folder = os.path.isdir(named)  # noqa: PTH112
        if not folder and os.path.exists(named):  # noqa: PTH110
            yield Problem(("model", key), f"{named} is a file; name the folder that holds it")
        elif not folder and not looks_like_hub_id(named):
            yield Problem(("model", key), f"no such folder: {named} (from {os.getcwd()})")  # noqa: PTH109
        elif folder and key == "name_or_path":
            yield from _model_folder(recipe, FilePath(named))
    folders: tuple[tuple[Path, FilePath], ...] = (
        (("run_dir",), recipe.run_dir), (("data", "prepared_dir"), recipe.prepared_dir),
        (("vocabulary", "output_dir"), recipe.vocabulary_dir),
    )  # fmt: skip
    for path, directory in folders:
        if os.path.exists(directory) and not os.path.isdir(directory):  # noqa: PTH110, PTH112
            yield Problem(path, f"{directory} is a file; name a folder")


def _model_folder(recipe: Recipe, folder: FilePath) -> Iterator[Problem]:
    path = folder / "config.json"
    if not path.exists():
        yield Problem(("model", "name_or_path"), f"{folder} has no config.json; is it a Hugging Face model folder?")
        return
    try:
        yield from too_long_windows(recipe, read_json(path), str(path))
        check_weight_files(folder, recipe.model.allow_pickle)
    except TsugikiError as error:
        yield Problem(("model", "name_or_path"), str(error))


def too_long_windows(recipe: Recipe, config: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """A window longer than the model's positions fails in the first forward, or trains on nonsense."""
    inner = config.get("text_config")
    for candidate in (config, inner if isinstance(inner, dict) else {}):
        for key in POSITION_KEYS:
            limit = candidate.get(key)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit < recipe.data.sequence_length:
                yield Problem(
                    ("data", "sequence_length"),
                    f"{recipe.data.sequence_length} is more than the model's {limit} positions ({key} in {where})",
                )
                return


def looks_like_hub_id(name: str) -> bool:
    """Whether a name can be a hub id by the hub's own rules: `owner/model`, or a name alone such as `gpt2`."""
    part = r"\b[\w.-]+\b"
    return (
        re.fullmatch(rf"({part}/)?{part}", name, re.ASCII) is not None
        and len(name.rpartition("/")[2]) <= 96
        and not re.search(r"--|\.\.|\.git$", name)
    )
