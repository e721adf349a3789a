"""Whether a prepared source is what preparing it now would give: its settings and its files are those recorded."""

import contextlib
from pathlib import Path

from tsugiki.corpus.foreign_store import are_unchanged, foreign_files
from tsugiki.corpus.inputs import input_files
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.prepared import MANIFEST, SourceManifest, open_stores, source_directory, was_made_so
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, StorageError
from tsugiki.files import explain_os_error, write_json, xxh3_file
from tsugiki.recipe import Recipe


def current_manifest(recipe: Recipe, name: str, tokenizer: TextTokenizer) -> SourceManifest | None:
    """The manifest of what is prepared, if it is what preparing now would give, and all of it is there."""
    manifest = recorded_manifest(recipe, name, tokenizer)
    whole = manifest is not None and are_whole(source_directory(recipe, name), manifest)
    return manifest if whole else None


def are_whole(directory: Path, manifest: SourceManifest) -> bool:
    """Whether the stores have the files that the manifest tells of, by their sizes."""
    try:
        for store in open_stores(directory, manifest):
            store.check_sizes()
    except DataError:
        return False
    return True


def recorded_manifest(recipe: Recipe, name: str, tokenizer: TextTokenizer) -> SourceManifest | None:
    """The manifest of what is prepared, if preparing now would give what it describes.

    A file whose size and time of change are as recorded is taken as unchanged; one that was merely touched is
    read and compared by digest, once.
    """
    directory = source_directory(recipe, name)
    if not (directory / MANIFEST).exists():
        return None
    try:
        manifest = SourceManifest.read(directory / MANIFEST)
    except DataError:
        return None
    files, touched = manifest.files, False
    source = recipe.data.sources[name]
    if source.store is not None:
        if not are_unchanged(foreign_files(name, source), manifest.files):
            return None
    elif source.hub is None:
        recorded = {entry["name"]: entry for entry in manifest.files}
        files = []
        for file in input_files(f"data.sources.{name}", source):
            stat, entry = file.path.stat(), recorded.get(file.name)
            if entry is None or entry["size"] != stat.st_size:
                return None
            if entry["mtime_ns"] != stat.st_mtime_ns:
                if _digest(file.path) != entry["digest"]:
                    return None
                touched = True
            files.append(entry | {"path": str(file.path), "mtime_ns": stat.st_mtime_ns})
    if len(files) != len(manifest.files) or not was_made_so(recipe, name, tokenizer, manifest, files):
        return None
    if touched:
        manifest.files = files
        with contextlib.suppress(StorageError):  # a shared folder may be read-only
            write_json(directory / MANIFEST, manifest.as_json())
    return manifest


def is_ready(recipe: Recipe, name: str, tokenizer: TextTokenizer) -> bool:
    """Whether training can read a source now: it is up to date, and its packs are made."""
    manifest = current_manifest(recipe, name, tokenizer)
    if manifest is None:
        return False
    train, _ = open_stores(source_directory(recipe, name), manifest, recipe.data.packing == "best_fit")
    try:
        if isinstance(train, PackedStore):
            train.packs(recipe.data.sequence_length)
    except DataError:
        return False
    return True


def _digest(path: Path) -> str:
    try:
        return xxh3_file(path)
    except OSError as error:
        raise DataError(explain_os_error(error, path, "read")) from error
