"""Damaged shards of a prepared source of text are made again alone.

Its files are read once more, but only documents that belong to those shards are tokenised: a shard is a stretch of the
keyed order, which the documents beside it bound, and what filters removed is listed. That the shards have the digests
that are recorded proves them right; where they do not, the whole source is to be made anew.
"""

import json
import logging
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from tsugiki.corpus.buckets import Buckets, bits_for
from tsugiki.corpus.fingerprint import boundaries
from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.inputs import Batch, Counted, SourceDocuments
from tsugiki.corpus.megatron import token_dtype
from tsugiki.corpus.pieces import Given, Piece
from tsugiki.corpus.prepare_text import DocumentWriter
from tsugiki.corpus.prepared import LEFT_OUT, SourceManifest, damaged_files, open_stores, source_directory
from tsugiki.corpus.records import Document
from tsugiki.corpus.store import ENDINGS, TokenStore
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import are_whole, recorded_manifest
from tsugiki.corpus.workers import TextWork, Tokenised, place_hash, tokenise_batches
from tsugiki.files import fsync_directory
from tsugiki.folders import worked_beside
from tsugiki.recipe import Recipe

LAST = 1 << 128
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stretch:
    """Documents of one part of a source from one place of the keyed order to another, neither included, without those
    that were removed."""

    above: int
    below: int
    share: float
    """That is held out."""
    held_out: bool
    """Whether the part is."""
    removed: frozenset[int]

    def holds(self, place: int, text: str) -> bool:
        """Whether the document of a place is one of them."""
        if not self.above < place < self.below or place in self.removed:
            return False
        return is_held_out(text.encode(), self.share) == self.held_out


@dataclass
class StretchWork(TextWork):
    """Tokenises the documents of a stretch, and no others."""

    stretch: Stretch = field(kw_only=True)

    def __call__(self, batch: Batch) -> Tokenised:
        """As it was when the source was prepared, but for filters: what stays is known."""
        pieces: list[tuple[int, str, Piece]] = [
            (file, name, Given([document], len(document.text)))
            for file, name, document in batch.items(self.how, Counted())
            if self.stretch.holds(place_hash(self.source, name, document), document.text)
        ]
        return super().__call__(replace(batch, pieces=pieces))


def mended(recipe: Recipe, name: str, tokenizer: TextTokenizer, verify: bool) -> SourceManifest | None:
    """The manifest of a source that is up to date, its damaged shards made again; None where all of it is to be made
    anew. To be used inside `only_one` of its folder. `verify`: look for damage also where every file has its size."""
    manifest, directory = recorded_manifest(recipe, name, tokenizer), source_directory(recipe, name)
    if manifest is None or (not verify and are_whole(directory, manifest)):
        return manifest
    damaged = list(damaged_files(directory, manifest))
    if damaged:
        files = f"{directory}: damaged: {', '.join(damaged[:4])}{' …' if len(damaged) > 4 else ''};"
        if reason := _mend(recipe, tokenizer, manifest, damaged):
            _log.warning("%s the source is made anew, since %s", files, reason)
            return None
        _log.warning("%s made again alone", files)
    return manifest if are_whole(directory, manifest) else None


def _mend(recipe: Recipe, tokenizer: TextTokenizer, manifest: SourceManifest, damaged: list[str]) -> str:
    """Put the shards of these files in their place, or say why not."""
    if manifest.chat is not None or manifest.split_documents:
        return "it holds conversations" if manifest.chat is not None else "texts of it were split"
    if any(name in damaged for name in manifest.digests):
        return "more than shards is"
    directory = source_directory(recipe, manifest.name)
    with worked_beside(directory) as work:
        for part, index in manifest.stores.items():
            names = [{shard.name + ending for ending in ENDINGS} for shard in index.shards]
            wrong = [number for number, files in enumerate(names) if not files.isdisjoint(damaged)]
            run = range(wrong[0], wrong[-1] + 1) if wrong else range(0)
            if wrong and not _made_again(recipe, tokenizer, manifest, part, run, work):
                return f"what its files give now is not what {part} held"
        for path in sorted(work.iterdir(), key=lambda path: path.suffix == ".idx"):
            path.replace(directory / path.name)
        fsync_directory(directory)
    return ""


def _made_again(
    recipe: Recipe, tokenizer: TextTokenizer, manifest: SourceManifest, part: str, run: range, work: Path
) -> bool:
    """Write a run of shards into the folder `work`; whether they have the digests that are recorded."""
    documents = SourceDocuments(recipe, manifest.name, work / LEFT_OUT)
    stretch = _stretch(recipe, manifest, part, run, documents)
    before, after = boundaries(recipe, tokenizer)
    size, opener = tokenizer.vocabulary_size, tokenizer.engine.opener()
    tokenise = StretchWork(manifest.name, documents.how, opener, size, before, after, stretch=stretch)
    buckets = Buckets(work, bits_for(documents.expected_bytes), dtype=token_dtype(size))
    with closing(buckets), closing(tokenise_batches(documents.batches(), tokenise, recipe.data.workers)) as results:
        for _, found in results:
            buckets.add(found.records, found.tokens)
    shards = manifest.stores[part].shards
    writer = DocumentWriter(work / part, size, finished=shards[: run.start])
    for records, starts, payload in buckets.sorted_documents():
        writer.add(records, starts, payload)
    buckets.remove()
    return writer.close().shards == shards[: run.stop]


def _stretch(recipe: Recipe, manifest: SourceManifest, part: str, run: range, documents: SourceDocuments) -> Stretch:
    """The documents of a run of shards, which those of the shards beside it bound."""
    train, held_out = open_stores(source_directory(recipe, manifest.name), manifest)
    store: TokenStore = held_out if part == "held_out" else train
    names = [entry["name"] for entry in manifest.files]
    first, last = store.shard_starts[run.start], store.shard_starts[run.stop]

    def place(file: int, line: int) -> int:
        return place_hash(manifest.name, names[file], Document("", line))

    above, below = -1, LAST
    if first > 0:
        (row,) = store.documents(first - 1, first)
        above = place(int(row["file"]), int(row["line"]))
    if last < store.document_count:
        (row,) = store.documents(last, last + 1)
        below = place(int(row["file"]), int(row["line"]))
    numbers, removed = {str(file.path): number for number, file in enumerate(documents.files)}, set()
    listing = store.prefix.with_name(LEFT_OUT)
    if listing.exists():
        with listing.open(encoding="utf-8") as lines:
            for entry in map(json.loads, lines):
                gone = place(numbers[entry["file"]], entry["line"]) if entry["file"] in numbers else -1
                if above < gone < below:
                    removed.add(gone)
    return Stretch(above, below, recipe.held_out_share(manifest.name), part == "held_out", frozenset(removed))
