"""The documents of a source, out of all its files, with every record that is none counted and named.

A source is read whole or the stage stops: files are looked at before the first is read, must end cleanly and must
not change meanwhile. Records that give no document are tolerated up to `data.max_bad_documents` of all, and listed.
"""

import glob
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tsugiki.corpus.compression import FileDigest, compression_of
from tsugiki.corpus.fingerprint import InputRecord
from tsugiki.corpus.pieces import Piece, piece_bytes
from tsugiki.corpus.readers import cut_file, format_of
from tsugiki.corpus.records import BadRecord, Document, Reading, split_document
from tsugiki.errors import DataError
from tsugiki.recipe import Recipe
from tsugiki.recipe_corpus import CorpusSection

BATCH_PIECES = 256
"""Pieces that travel together at most: of small files there may be many."""
COMPRESSION_GUESS = 6
MANY_FILES = 4
"""Files for each part of the work, from which on they are dealt whole."""
EXAMPLES = 5
EARLY_MINIMUM = 20
"""Bad records before reading may stop in the middle."""


@dataclass(frozen=True)
class Position:
    """How far reading is: so many whole files, and so many pieces of the next, whose bytes so far have this digest."""

    files: int = 0
    pieces: int = 0
    digest: str = ""


BEGINNING = Position()


@dataclass(frozen=True)
class Deal:
    """A part of a source's work: the one of number `number` of `of`.

    Of many files each part has some. Of few, each has some pieces of every file: all of them read all, which costs a
    twentieth of what it costs to tokenise it.
    """

    number: int = 0
    of: int = 1

    def takes_file(self, files: int, file: int) -> bool:
        """Whether something of a file is in this part; `files` is how many there are."""
        return not self._by_files(files) or file % self.of == self.number

    def takes_piece(self, files: int, piece: int) -> bool:
        """Whether a piece of such a file is."""
        return self._by_files(files) or piece % self.of == self.number

    def _by_files(self, files: int) -> bool:
        return files >= MANY_FILES * self.of


WHOLE = Deal()


@dataclass(frozen=True)
class Batch:
    """Pieces that travel to a process together: number and name of their file, and the piece."""

    pieces: list[tuple[int, str, Piece]]
    read: int
    """Bytes of the source that hold all records up to its end."""
    end: Position

    def items(self, how: Reading, counted: "Counted") -> Iterator[tuple[int, str, Document]]:
        """Its documents, with number and name of their file; what else it holds is counted."""
        for file, name, piece in self.pieces:
            for item in piece.items(how):
                counted.seen[file] += 1
                if isinstance(item, BadRecord):
                    counted.bad.append((file, item))
                    continue
                counted.replaced += item.replaced
                if how.split is None or len(item.text) <= how.split:
                    yield file, name, item
                    continue
                counted.split += 1
                for part in split_document(item, how.split):
                    counted.parts += 1
                    yield file, name, part


@dataclass
class Counted:
    """What was found in a batch beside documents."""

    seen: Counter[int] = field(default_factory=Counter)
    """Records, bad ones too, by number of file."""
    bad: list[tuple[int, BadRecord]] = field(default_factory=list)
    replaced: int = 0
    """Documents in which a lone surrogate was replaced."""
    split: int = 0
    """Documents that were too long to be tokenised at once."""
    parts: int = 0
    """What they were split into."""


class Progress(Protocol):
    """Told how far preparing is; the command line draws it."""

    def start(self, source: str, total_bytes: int) -> None: ...
    def advance(self, read_bytes: int, documents: int) -> None: ...
    def finish(self, source: str, skipped: bool) -> None: ...


@dataclass(frozen=True)
class InputFile:
    """A file of a source."""

    path: Path
    name: str
    """Path below the folder that all of the source's patterns share: the same when a corpus is moved as a whole."""
    format: str


def input_files(key: str, corpus: CorpusSection) -> list[InputFile]:
    """Files of a corpus in a fixed order, each once, by whatever paths and links it is named. `key` is its place in the
    recipe, for messages.

    Raises DataError for a pattern that matches nothing, or nothing readable.
    """
    found: set[Path] = set()
    roots = []
    for pattern in corpus.paths:
        expanded = Path(pattern).expanduser().absolute()
        literal = os.path.lexists(expanded)  # a file may really be called data[1].jsonl
        matches = [expanded]
        if not literal:
            # Path.glob leaves out links that lead nowhere; a missing file must be named.
            matches = [Path(match) for match in glob.glob(str(expanded), recursive=True)]  # noqa: PTH207
        files = [path for path in matches if _is_input(key, path, named=literal)]
        if not files:
            raise DataError(f"{key}.path: {pattern} matches no file")
        found.update(files)
        root = expanded.parent
        while not literal and glob.has_magic(str(root)):
            root = root.parent
        roots.append(str(root))
    base = os.path.commonpath(roots) if roots else "/"
    return [InputFile(path, str(path.relative_to(base)), format_of(path, corpus.format)) for path in _each_once(found)]


def _each_once(paths: set[Path]) -> list[Path]:
    """The paths in order, one for each file: rather its own than one through a link or with `..` in it."""
    kept: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: (path.is_symlink(), str(path) != os.path.realpath(path), path)):
        kept.setdefault(os.path.realpath(path), path)
    return sorted(kept.values())


def _is_input(key: str, path: Path, *, named: bool) -> bool:
    """Whether a match is a file to read. A folder matched in passing is none; anything else is an error."""
    here = f"{key}.path: {path}"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"{key}.path: {str(path)!r}: its name is not UTF-8; rename it") from None
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
            return True
    except FileNotFoundError:
        raise DataError(f"{here} is a link to a file that does not exist") from None
    except OSError as error:
        raise DataError(f"{here} cannot be read ({error.strerror})") from None
    if not stat.S_ISDIR(mode):
        raise DataError(f"{here} is a pipe, socket or device, not a file")
    try:
        format_of(path, "auto")
    except DataError:
        if not named:
            return False
    raise DataError(f"{here} is a directory, not a file; for all files in it write {path}/*")


class SourceDocuments:
    """The documents of a source in batches, counting what is bad and telling how far it is.

    What a batch holds is found by whoever takes it, in another process perhaps, and then counted here (`take`), in the
    order of the source however many processes there are.
    """

    def __init__(self, recipe: Recipe, name: str, left_out: Path, progress: Progress | None = None, deal: Deal = WHOLE):
        self.deal = deal
        self.name, self.source, self.progress, self.left_out = name, recipe.data.sources[name], progress, left_out
        self.tolerated, max_bytes = recipe.data.max_bad_documents, recipe.data.max_document_bytes
        split = None if self.source.is_chat else recipe.data.split_documents
        self.how = Reading(self.source.text_key, self.source.encoding, max_bytes, self.source.is_chat, split)
        self.replaced_surrogates = self.split = self.parts = 0
        self.seen_in: Counter[int] = Counter()
        """Records, by number of file."""
        self.bad: dict[str, int] = {}
        self.bad_examples: list[str] = []
        self.records: dict[str, InputRecord] = {}
        """Of each file that was read to its end, by its name: path, size, time of change, digest."""
        self.files: list[Any] = []  # InputFile, or HubFile
        self.total_bytes = self.expected_bytes = self.read = self._checked = 0
        if self.source.hub is not None:
            from tsugiki.corpus.hub import hub_files

            self.files = list(hub_files(f"data.sources.{name}", self.source))
        else:
            self.files = list(input_files(f"data.sources.{name}", self.source))
            for file in self.files:
                size = file.path.stat().st_size
                self.total_bytes += size
                self.expected_bytes += size * (COMPRESSION_GUESS if compression_of(file.path) else 1)

    def every_record(self) -> list[InputRecord]:
        """Of all files, in their order, when all have been read."""
        return [self.records[file.name] for file in self.files]

    @property
    def seen(self) -> int:
        """Records that have been taken, bad ones too."""
        return self.seen_in.total()

    def documents(self) -> Iterator[tuple[int, str, Document]]:
        """All documents in the order of files and lines, found in this process and taken. Raises DataError where the
        source cannot be used."""
        for batch in self.batches():
            counted = Counted()
            found = list(batch.items(self.how, counted))
            self.take(batch, counted)
            yield from found
        self.check()

    def batches(self, start: Position = BEGINNING) -> Iterator[Batch]:
        """All that lies behind `start`, in the order of files and lines; `records` has the files before it. Raises
        DataError where a file cannot be read, or is not what it was when reading stopped."""
        if self.progress:
            self.progress.start(self.name, self.total_bytes)
            if self.read:
                self.progress.advance(self.read, self.seen - sum(self.bad.values()))
        pieces: list[tuple[int, str, Piece]] = []
        size, most = 0, piece_bytes(self.how)
        before = sum(record["size"] for record in self.records.values())
        for number in range(start.files, len(self.files)):
            file, digest, count = self.files[number], FileDigest(), 0
            if not self.deal.takes_file(len(self.files), number):
                continue
            skipped = start.pieces if number == start.files else 0
            stat = None if self.source.hub is not None else _stat(file)
            for piece in self._cut(file, digest):
                count += 1
                if count == skipped and digest.hexdigest() != start.digest:
                    raise self._changed(file)
                if count <= skipped or not self.deal.takes_piece(len(self.files), count - 1):
                    continue
                pieces.append((number, file.name, piece))
                size += piece.size
                if 2 * size >= most or len(pieces) >= BATCH_PIECES:  # a piece ends somewhat before it is full
                    yield Batch(pieces, before + digest.passed, Position(number, count, digest.hexdigest()))
                    pieces, size = [], 0
            if count < skipped:
                raise self._changed(file)
            self.records[file.name] = file.record(digest) if stat is None else _record(file, stat, digest)
            before += self.records[file.name]["size"]
        if pieces:
            yield Batch(pieces, before, Position(len(self.files)))

    def take(self, batch: Batch, counted: Counted, left_out: Sequence[tuple[int, BadRecord]] = ()) -> None:
        """Count what a batch held, and list what of it is bad or `left_out` for another reason, in order. Raises
        DataError where the source cannot be used."""
        self.seen_in += counted.seen
        self.replaced_surrogates += counted.replaced
        self.split += counted.split
        self.parts += counted.parts
        for file, record in counted.bad:
            self._count_bad(file, record)
        for file, record in sorted([*counted.bad, *left_out], key=lambda one: (one[0], one[1].line)):
            self.list_left_out(file, record)
        if self.progress:
            self.progress.advance(batch.read - self.read, counted.seen.total() - len(counted.bad))
        self.read = batch.read
        self._require_documents(batch.end.files)
        self._judge_early()

    def check(self) -> None:
        """Raise DataError where too much of what has been read cannot be used, or nothing has."""
        if sum(self.bad.values()) > self.tolerated * self.seen:
            raise self._too_many_bad()
        self._require_documents(len(self.files))
        if sum(self.bad.values()) == self.seen:
            raise DataError(f"source {self.name}: no document in its {self.seen:,} records {self._named_bad('')}")
        if self.progress and self.read < self.total_bytes:
            self.progress.advance(self.total_bytes - self.read, 0)
            self.read = self.total_bytes

    def _require_documents(self, files: int) -> None:
        """Raise DataError for one of the first `files` that had no record at all."""
        for number in range(self._checked, files if self.deal == WHOLE else 0):
            if not self.seen_in[number]:
                raise DataError(f"{self.files[number].path}: no document in the whole file")
        self._checked = files

    def _changed(self, file: Any) -> DataError:
        return DataError(f"{file.path}: changed since preparing was interrupted; run again")

    def _cut(self, file: Any, digest: FileDigest) -> Iterator[Piece]:
        if self.source.hub is not None:
            return file.cut(self.how, digest)
        return cut_file(file.path, file.format, self.how, digest)

    def _count_bad(self, file: int, item: BadRecord) -> None:
        """Count a record of file number `file` that gives no document."""
        self.bad[item.kind] = self.bad.get(item.kind, 0) + 1
        if len(self.bad_examples) < EXAMPLES:
            self.bad_examples.append(f"{self.files[file].path}:{item.line}: {item.kind}: {item.detail}")

    def list_left_out(self, file: int, item: BadRecord) -> None:
        """Write a line for what is left out into the list that lies beside the stores."""
        entry = {"file": str(self.files[file].path), "line": item.line, "kind": item.kind, "detail": item.detail}
        with self.left_out.open("a", encoding="utf-8") as listing:
            listing.write(json.dumps(entry) + "\n")  # ASCII: a bad record may quote lone surrogates

    def _judge_early(self) -> None:
        """Stop in the middle where even a faultless rest would leave too many bad records."""
        bad = sum(self.bad.values())
        if bad < EARLY_MINIMUM:
            return
        if self.total_bytes == 0:  # a stream whose length is not known
            hopeless = bad > 0.5 * self.seen
        else:  # a quarter in reserve: records are not equally long
            hopeless = self.read > 0 and bad > 1.25 * self.tolerated * self.seen * self.total_bytes / self.read
        if hopeless:
            raise self._too_many_bad()

    def _too_many_bad(self) -> DataError:
        return DataError(
            f"source {self.name}: {sum(self.bad.values()):,} of {self.seen:,} documents cannot be used "
            + self._named_bad(
                f", more than data.max_bad_documents = {self.tolerated:g} tolerates: mend them, or raise it to leave "
                "them out"
            )
        )

    def _named_bad(self, what: str) -> str:
        """Bad records by kind, `what` of them, and the first few."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.bad.items()))
        return f"({kinds}){what}. First of them:\n  " + "\n  ".join(self.bad_examples)


def _record(file: InputFile, before: os.stat_result, digest: FileDigest) -> InputRecord:
    """The manifest's entry of a file that was read. Raises DataError when it changed or went meanwhile."""
    after = _stat(file)
    if (after.st_size, after.st_mtime_ns, after.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
        raise DataError(f"{file.path}: changed while it was being read; run again when nothing writes to it")
    return {"name": file.name, "path": str(file.path), "size": after.st_size, "mtime_ns": after.st_mtime_ns,
            "digest": digest.hexdigest()}  # fmt: skip


def _stat(file: InputFile) -> os.stat_result:
    try:
        return file.path.stat()
    except FileNotFoundError:
        raise DataError(f"{file.path}: removed while it was being read; bring it back and run again") from None
