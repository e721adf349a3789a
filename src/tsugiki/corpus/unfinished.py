"""What preparing a source goes on from when it was interrupted while it read: how far it was, and what it had found.

Every minute the buckets are brought to disk, and then this file beside them, atomically. Whoever comes next cuts the
buckets to the sizes that stand in it, passes over whole files by size and time of change, reads again what had been
read of the file that was in the middle (and compares its digest), and goes on. So a kill costs a minute.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from tsugiki.chat.counts import Counts as ChatCounts
from tsugiki.corpus.buckets import BUCKET, Buckets, bits_for
from tsugiki.corpus.fast_tokenizer import Choice
from tsugiki.corpus.filters.figures import FilterFigures, Found
from tsugiki.corpus.fingerprint import InputRecord
from tsugiki.corpus.inputs import Deal, Position, SourceDocuments
from tsugiki.corpus.parquet import PARQUET_ROWS
from tsugiki.corpus.pieces import GIVEN_DOCUMENTS, PIECE, RECORDS_PIECE
from tsugiki.errors import DataError
from tsugiki.files import read_json, write_json
from tsugiki.folders import UNFINISHED, empty

SAVE_SECONDS = 60.0
MOST_HITS = 20


@dataclass
class Unfinished:
    """How far the reading of a source is, beside the buckets' files."""

    key: str
    """Of the settings and the names of files: with others there is nothing to go on with."""
    bits: int
    """Of the buckets."""
    files: dict[str, InputRecord] = field(default_factory=dict)
    """Those that were read to their end, by name."""
    position: Position = field(default_factory=Position)
    sizes: list[int] = field(default_factory=list)
    """Of the buckets' files."""
    listed: int = 0
    """Bytes of the list of what was left out."""
    read: int = 0
    seen: list[int] = field(default_factory=list)
    """Records of each file."""
    bad: dict[str, int] = field(default_factory=dict)
    bad_examples: list[str] = field(default_factory=list)
    replaced: int = 0
    split: int = 0
    parts: int = 0
    odd: dict[str, int] = field(default_factory=dict)

    def save(self, work: Path, buckets: Buckets, documents: SourceDocuments, position: Position) -> None:
        """Bring all of it to disk, in the folder `work`. Raises OSError, StorageError."""
        self.position = position
        self.keep(documents, buckets.sizes())
        write_json(work / UNFINISHED, asdict(self))

    def keep(self, documents: SourceDocuments, sizes: list[int]) -> None:
        """Take what has been counted; `sizes` of the buckets' files."""
        self.sizes = sizes
        passed = [file.name for file in documents.files[: self.position.files]]
        self.files = {name: documents.records[name] for name in passed if name in documents.records}
        self.seen = [documents.seen_in[number] for number in range(len(documents.files))]
        self.bad, self.bad_examples, self.replaced = (
            documents.bad,
            documents.bad_examples,
            documents.replaced_surrogates,
        )
        self.listed = documents.left_out.stat().st_size if documents.left_out.exists() else 0
        self.read, self.split, self.parts = documents.read, documents.split, documents.parts

    def describes_all(self, documents: SourceDocuments) -> bool:
        """Whether the files that were read are there, and what they were."""
        files = {file.name: file for file in documents.files}
        return all(_describes(files.get(name), record) for name, record in self.files.items())

    def restore(self, documents: SourceDocuments) -> None:
        """Put `documents` where reading was."""
        documents.records, documents.read = dict(self.files), self.read
        documents.split, documents.parts = self.split, self.parts
        documents.seen_in = Counter(dict(enumerate(self.seen)))
        documents.bad, documents.bad_examples, documents.replaced_surrogates = (
            self.bad,
            self.bad_examples,
            self.replaced,
        )
        if documents.left_out.exists():
            os.truncate(documents.left_out, self.listed)


@dataclass
class UnfinishedText(Unfinished):
    """The same of a source of text, and what was found of its documents."""

    library: str = ""
    """Which made the ids so far, and why that one."""
    faster: str | None = None
    """Its name, where it is a faster one than the reference; "" for the reference, None before any."""
    filtered: FilterFigures = field(default_factory=FilterFigures)
    hits: list[Found] = field(default_factory=list)
    """The first documents that hold evaluation text, with the stretch of it."""

    def says(self, library: Choice) -> None:
        """From here on the ids are made by this one: the same as before an interruption, as a rule."""
        faster = library.faster.way if library.faster else ""
        if self.faster != faster:
            self.library = f"{self.library}, then {library.says}" if self.library else library.says
            self.faster = faster

    def keep_hits(self, hits: Sequence[Found]) -> None:
        """Keep the first few of each set: more than are shown, since some of their documents may be duplicates."""
        for hit in hits:
            if sum(kept["set"] == hit["set"] for kept in self.hits) < MOST_HITS:
                self.hits.append(hit)


@dataclass
class UnfinishedChat(Unfinished):
    """The same of a chat source, and what was found of its conversations."""

    counts: ChatCounts = field(default_factory=ChatCounts)
    lengths: dict[int, int] = field(default_factory=dict)
    """How many conversations have so many tokens, before any was divided."""
    dropped: list[str] = field(default_factory=list)
    """The first that lost exchanges."""


State = TypeVar("State", bound=Unfinished)


def key_of(fingerprint: str, documents: SourceDocuments, deal: Deal) -> str:
    """Of a source's settings, the names of its files, how they are cut, and the part that is dealt."""
    names = [file.name for file in documents.files]
    parts = [fingerprint, PIECE, RECORDS_PIECE, GIVEN_DOCUMENTS, PARQUET_ROWS, deal, names]
    return xxhash.xxh3_128_hexdigest(repr(parts).encode())


@contextlib.contextmanager
def gone_on_with(work: Path) -> Iterator[None]:
    """Inside, what is saved in the folder `work` is there to go on with after an interruption. When the block has ended
    there is nothing to go on with, nor after a DataError: that is to be mended, and then perhaps all is otherwise."""
    try:
        yield
    except DataError:
        _forget(work)
        raise
    _forget(work)


def _forget(work: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (work / UNFINISHED).unlink()


def begin_or_go_on(work: Path, key: str, documents: SourceDocuments, kind: type[State]) -> State:
    """What an interrupted preparation left in the folder `work`, if it can be gone on with (the same settings, and
    files that are what they were), with `documents` where reading was; else the beginning, in an empty folder."""
    found = _find(work, key, documents, kind)
    if found is None:
        empty(work)
        return kind(key, bits_for(documents.expected_bytes))
    found.restore(documents)
    return found


def _find(work: Path, key: str, documents: SourceDocuments, kind: type[State]) -> State | None:
    if not (work / UNFINISHED).exists():
        return None
    try:
        found = read_json(work / UNFINISHED, kind)
    except DataError:
        return None
    whole = all(_reaches(work / f"{BUCKET}-{number:03d}", size) for number, size in enumerate(found.sizes))
    return found if found.key == key and whole and found.describes_all(documents) else None


def _describes(file: Any, record: InputRecord) -> bool:
    """Whether a file (InputFile or HubFile, None where there is none) is the one of a record, by size and time of
    change; a commit fixes what a file of the hub holds."""
    if file is None or record.get("commit") is not None:
        return file is not None
    stat = Path(file.path).stat()
    return (stat.st_size, stat.st_mtime_ns) == (record["size"], record["mtime_ns"])


def _reaches(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size


class Saver:
    """Saves every SAVE_SECONDS."""

    def __init__(self, unfinished: Unfinished, work: Path, buckets: Buckets, documents: SourceDocuments):
        self._unfinished, self._work, self._buckets, self._documents = unfinished, work, buckets, documents
        self._last = time.monotonic()

    def reached(self, position: Position) -> None:
        """All up to a place has been taken and put into the buckets."""
        if time.monotonic() - self._last >= SAVE_SECONDS:
            self._unfinished.save(self._work, self._buckets, self._documents, position)
            self._last = time.monotonic()
