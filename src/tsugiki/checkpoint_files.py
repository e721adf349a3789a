"""What a checkpoint is on disk: its names, its manifest, and whether it is whole.

    checkpoints/
      step_00000500/                 whole: it has a manifest, and every size and digest in it is right
        shard-00000-00001.safetensors, ...   tensors, as torch's Hugging Face storage reads them
        state.json                   everything that is not a tensor
        manifest.json                written last
      step_00000750.tmp-1f0c9a2e7b44/        a save in progress, or one that was cut off: not a checkpoint
      .trash-step_00000250-5d0e.../          being deleted

A name is never written twice: if `step_00000500` is there (damaged, say) when step 500 is saved again, the new one
is `step_00000500_2`. Names of any other form belong to somebody else and are left alone.

Nothing here needs torch, so that `inspect` stays quick.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import xxhash
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from tsugiki.errors import DataError, StorageError
from tsugiki.files import explain_os_error, free_bytes, read_json, xxh3_file
from tsugiki.rewinds import Rewind, is_undone, read_rewinds
from tsugiki.shapes import FileName, parse_json

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
EXPORT_MARK = "tsugiki.json"
"""In an exported folder: which checkpoint it is of."""

_NAME = re.compile(r"step_(\d{8,})(?:_(\d+))?")
_TEMPORARY = re.compile(r"step_\d{8,}(?:_\d+)?\.tmp-[0-9a-f]{12}")
_TRASH = re.compile(r"\.trash-step_\d{8,}(?:_\d+)?(?:\.tmp-[0-9a-f]{12})?-[0-9a-f]{12}")


class ExportMark(TypedDict):
    """What an export says of itself: the checkpoint that it was made from, by name and by its manifest's digest, the
    dtype of its weights, and the files that it has."""

    checkpoint: str
    """Of a mean the newest."""
    digest: str
    """Of a mean the digests of all, oldest first, with + between them."""
    dtype: str
    files: list[str]
    averaged: NotRequired[list[str]]
    """The checkpoints of a mean, oldest first."""


class StoredFile(TypedDict):
    """A file of a checkpoint: bytes, and digest of the content."""

    size: int
    xxh3: str


class StoredTensor(TypedDict):
    """A tensor of a checkpoint."""

    dtype: str
    shape: list[int]


class MixtureStage(TypedDict):
    """Whole weights of the sources from a sample on."""

    start_sample: int
    weights: dict[str, int]


class MixtureState(TypedDict, total=False):
    """What is told of a checkpoint's order of data."""

    stages: list[MixtureStage]
    skip: list[tuple[int, int]]
    """Ranges of samples that were stepped over: the first, and the one after the last."""


class BaseSummary(TypedDict):
    """What is told of the frozen base that a checkpoint of adapters belongs to."""

    folder: str
    digest: str
    parameters: int


@with_config(ConfigDict(extra="allow"))
class StateSummary(TypedDict, total=False):
    """What is told of a checkpoint's state, which training reads whole (`Run.state` writes it)."""

    samples: int
    tokens: int
    world_size: int
    lineage: str
    mixture: MixtureState
    base: BaseSummary


@with_config(ConfigDict(extra="allow"))
class Manifest(TypedDict):
    """What readers ask of a checkpoint's manifest."""

    format: int
    step: int
    lineage: str | None
    rewinds: NotRequired[list[Rewind]]
    ancestors: list[str]
    files: dict[FileName, StoredFile]
    tensors: dict[str, StoredTensor]
    digest: str


@dataclass(frozen=True, order=True)
class Name:
    """A checkpoint's directory name; sorts by step, then by attempt (not as text: 10000 comes after 9900)."""

    step: int
    attempt: int = 1

    def __str__(self) -> str:
        return f"step_{self.step:08d}" + (f"_{self.attempt}" if self.attempt > 1 else "")


def parse_name(text: str) -> Name | None:
    """The name, or None if it is not one that `Name` writes."""
    match = _NAME.fullmatch(text)
    name = Name(int(match[1]), int(match[2] or 1)) if match else None
    return name if name and str(name) == text else None


def _entries(directory: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(explain_os_error(error, directory, "read")) from error


def list_names(directory: Path) -> list[Name]:
    """The checkpoint names in a directory, newest first, whole or not. Raises StorageError if it is unreadable."""
    return sorted((name for entry in _entries(directory) if (name := parse_name(entry))), reverse=True)


def list_temporary(directory: Path) -> list[str]:
    """Saves in progress or cut off."""
    return [entry for entry in _entries(directory) if _TEMPORARY.fullmatch(entry)]


def list_trash(directory: Path) -> list[str]:
    """Deletions in progress or cut off."""
    return [entry for entry in _entries(directory) if _TRASH.fullmatch(entry)]


def free_name(directory: Path, step: int) -> Name:
    """A name for a checkpoint of this step that nothing in the directory bears."""
    name = Name(step)
    while os.path.lexists(directory / str(name)):
        name = Name(step, name.attempt + 1)
    return name


def render_manifest(content: dict[str, Any]) -> str:
    """The manifest as text, with a digest of itself as its last entry.

    The text is a function of the content, so a reader can demand it byte for byte (`read_manifest`).
    """
    body = {key: value for key, value in content.items() if key != "digest"}
    digest = xxhash.xxh3_128(json.dumps(body, ensure_ascii=False, allow_nan=False).encode()).hexdigest()
    return json.dumps(body | {"digest": digest}, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def read_manifest(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint directory.

    Raises StorageError, saying what is wrong, when there is none, it is damaged, or its format is not ours.
    """
    path = checkpoint / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise StorageError(f"{checkpoint} has no {MANIFEST}: its save was never finished") from None
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or render_manifest(content).encode() != text:
            raise ValueError("its own digest does not match")
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path} is damaged ({error})") from None
    if content.get("format") != FORMAT:
        raise StorageError(
            f"{path} has format {content.get('format')!r}, this version of Tsugiki reads {FORMAT}: "
            "use the version that wrote it"
        )
    try:
        return parse_json(text, Manifest, str(path))
    except DataError as error:
        raise StorageError(str(error)) from None


def size_problems(checkpoint: Path, manifest: Manifest) -> list[str]:
    """What is missing or has another size than the manifest says; one text a file, naming it."""
    problems = []
    for name, entry in manifest["files"].items():
        try:
            size = (checkpoint / name).stat().st_size
        except FileNotFoundError:
            problems.append(f"{name} is missing")
        except OSError as error:
            problems.append(explain_os_error(error, checkpoint / name, "read"))
        else:
            if size != entry["size"]:
                problems.append(f"{name} has {size:,} bytes, not {entry['size']:,}")
    return problems


def digest_problems(checkpoint: Path, manifest: Manifest, names: Iterable[str] | None = None) -> list[str]:
    """Which of the files (default: all) hold other bytes than were written; one text a file, naming it."""
    problems = []
    for name in manifest["files"] if names is None else names:
        try:
            if xxh3_file(checkpoint / name) != manifest["files"][name]["xxh3"]:
                problems.append(f"{name} is damaged (its digest is not the one in {MANIFEST})")
        except OSError as error:
            problems.append(explain_os_error(error, checkpoint / name, "read"))
    return problems


def tensor_differences(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """In words, what keeps the tensors of a checkpoint from being loaded into those asked for, or None.

    Both by name: {"dtype", "shape"}, as in the manifest.
    """
    problems = [f"{name} is not in the checkpoint" for name in asked.keys() - stored.keys()]
    problems += [f"{name} is in the checkpoint but not in this run" for name in stored.keys() - asked.keys()]
    for name in asked.keys() & stored.keys():
        for key in ("dtype", "shape"):
            if asked[name][key] != stored[name][key]:
                problems.append(f"{name} has {key} {stored[name][key]} in the checkpoint, {asked[name][key]} here")
    if not problems:
        return None
    shown = sorted(problems)[:5] + ([f"and {len(problems) - 5} more"] if len(problems) > 5 else [])
    return f"{path} does not fit this model and optimizer: {'; '.join(shown)}"


def verify(path: Path) -> list[str]:
    """Everything that is wrong with a checkpoint directory; empty if it is whole. Reads every byte of it."""
    try:
        manifest = read_manifest(path)
    except StorageError as error:
        return [str(error)]
    return size_problems(path, manifest) or digest_problems(path, manifest)


def newest_name(directory: Path) -> str | None:
    """The newest checkpoint whose manifest and sizes are right (digests are not read: see `verify`), or None. What the
    run has undone by going back is passed over.

    Raises StorageError where a manifest is there and the system does not let it be read: an older checkpoint would be
    taken for the newest.
    """
    rewinds = read_rewinds(directory)
    for name in list_names(directory):
        try:
            manifest = read_manifest(directory / str(name))
            if not is_undone(manifest, rewinds) and not size_problems(directory / str(name), manifest):
                return str(name)
        except StorageError as error:
            if isinstance(error.__cause__, OSError):
                raise
    return None


def mark_of(checkpoints: Sequence[Path], dtype: str) -> ExportMark:
    """The mark, but for its files, of an export of a checkpoint or of the mean of several (oldest first).

    Raises StorageError for a checkpoint without a manifest.
    """
    digests = [read_manifest(path)["digest"] for path in checkpoints]
    mark = ExportMark(checkpoint=checkpoints[-1].name, digest="+".join(digests), dtype=dtype, files=[])
    if len(checkpoints) > 1:
        mark["averaged"] = [path.name for path in checkpoints]
    return mark


def is_export_of(checkpoints: Path | Sequence[Path], output: Path, dtype: str) -> bool:
    """Whether `output` is a whole export of this very checkpoint, or of the mean of these: of their content, not of the
    name alone, which another run in the same place may bear.

    Raises StorageError for a checkpoint without a manifest, DataError for an export whose mark is damaged.
    """
    path = output / EXPORT_MARK
    if not path.exists():
        return False
    mark = read_json(path, ExportMark)
    wanted = mark_of([checkpoints] if isinstance(checkpoints, Path) else checkpoints, dtype)
    return {**mark, "files": []} == wanted and all((output / name).is_file() for name in mark["files"])


def stored_bytes(directory: Path) -> int:
    """Bytes in the checkpoints (whole or cut off) of a directory."""
    total = 0
    for entry in [str(name) for name in list_names(directory)] + list_temporary(directory):
        for file in (directory / entry).rglob("*"):
            try:
                total += file.stat().st_size
            except OSError:
                continue  # deleted meanwhile
    return total


def check_disk_space(directory: Path, bytes_each: int, keep: int) -> None:
    """Refuse to start a run whose checkpoints cannot fit: `keep` of them and the one being written.

    What the directory holds already counts as theirs, since newer checkpoints replace it. Raises StorageError.
    """
    needed = bytes_each * (keep + 1)
    held, free = stored_bytes(directory), free_bytes(directory)
    if needed > free + held:
        raise StorageError(
            f"{directory} has room for {(free + held) / 1e9:,.1f} GB of checkpoints but {needed / 1e9:,.1f} GB are "
            f"needed: {keep} to keep and one being written, {bytes_each / 1e9:,.2f} GB each. "
            "Free some space, lower training.save_total_limit, or put run_dir elsewhere"
        )
