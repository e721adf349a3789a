"""A digest of what a task is: its file with what that includes and calls, and its data.

Two scores of one task's name belong together only where it is equal. A version in the metadata would say the same, if
nobody ever forgot to raise it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

FUNCTION = re.compile(r"!function\s+([\w.]+)\.\w+")
"""The module that a task file names; it lies beside the file, or is an installed one."""


def task_digest(path: Path | None, data: Mapping[str, Iterable[Any]]) -> str:
    """Of the task file at `path` and the rows of each split in `data` (or whatever else tells its data apart).

    Where the files lie, and what they are called, makes no difference; without a file (a task that a program made) the
    data tell alone. Raises OSError if a file is gone.
    """
    digest = xxhash.xxh3_128()
    for file in _files(path) if path else ():
        digest.update(xxhash.xxh3_128_digest(file.read_bytes()))
    for split, rows in data.items():
        digest.update(f"\n{split}\n".encode())
        for row in rows:  # one at a time: a split may be larger than the memory
            digest.update(json.dumps(row, default=str).encode() + b"\n")
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """A task file, the modules beside it that it names, and the same of the files that it includes, as lm-eval finds
    them."""
    from lm_eval.tasks._yaml_loader import load_yaml

    yield path
    for module in sorted(set(FUNCTION.findall(path.read_text(encoding="utf-8", errors="replace")))):
        beside = path.parent / f"{module.replace('.', '/')}.py"
        if beside.is_file():
            yield beside
    included = load_yaml(path, resolve_func=False, recursive=False).get("include", [])
    for name in included if isinstance(included, list) else [included]:
        yield from _files(path.parent / name)
