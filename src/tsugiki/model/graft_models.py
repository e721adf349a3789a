"""The three models of a chat vector, opened, and whether their tensors fit each other.

Only headers, configurations and tokenizers are read here. Tensors are found by their names, whatever file they lie in.
"""

import fnmatch
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedConfig

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.model.graft_pieces import piece_ids
from tsugiki.model.safe_config import build_config, clean_config, read_config
from tsugiki.model.stored_rows import FLOATS, StoredWeights
from tsugiki.model.vocabulary_matrices import (
    StoredNames,
    VocabularyMatrices,
    find_matrices,
    match_names,
    vocabulary_config,
    with_vocabulary,
)
from tsugiki.printable import one_line

_COMPARED = 1 << 26
"""Bytes of two matrices that are compared at a time."""


@dataclass(frozen=True, eq=False)
class GraftModel:
    """One of the three."""

    label: str
    """`base`, `chat` or `ours`: what messages call it."""
    folder: Path
    config: PreTrainedConfig
    weights: StoredWeights
    matrices: VocabularyMatrices
    names: StoredNames
    tokenizer: TextTokenizer
    pieces: dict[str, int]

    @property
    def rows(self) -> int:
        """Rows of the vocabulary matrices."""
        return vocabulary_config(self.config, str(self.folder)).vocab_size

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Tensors with a row for each piece."""
        return (*self.matrices.own, *self.matrices.copies)

    @property
    def _square(self) -> list[str]:
        """Input embedding and output layer, without its bias."""
        return [name for name in self.matrices.own if len(self.weights.tensor(name).shape) == 2]

    @cached_property
    def tied(self) -> bool:
        """Whether input embedding and output layer are one matrix: transformers unties two in the files that differ."""
        if not self.names.tied or len(self._square) == 1:
            return self.names.tied
        size = self.weights.tensor(self._square[0]).end - self.weights.tensor(self._square[0]).begin
        parts = [(place, min(place + _COMPARED, size)) for place in range(0, size, _COMPARED)]
        one, other = self._square
        return all(self.weights.bytes(one, *part) == self.weights.bytes(other, *part) for part in parts)

    def counterpart(self, name: str, of: "GraftModel") -> str | None:
        """The tensor that stands for `name` of another model. Versions of transformers have put other prefixes before
        names, and a tied matrix may be stored under one name or two."""
        if name in self.weights.files:
            return name
        end, target = name.split(".")[-2:], of.names.loaded.get(name)
        alike = [own for own, into in self.names.loaded.items() if into == target and own.split(".")[-2:] == end]
        if len(alike) == 1:
            return alike[0]
        return self._square[0] if self.tied and name in of._square else None


def open_model(label: str, folder: Path, stack: ExitStack) -> GraftModel:
    """Raises ModelError where configuration, tokenizer or weights cannot be used, and StorageError."""
    where = str(folder / "config.json")
    if (folder / "checkpoints").is_dir() and not (folder / "config.json").exists():
        raise ModelError(
            f"{folder} is a run directory: name its export/, or make one by: tsugiki export {folder} OUTPUT"
        )
    values, _ = read_config(folder)
    config = build_config(values, where)
    weights = stack.enter_context(StoredWeights(folder))
    shapes = {name: weights.tensor(name).shape for name in weights.files}
    larger, _ = with_vocabulary(values, config, vocabulary_config(config, where).vocab_size + 64)
    larger_config = build_config(clean_config(larger, where)[0], where)
    matrices = find_matrices(config, larger_config, shapes, str(folder))
    names = match_names(config, shapes, str(folder))
    if names.missing:
        raise ModelError(
            f"{folder}: the files hold no {_some(names.missing)}, which config.json asks for: fetch the model again"
        )
    tokenizer = TextTokenizer.from_folder(folder)
    return GraftModel(label, folder, config, weights, matrices, names, tokenizer, piece_ids(tokenizer))


def excluded_tensors(patterns: Sequence[str], ours: GraftModel) -> set[str]:
    """Names of ours that a pattern with `*` and `?` matches. Raises RecipeError for one that matches none."""
    found: set[str] = set()
    for pattern in patterns:
        matched = set(fnmatch.filter(ours.weights.files, pattern))
        if not matched:
            names = ", ".join(sorted(ours.weights.files, key=len)[:3])
            raise RecipeError(
                f"--exclude {one_line(repr(pattern), 80)} matches no tensor of {ours.folder}, which are named as in "
                f"{names}. A pattern is for the whole name, and * stands for any part: '*norm*'"
            )
        found |= matched
    return found


def require_same_tensors(base: GraftModel, chat: GraftModel, ours: GraftModel) -> set[str]:
    """Raise ModelError, with the values, unless tying, names, shapes and kinds of numbers are those of each other, rows
    of the vocabulary aside. Returns tensors of ours without a counterpart, which transformers does not load either."""
    models = (base, chat, ours)
    if len({model.tied for model in models}) > 1:
        raise ModelError(
            "input embedding and output layer are not one matrix in all of them: "
            + ", ".join(f"{model.label} {'tied' if model.tied else 'untied'}" for model in models)
            + ". Take a base and a chat model that are tied as yours is"
        )
    alone, problems = set(), []
    for name in ours.weights.files:
        for other in (base, chat):
            there = other.counterpart(name, ours)
            if there is None and name in ours.names.strangers:
                alone.add(name)
            elif there is None:
                problems.append(f"{name} is in ours and not in {other.label}")
            else:
                problems += _differences(name, there, ours, other)
    for other in (base, chat):
        problems += [
            f"{name} is in {other.label} and not in ours"
            for name in other.weights.files
            if name not in other.names.strangers and ours.counterpart(name, other) is None
        ]
    if problems:
        raise ModelError(
            f"the tensors of {base.folder}, {chat.folder} and {ours.folder} do not fit each other: "
            f"{'; '.join(problems[:5])} ({len(problems)} in all)"
        )
    return alone


def _differences(name: str, there: str, ours: GraftModel, other: GraftModel) -> list[str]:
    mine, theirs = ours.weights.tensor(name), other.weights.tensor(there)
    by_piece = name in ours.vocabulary
    if by_piece != (there in other.vocabulary):
        return [f"{name} has a row for each piece in one of ours and {other.label} only"]
    if mine.shape[by_piece:] != theirs.shape[by_piece:]:
        return [f"{name} has shape {list(mine.shape)} in ours, {list(theirs.shape)} in {other.label}"]
    floats = [tensor.dtype in FLOATS for tensor in (mine, theirs)]
    if not all(floats) and (any(floats) or by_piece or mine.dtype != theirs.dtype):
        return [f"{name} is stored as {mine.dtype} in ours, as {theirs.dtype} in {other.label}"]
    return []


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
