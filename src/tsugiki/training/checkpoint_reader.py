"""Which checkpoint a run goes on from, every byte of it verified, and its tensors read.

All functions are collective: rank 0 chooses, all verify a share of the files and learn the same. What is damaged or was
cut off is named and passed over for the one before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tsugiki.checkpoint_files import (
    STATE,
    Manifest,
    digest_problems,
    list_names,
    list_temporary,
    read_manifest,
    size_problems,
    tensor_differences,
)
from tsugiki.checkpoint_tensors import TensorReader, read_tensors
from tsugiki.errors import DataError, StorageError
from tsugiki.files import read_json
from tsugiki.model.ranks import on_first_rank
from tsugiki.rewinds import Rewind, is_undone
from tsugiki.training.checkpoint_writer import describe_tensors
from tsugiki.training.distributed import Processes


@dataclass(frozen=True)
class Found:
    """A checkpoint whose every byte has been verified, and what was passed over to find it."""

    path: Path
    step: int
    state: dict[str, Any]
    manifest: Manifest
    warnings: list[str] = field(default_factory=list)


def newest_whole(
    directory: Path,
    processes: Processes,
    lineage: str | None,
    rewinds: Sequence[Rewind],
    warnings: list[str],
    at_most: int | None,
) -> Found | None:
    """The newest whole checkpoint of a step up to `at_most` (None: of any), or None; see `Checkpointer.newest_whole`.

    lineage: the run that it must be of; None: of any. What is passed over is added to `warnings`.
    """
    control = processes.control
    for name in on_first_rank(partial(_list_names, directory, warnings, at_most), control):
        path = directory / name
        try:
            manifest = on_first_rank(partial(_look_at, path, lineage, rewinds), control)
            _verify(path, manifest, processes)
            state = on_first_rank(partial(read_json, path / STATE), control)
        except (StorageError, DataError) as error:
            warnings.append(f"checkpoint {name} is passed over: {error}")
        else:
            return Found(path, manifest["step"], state, manifest, list(warnings))
    return None


def fill_tensors(found: Found, tensors: Mapping[str, torch.Tensor], processes: Processes) -> None:
    """Fill the given tensors (plain or sharded, on any number of ranks) with those of the checkpoint.

    Raises StorageError on every rank, before any tensor is touched, unless both sides have the same names, dtypes and
    shapes (torch would cast another dtype without a word).
    """
    stored, asked = found.manifest["tensors"], describe_tensors(dict(tensors))
    with processes.refusing_together():
        differences = tensor_differences(found.path, stored, asked)
        if differences:
            raise StorageError(differences)
        reader = TensorReader(found.path)
    with processes.refusing_together():
        read_tensors(reader, tensors, processes.storage)


def _list_names(directory: Path, warnings: list[str], at_most: int | None) -> list[str]:
    """Rank 0: what there is up to a step, newest first."""
    for entry in list_temporary(directory):
        warnings.append(f"{entry} is a save that was cut off; it is removed after the next good one")
    return [str(name) for name in list_names(directory) if at_most is None or name.step <= at_most]


def _look_at(path: Path, lineage: str | None, rewinds: Sequence[Rewind]) -> Manifest:
    """Rank 0: the manifest of a checkpoint that looks whole from outside. Raises StorageError."""
    manifest = read_manifest(path)
    if lineage is not None and manifest["lineage"] != lineage:
        raise StorageError(f"it belongs to another run ({manifest['lineage']}, not {lineage})")
    if is_undone(manifest, rewinds):
        raise StorageError("the run has gone back behind it since, to step over samples")
    problems = size_problems(path, manifest)
    if problems:
        raise StorageError("; ".join(problems))
    return manifest


def _verify(path: Path, manifest: Manifest, processes: Processes) -> None:
    """Read every byte, each rank its share of the files. Raises StorageError on every rank."""
    sizes = {file: entry["size"] for file, entry in manifest["files"].items()}
    largest_first = sorted(sizes, key=lambda file: (-sizes[file], file))
    mine = largest_first[processes.rank :: processes.world]
    found = processes.gather(digest_problems(path, manifest, mine))
    problems = [problem for of_rank in found for problem in of_rank]
    if problems:
        raise StorageError("; ".join(problems))
