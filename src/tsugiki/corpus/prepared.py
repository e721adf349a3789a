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

from tsugiki.corpus.fingerprint import RULE_VERSION, InputRecord, boundaries, fingerprint
from tsugiki.corpus.store import TokenStore, store_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError
from tsugiki.files import read_json, xxh3_file
from tsugiki.recipe import Recipe
from tsugiki.shapes import FileName

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
    files: list[InputRecord]
    train: Counts
    held_out: Counts
    bad: dict[str, int] = field(default_factory=dict)
    """Records that gave no document, by kind; each is named in LEFT_OUT, the first few in `bad_examples`."""
    bad_examples: list[str] = field(default_factory=list)
    replaced_surrogates: int = 0
    odd: dict[str, int] = field(default_factory=dict)
    """Documents that were kept and hold control characters, U+FFFD or typical mojibake."""
    digests: dict[FileName, str] = field(default_factory=dict)
    rule_version: int = RULE_VERSION

    @classmethod
    def read(cls, path: Path) -> "SourceManifest":
        """Raises DataError when the file is not such a manifest, StorageError when it cannot be read."""
        return read_json(path, cls)


@dataclass(frozen=True)
class PreparedSource:
    """A source ready for training."""

    name: str
    language: str | None
    train: TokenStore
    held_out: TokenStore
    manifest: SourceManifest

    def held_out_tokens(self, index: int) -> list[int]:
        """Tokens of a held-out document's text, without the BOS and EOS that the store put around it."""
        tokens = self.held_out.document(index)
        start = 1 if self.manifest.add_bos else 0
        end = len(tokens) - (1 if self.manifest.add_eos else 0)
        return tokens[start:end].tolist()

    def held_out_texts(self, tokenizer: TextTokenizer, limit: int) -> list[str]:
        """The text of the first `limit` held-out documents (their order is that of a hash)."""
        count = min(limit, self.held_out.document_count)
        return [tokenizer.decode(self.held_out_tokens(index)) for index in range(count)]


def source_directory(recipe: Recipe, name: str) -> Path:
    """Folder of a prepared source."""
    return recipe.prepared_dir / name


def open_prepared(recipe: Recipe, tokenizer: TextTokenizer | None = None) -> dict[str, PreparedSource]:
    """The recipe's sources as prepared; reads no input file.

    Raises DataError, naming what to run, when one is missing, or was prepared with other settings than the recipe's
    or another tokenizer (without `tokenizer`, to look at stores as they are, that is not compared).
    """
    sources = {}
    for name, source in recipe.data.sources.items():
        directory = source_directory(recipe, name)
        if not (directory / MANIFEST).exists():
            raise DataError(f"{directory}: source {name} is not prepared; run tsugiki prepare RECIPE (or tsugiki run)")
        manifest = SourceManifest.read(directory / MANIFEST)
        if tokenizer is not None and fingerprint(recipe, name, tokenizer, manifest.files) != manifest.fingerprint:
            raise DataError(
                f"{directory}: source {name} was prepared with {_other_settings(recipe, tokenizer, manifest)}; run "
                "tsugiki prepare RECIPE (or tsugiki run). If another recipe needs it as it is, give this one its own "
                "data.prepared_dir"
            )
        train, held_out = (TokenStore(directory / part) for part in PARTS)
        sources[name] = PreparedSource(name, source.language, train, held_out, manifest)
    return sources


def _other_settings(recipe: Recipe, tokenizer: TextTokenizer, manifest: SourceManifest) -> str:
    """What differs, as far as the manifest tells."""
    if manifest.rule_version != RULE_VERSION:
        return f"version {manifest.rule_version} of the rules (this is version {RULE_VERSION})"
    if manifest.tokenizer_fingerprint != tokenizer.fingerprint:
        return f"another tokenizer than {tokenizer.folder}"
    before, after = boundaries(recipe, tokenizer)
    for key, then, now in (("add_bos", manifest.add_bos, before), ("add_eos", manifest.add_eos, after)):
        if then != bool(now):
            return f"other settings: data.{key} was {str(then).lower()}"
    return "other settings (of its format, text_key, encoding, held_out or hub keys, or data.max_document_bytes)"


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
