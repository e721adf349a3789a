"""What a prepared source is on disk: two token stores and the manifest that says what they were made from.

<prepared_dir>/<source>/
  train.bin, train.idx, train.documents.npy              see `corpus.store`
  held_out.bin, held_out.idx, held_out.documents.npy
  left_out.jsonl                                         records that gave no document, if any: file, line, reason
  manifest.json                                          written last, before the folder gets its name
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsugiki.corpus.fingerprint import RULE_VERSION
from tsugiki.corpus.store import TokenStore, store_files
from tsugiki.errors import DataError
from tsugiki.files import read_json, xxh3_file
from tsugiki.recipe import Recipe

MANIFEST = "manifest.json"
LEFT_OUT = "left_out.jsonl"
PARTS = ("train", "held_out")
FILE_NAMES = {path.name for part in PARTS for path in store_files(Path(part))} | {MANIFEST, LEFT_OUT}
"""All that a prepared source consists of."""


@dataclass
class Counts:
    """Of the documents of a store; bytes and characters are those of the text."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    characters: int = 0


@dataclass
class SourceManifest:
    """What a prepared source is and what it was made from."""

    name: str
    fingerprint: str
    tokenizer_fingerprint: str
    vocabulary_size: int
    add_bos: bool
    add_eos: bool
    bos_id: int | None
    eos_id: int | None
    files: list[dict[str, Any]]
    train: Counts
    held_out: Counts
    bad: dict[str, int] = field(default_factory=dict)
    """Records that gave no document, by kind; each is named in LEFT_OUT, the first few in `bad_examples`."""
    bad_examples: list[str] = field(default_factory=list)
    replaced_surrogates: int = 0
    odd: dict[str, int] = field(default_factory=dict)
    """Documents that were kept and hold control characters, U+FFFD or typical mojibake."""
    digests: dict[str, str] = field(default_factory=dict)
    rule_version: int = RULE_VERSION

    @classmethod
    def read(cls, path: Path) -> "SourceManifest":
        """Raises DataError when the file is not such a manifest, StorageError when it cannot be read."""
        values = read_json(path)
        try:
            return cls(**values | {"train": Counts(**values["train"]), "held_out": Counts(**values["held_out"])})
        except (TypeError, KeyError) as error:
            raise DataError(f"{path}: not the manifest of a prepared source ({error})") from None


@dataclass(frozen=True)
class PreparedSource:
    """A source ready for training."""

    name: str
    language: str | None
    train: TokenStore
    held_out: TokenStore
    manifest: SourceManifest


def source_directory(recipe: Recipe, name: str) -> Path:
    """Folder of a prepared source."""
    return recipe.prepared_dir / name


def open_prepared(recipe: Recipe) -> dict[str, PreparedSource]:
    """The recipe's sources as prepared. Raises DataError, naming what to run, when one is missing."""
    sources = {}
    for name, source in recipe.data.sources.items():
        directory = source_directory(recipe, name)
        if not (directory / MANIFEST).exists():
            raise DataError(f"{directory}: source {name} is not prepared; run tsugiki prepare RECIPE (or tsugiki run)")
        train, held_out = (TokenStore(directory / part) for part in PARTS)
        manifest = SourceManifest.read(directory / MANIFEST)
        sources[name] = PreparedSource(name, source.language, train, held_out, manifest)
    return sources


def verify(directory: Path, names: Iterable[str] | None = None) -> list[str]:
    """Problems of a prepared source's files (default: all): missing, or not as their digests say. Empty when sound."""
    manifest = SourceManifest.read(directory / MANIFEST)
    problems, remedy = [], f"remove {directory} and run tsugiki prepare"
    for name in manifest.digests if names is None else names:
        path = directory / name
        try:
            if xxh3_file(path) != manifest.digests[name]:
                problems.append(f"{path}: its digest is not the recorded one; {remedy}")
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}; {remedy}")
    return problems
