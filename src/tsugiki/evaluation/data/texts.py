"""The texts of every evaluation set that is there, for `corpus.filters` to keep training data clear of them."""

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

from tsugiki.corpus.filters.asked import EvaluationTexts
from tsugiki.errors import DataError
from tsugiki.evaluation.data.authors import authors_file
from tsugiki.evaluation.data.items import Item, MissingData
from tsugiki.evaluation.data.loading import load_set
from tsugiki.evaluation.data.sets import SETS
from tsugiki.files import xxh3_file

NO_TEXT = ("id", "type", "label")
"""Keys of an item that no document would quote."""


def evaluation_texts(data_dir: Path) -> EvaluationTexts:
    """The test items of the sets in a folder of data: those of the tables, plain ones (`NAME/test.jsonl`), and the
    authors' files of code and instructions. Raises DataError for one that is there and cannot be read."""
    sets: dict[str, Sequence[Sequence[str]]] = {}
    files: dict[str, dict[str, str]] = {}
    for name in [*SETS, *_own(data_dir)]:
        try:
            loaded = load_set(name, data_dir)
        except MissingData:
            continue
        sets[name], files[name] = [_texts(item) for item in loaded.test], loaded.files
    for name, paths, items in _of_authors(data_dir):
        sets[name], files[name] = items, {str(path.relative_to(data_dir)): xxh3_file(path) for path in paths}
    return EvaluationTexts(data_dir, sets, files)


def sets_beside(data_dir: Path, known: Collection[str]) -> list[str]:
    """Names of the sets in a folder of data that are not `known`; these are read, to see if they are whole. Without
    the authors' files: to import what names them takes longer than all of the rest."""
    found = []
    for name in [*SETS, *_own(data_dir)]:
        if name not in known:
            with contextlib.suppress(DataError):
                load_set(name, data_dir)
                found.append(name)
    return found


def _own(data_dir: Path) -> list[str]:
    """Plain sets that the user has put there."""
    folders_of_sets = {file.path.split("/")[0] for entry in SETS.values() for file in entry.files}
    return sorted({path.parent.name for path in data_dir.glob("*/test.jsonl")} - folders_of_sets)


def _texts(item: Item) -> list[str]:
    found: list[str] = []
    for key, value in item.items():
        if key not in NO_TEXT:
            found += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return found


def _of_authors(data_dir: Path) -> list[tuple[str, list[Path], list[list[str]]]]:
    """Name, files and items of the sets whose files the user puts there."""
    from tsugiki.evaluation.code import tasks as code
    from tsugiki.evaluation.instructions import tasks as instructions

    found = []
    for name, files in code.FILES.items():
        if path := _there(name, files, data_dir):
            problems = code.problems_of(name, data_dir)
            found.append((name, [path], [[problem.prompt, problem.solution] for problem in problems]))
    for name, files in instructions.FILES.items():
        if path := _there(name, files, data_dir):
            found.append((name, [path], [[prompt.text] for prompt in instructions.prompts_of(name, data_dir)]))
    return found


def _there(name: str, files: Sequence[str], data_dir: Path) -> Path | None:
    try:
        return authors_file(name, files, data_dir)
    except DataError:
        return None
