"""What a prepared source is on disk: two token stores and the manifest that says what they were made from.

<prepared_dir>/<source>/
  train-00000.bin, .idx, .documents.npy, train-00001…    see `corpus.store`
  held_out-00000.bin …
  left_out.jsonl                                         records that are not in the stores, if any: file, line, reason
  manifest.json                                          written last, before the folder gets its name

Whoever trains reads the manifest alone at first: the index of both stores is in it. A chat source has the files of
`corpus.conversation_store` for each part. Tables of packs check themselves and have no digest in the manifest.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tsugiki.corpus.conversation_figures import ChatManifest, PackFigures
from tsugiki.corpus.conversation_store import ConversationStore, conversation_files
from tsugiki.corpus.filters.figures import FilterFigures
from tsugiki.corpus.fingerprint import RULE_VERSION, InputRecord, boundaries, fingerprint
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.store import ENDINGS, StoreIndex, TokenStore, shard_name
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.window_figures import TextWindows, text_windows
from tsugiki.errors import DataError
from tsugiki.files import read_json, xxh3_file
from tsugiki.recipe import Recipe
from tsugiki.shapes import FileName

MANIFEST = "manifest.json"
LEFT_OUT = "left_out.jsonl"
PARTS = ("train", "held_out")
SIDE_FILES = (*(path.name for part in PARTS for path in conversation_files(Path(part))), LEFT_OUT)
"""What may lie beside shards and manifest."""


def is_our_file(name: str) -> bool:
    """Whether a prepared source may have a file of this name."""
    endings = "|".join(re.escape(ending) for ending in ENDINGS)  # without a number in earlier versions
    shards_or_packs = rf"({'|'.join(PARTS)})((-[0-9]{{5}})?({endings})|\.packs-[0-9]+)"
    return name in (*SIDE_FILES, MANIFEST) or re.fullmatch(shards_or_packs, name) is not None


@dataclass
class Counts:
    """Of the documents of a store (of a chat source: samples); bytes and characters are those of the text."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    characters: int = 0


@dataclass
class ForeignFacts:
    """What is known of a source that another program tokenised (`corpus.foreign_store`)."""

    format: str
    """One of `store.FORMATS`."""
    tokenizer: str | None
    """As the store names it."""
    text: str
    """How it begins, decoded by the tokenizer of this run."""


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
    filtered: FilterFigures | None = None
    """What filters removed; None where there were none. Each document is named in LEFT_OUT."""
    replaced_surrogates: int = 0
    split_documents: int = 0
    """Records whose text was too long to be tokenised at once, and became `split_into` documents."""
    split_into: int = 0
    odd: dict[str, int] = field(default_factory=dict)
    """Documents that were kept and hold control characters, U+FFFD or typical mojibake."""
    library: str = ""
    """Which library made the ids, and why that one; of a text source."""
    stores: dict[str, StoreIndex] = field(default_factory=dict)
    """The index of each part's store."""
    digests: dict[FileName, str] = field(default_factory=dict)
    """Of the files beside the shards."""
    rule_version: int = RULE_VERSION
    chat: ChatManifest | None = None
    """Of a chat source."""
    foreign: ForeignFacts | None = None
    text: TextWindows | None = None
    """What `at_length` found of a source of text; not in the file, which serves all lengths."""

    @classmethod
    def read(cls, path: Path) -> "SourceManifest":
        """Raises DataError when the file is not such a manifest, StorageError when it cannot be read."""
        return read_json(path, cls)

    def every_digest(self) -> dict[str, str]:
        """Of every file, by its name, but of the manifest and tables of packs."""
        shards = [shard for index in self.stores.values() for shard in index.shards if shard.digests]
        of_shards = {
            shard.name + ending: digest
            for shard in shards
            for ending, digest in zip(ENDINGS, shard.digests, strict=True)
        }
        return of_shards | self.digests

    @property
    def packing(self) -> PackFigures | None:
        """Of the training part of a chat source."""
        if self.chat is None:
            return None
        length, trained = self.chat.sequence_length, self.chat.trained_tokens["train"]
        return PackFigures(length, self.chat.packs, self.train.documents, self.train.tokens, trained)

    def at_length(self, directory: Path, sequence_length: int, packed: bool) -> "SourceManifest":
        """The manifest as preparing for another length would have written it, with the packs of that length, or what is
        known of windows of text; itself where conversations would be divided otherwise.

        Runs of several lengths may share `directory`, so its file goes on telling of the first one. Raises DataError
        where the packs were not made, or are damaged.
        """
        chat = self.chat
        if chat is None:
            with contextlib.nullcontext() if packed else contextlib.suppress(DataError):
                return replace(self, text=text_windows(open_stores(directory, self, packed)[0], sequence_length))
            return self
        if chat.sequence_length == sequence_length or not chat.holds_for(sequence_length):
            return self
        packs = len(ConversationStore(directory / "train", self.stores["train"]).packs(sequence_length))
        return replace(self, chat=replace(chat, sequence_length=sequence_length, packs=packs))

    def as_json(self) -> dict[str, Any]:
        """What its file holds."""
        values = asdict(self)
        del values["text"]
        if self.chat is None:
            del values["chat"]  # the manifests of text sources are what they were
        if self.foreign is None:
            del values["foreign"]
        if self.filtered is None:
            del values["filtered"]
        return values


@dataclass(frozen=True)
class PreparedSource:
    """A source ready for training."""

    name: str
    language: str | None
    train: TokenStore
    held_out: TokenStore
    manifest: SourceManifest
    """The stores are `ConversationStore`s of a chat source; where text is packed, `train` is a `PackedStore`."""

    @property
    def is_chat(self) -> bool:
        """Whether its documents are conversations."""
        return self.manifest.chat is not None

    def held_out_tokens(self, index: int) -> list[int]:
        """Tokens of a held-out document's text, without the BOS and EOS that the store put around it."""
        tokens = self.held_out.document(index)
        start = 1 if self.manifest.add_bos else 0
        end = len(tokens) - (1 if self.manifest.add_eos else 0)
        return tokens[start:end].tolist()

    def held_out_sizes(self, tokenizer: TextTokenizer, count: int) -> list[int]:
        """Bytes of text of the first `count` held-out documents; where another program tokenised them, of what their
        tokens decode to."""
        if self.manifest.foreign is None:
            return [int(size) for size in self.held_out.documents(0, count)["bytes"]]
        return [len(tokenizer.decode(self.held_out_tokens(index)).encode()) for index in range(count)]

    def held_out_texts(self, tokenizer: TextTokenizer, limit: int) -> list[str]:
        """The text of the first `limit` held-out documents (their order is that of a hash); none of a chat source:
        conversations are no text to go on with, or to score from end to end."""
        if self.is_chat:
            return []
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
        if tokenizer is not None and not was_made_so(recipe, name, tokenizer, manifest, manifest.files):
            other = _other_settings(recipe, name, tokenizer, manifest)
            raise DataError(
                f"{directory}: source {name} was prepared with {other}; run "
                "tsugiki prepare RECIPE (or tsugiki run). If another recipe needs it as it is, give this one its own "
                "data.prepared_dir"
            )
        train, held_out = open_stores(directory, manifest, recipe.data.packing == "best_fit")
        sources[name] = PreparedSource(name, source.language, train, held_out, manifest)
    return sources


def open_stores(directory: Path, manifest: SourceManifest, packed: bool = False) -> tuple[TokenStore, TokenStore]:
    """The stores of both parts, as the manifest describes them; of a text source no file is opened. `packed`: the
    windows of text to train on are packs.

    Raises DataError where the manifest contradicts itself, or the files of a chat source are damaged or not there.
    """
    for part in PARTS:
        index, counts = manifest.stores.get(part), getattr(manifest, part)
        names = [] if index is None else [shard.name for shard in index.shards]
        ours = manifest.foreign is not None or names == [shard_name(part, number) for number in range(len(names))]
        if index is None or not ours or sum(shard.tokens for shard in index.shards) != counts.tokens:
            raise DataError(
                f"{directory / MANIFEST}: the shards of {part} are not those of its {counts.tokens:,} tokens; run "
                "tsugiki prepare"
            )
    kinds: list[type[TokenStore]] = [PackedStore if packed else TokenStore, TokenStore]
    if manifest.chat is not None:
        kinds = [ConversationStore, ConversationStore]
    train, held_out = (kind(directory / part, manifest.stores[part]) for kind, part in zip(kinds, PARTS, strict=True))
    return train, held_out


def was_made_so(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, manifest: SourceManifest, files: list[InputRecord]
) -> bool:
    """Whether preparing `files` with these settings would give what a manifest describes."""
    source, length = recipe.data.sources[name], recipe.data.sequence_length
    if (source.store is None) != (manifest.foreign is None):
        return False
    if source.is_chat != (manifest.chat is not None) or (manifest.chat and not manifest.chat.holds_for(length)):
        return False
    return fingerprint(recipe, name, tokenizer, files) == manifest.fingerprint


def _other_settings(recipe: Recipe, name: str, tokenizer: TextTokenizer, manifest: SourceManifest) -> str:
    """What differs, as far as the manifest tells."""
    if manifest.rule_version != RULE_VERSION:
        return f"version {manifest.rule_version} of the rules (this is version {RULE_VERSION})"
    if manifest.tokenizer_fingerprint != tokenizer.fingerprint:
        return f"another tokenizer than {tokenizer.folder}"
    if manifest.chat is not None and not manifest.chat.holds_for(recipe.data.sequence_length):
        return f"other settings: data.sequence_length was {manifest.chat.sequence_length:,}, and some are longer"
    if recipe.data.sources[name].is_chat != (manifest.chat is not None):
        return "other settings: its format was " + ("chat" if manifest.chat is not None else "one of text")
    if manifest.chat is not None:
        return "other settings (of data.chat, its loss_on, format or held_out, or another chat template)"
    before, after = boundaries(recipe, tokenizer)
    for key, then, now in (("add_bos", manifest.add_bos, before), ("add_eos", manifest.add_eos, after)):
        if then != bool(now):
            return f"other settings: data.{key} was {str(then).lower()}"
    return "other settings (of its format, text_key, encoding, held_out, filters, hub keys, or data.max_document_bytes)"


def damaged_files(directory: Path, manifest: SourceManifest, names: Iterable[str] | None = None) -> dict[str, str]:
    """Files (of all, or of those that are named) that are missing, or not as their digests say: what is wrong with
    each."""
    digests = manifest.every_digest()
    damaged = {}
    for name in digests if names is None else names:
        try:
            if xxh3_file(directory / name) != digests[name]:
                damaged[name] = "its digest is not the recorded one"
        except OSError as error:
            damaged[name] = str(error.strerror or error)
    return damaged


def verify(directory: Path, names: Iterable[str] | None = None) -> list[str]:
    """Problems of a prepared source's files (default: all), with the remedy. Empty when sound."""
    damaged = damaged_files(directory, SourceManifest.read(directory / MANIFEST), names)
    return [f"{directory / name}: {what}; run tsugiki prepare RECIPE --verify" for name, what in damaged.items()]
