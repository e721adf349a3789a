"""What is named on the command line: a Hugging Face folder, a hub id, a checkpoint of ours, or a run directory.

A model is known by a digest of its weights and of whatever else decides an answer, so that a result is never taken for
that of other weights in the same place. A checkpoint is evaluated as it would be released: exported in bf16, into a
folder that goes again afterwards.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from tsugiki.checkpoint_files import MANIFEST, is_export_of, list_names, newest_name, parse_name
from tsugiki.corpus.hub import resolve_model_folder
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, StorageError
from tsugiki.files import explain_os_error, xxh3_file
from tsugiki.model.weight_files import CONFIGURATION_FILES

WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class NamedModel:
    """A model that can be evaluated."""

    label: str
    """Short name for tables."""
    source: str
    """As it was named."""
    files: Path
    """Folder with the configuration and the tokenizer."""
    fingerprint: str
    checkpoint: Path | None = None
    """A checkpoint that must be exported first; None where `files` holds the weights."""
    commit: str | None = None
    """Of the hub."""
    allow_pickle: bool = False
    """Whether weights that are pickles only may be read: as the recipe says whose base it is."""

    @contextmanager
    def weights(self, scratch: Path) -> Iterator[Path]:
        """A Hugging Face folder with the weights; one that is exported into `scratch` lasts as long as the context."""
        if self.checkpoint is None:
            yield self.files
            return
        from tsugiki.model.export import export

        folder = scratch / f"{self.checkpoint.name}-{self.fingerprint[:8]}-{os.getpid()}"
        try:
            export(self.checkpoint, folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def find_model(name: str, *, allow_pickle: bool = False) -> NamedModel:
    """The model that a path or hub id names. Raises ModelError or StorageError when there is none."""
    path = Path(name).expanduser()
    if not path.exists():
        folder, commit = resolve_model_folder(name)
        return _of_folder(folder, label=name.rpartition("/")[2], source=name, commit=commit)
    if not path.is_dir():
        raise ModelError(f"{path} is a file: name a model's folder, a checkpoint, a run directory or a hub id")
    if (path / "checkpoints").is_dir():
        return _of_run(path)
    if (path / MANIFEST).exists() and parse_name(path.name):
        return _of_checkpoint(path)
    found = _of_folder(path, label=_folder_label(path), source=name)
    return replace(found, allow_pickle=allow_pickle)


def checkpoint_at(run_dir: Path, step: int) -> Path:
    """The checkpoint of a run at a step. Raises StorageError when it was not kept."""
    found = [name for name in list_names(run_dir / "checkpoints") if name.step == step]
    if not found:
        raise StorageError(
            f"{run_dir / 'checkpoints'} has no checkpoint of step {step:,}: training.keep_every keeps those that are "
            "to be evaluated later"
        )
    return run_dir / "checkpoints" / str(max(found))


def _of_run(run_dir: Path) -> NamedModel:
    """The run's export where it is that of its newest checkpoint, else that checkpoint."""
    newest = newest_name(run_dir / "checkpoints")
    if newest is None:
        raise ModelError(f"{run_dir / 'checkpoints'} has no whole checkpoint yet: there is nothing to evaluate")
    if is_export_of(run_dir / "checkpoints" / newest, run_dir / "export", "bfloat16"):
        return _of_folder(run_dir / "export", label=run_dir.resolve().name, source=str(run_dir))
    return _of_checkpoint(run_dir / "checkpoints" / newest)


def _of_checkpoint(path: Path) -> NamedModel:
    run_dir, name = path.resolve().parent.parent, parse_name(path.name)
    assert name is not None
    files = run_dir / "model"
    if not (files / "config.json").exists():
        raise ModelError(f"{path} lies outside its run directory, whose model/ has its configuration and tokenizer")
    digest = _digest(files, [path / MANIFEST], b"bf16 export")
    return NamedModel(f"{run_dir.name}@{name.step}", str(path), files, digest, checkpoint=path)


def _of_folder(folder: Path, *, label: str, source: str, commit: str | None = None) -> NamedModel:
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{folder} is no model folder (it has no config.json), no checkpoint and no run directory; make a folder "
            "of a checkpoint by: tsugiki export"
        )
    weights = sorted(folder.glob(WEIGHTS)) or sorted(folder.glob("pytorch_model*.bin"))
    if not weights:
        raise ModelError(f"{folder} has a configuration and no weights ({WEIGHTS})")
    return NamedModel(label, source, folder, _digest(folder, weights), commit=commit)


def _folder_label(path: Path) -> str:
    resolved = path.resolve()
    return resolved.parent.name if resolved.name == "export" else resolved.name


def _digest(files: Path, weights: list[Path], kind: bytes = b"") -> str:
    digest = xxhash.xxh3_128(kind)
    try:
        for name in CONFIGURATION_FILES:
            if (files / name).exists():
                digest.update(f"{name} {xxh3_file(files / name)}".encode())
        digest.update(TextTokenizer.from_folder(files).fingerprint.encode())
        for path in weights:
            digest.update(f"{path.name} {xxh3_file(path)}".encode())
    except OSError as error:
        raise StorageError(explain_os_error(error, error.filename or files, "read")) from None
    return digest.hexdigest()
