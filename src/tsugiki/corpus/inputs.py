"""The documents of a source, out of all its files, with every record that is none counted and named.

A source is read whole or the stage stops: files are looked at before the first is read, must end cleanly and must
not change meanwhile. Records that give no document are tolerated up to `data.max_bad_documents` of all, and listed.
"""

import glob
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tsugiki.corpus.compression import FileDigest, compression_of
from tsugiki.corpus.fingerprint import InputRecord
from tsugiki.corpus.readers import format_of, read_documents
from tsugiki.corpus.records import BadRecord, Document
from tsugiki.errors import DataError
from tsugiki.recipe import CorpusSection, Recipe

BATCH_DOCUMENTS = 256
BATCH_CONVERSATIONS = 32
"""To render one takes about a hundred times as long as to tokenise a document of its size."""
BATCH_CHARACTERS = 400_000
COMPRESSION_GUESS = 6
EXAMPLES = 5
EARLY_MINIMUM = 20
"""Bad records before reading may stop in the middle."""

Item = tuple[int, str, int, str]
"""A document for the tokeniser: index and name of its file, line, text."""
RecordItem = tuple[int, str, int, str | BadRecord]
"""A record of a chat source: the same with its JSON, or what is wrong with it."""


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

    Of a chat source the documents are records as JSON. Whether one is a conversation is found where it is rendered: so
    its batches hold bad records too, and whoever takes the results counts (`count_bad`) and at the end judges
    (`check`), in the order of the source however many processes render.
    """

    def __init__(self, recipe: Recipe, name: str, left_out: Path, progress: Progress | None = None):
        self.name, self.source, self.progress, self._left_out = name, recipe.data.sources[name], progress, left_out
        self.tolerated, self.max_bytes = recipe.data.max_bad_documents, recipe.data.max_document_bytes
        self.seen = self.replaced_surrogates = 0
        self.bad: dict[str, int] = {}
        self.bad_examples: list[str] = []
        self.records: list[InputRecord] = []
        """Of each file that was read to its end: name, path, size, time of change, digest."""
        self.files: list[Any] = []  # InputFile, or HubFile
        self.total_bytes = self.expected_bytes = 0
        if self.source.hub is not None:
            from tsugiki.corpus.hub import hub_files

            self.files = list(hub_files(f"data.sources.{name}", self.source, self.max_bytes))
        else:
            self.files = list(input_files(f"data.sources.{name}", self.source))
            for file in self.files:
                size = file.path.stat().st_size
                self.total_bytes += size
                self.expected_bytes += size * (COMPRESSION_GUESS if compression_of(file.path) else 1)

    def batches(self) -> Iterator[list[Any]]:
        """All documents (Item; RecordItem of a chat source) in the order of files and lines. Raises DataError where the
        source cannot be used."""
        if self.progress:
            self.progress.start(self.name, self.total_bytes)
        batch: list[Any] = []
        characters = done = 0
        most = BATCH_CONVERSATIONS if self.source.is_chat else BATCH_DOCUMENTS
        for index, file in enumerate(self.files):
            for item in self._items(file, done):
                if isinstance(item, Document):
                    batch.append((index, file.name, item.line, item.text))
                    characters += len(item.text)
                elif self.source.is_chat:
                    batch.append((index, file.name, item.line, item))
                else:
                    self.count_bad(index, item)
                if len(batch) >= most or characters >= BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
            done += self.records[-1]["size"]
        if batch:
            yield batch
        if not self.source.is_chat:
            self.check()

    def check(self) -> None:
        """Raise DataError where too much of what has been read cannot be used, or nothing has."""
        if sum(self.bad.values()) > self.tolerated * self.seen:
            raise self._too_many_bad()
        if self.seen == 0:
            raise DataError(f"source {self.name}: no document at all")

    def _items(self, file: Any, done: int) -> Iterator[Document | BadRecord]:
        """What one file holds; `done` bytes of the source were read before it."""
        digest = FileDigest()
        before = None if self.source.hub is not None else file.path.stat()
        good = reported = reported_bytes = bad = 0
        for item in self._read(file, digest):
            if digest.bytes_read != reported_bytes:
                # All records of the bytes before this chunk have been seen.
                self._judge_early(done + reported_bytes)
                self._advance(digest.bytes_read - reported_bytes, good - reported)
                reported, reported_bytes = good, digest.bytes_read
            self.seen += 1
            if isinstance(item, BadRecord):
                bad += 1
            else:
                good += 1
                self.replaced_surrogates += item.replaced
            yield item
        self._advance(digest.bytes_read - reported_bytes, good - reported)
        self.records.append(file.record(digest) if before is None else _record(file, before, digest))
        if good == bad == 0:
            raise DataError(f"{file.path}: no document in the whole file")

    def _read(self, file: Any, digest: FileDigest) -> Iterator[Document | BadRecord]:
        if self.source.hub is not None:
            return file.read(digest)
        return read_documents(
            file.path, format=file.format, text_key=self.source.text_key, encoding=self.source.encoding,
            max_bytes=self.max_bytes, digest=digest, as_records=self.source.is_chat,
        )  # fmt: skip

    def _advance(self, read_bytes: int, documents: int) -> None:
        if self.progress and (read_bytes or documents):
            self.progress.advance(read_bytes, documents)

    def count_bad(self, file: int, item: BadRecord) -> None:
        """Count and list a record of file number `file` that gives no document."""
        self.bad[item.kind] = self.bad.get(item.kind, 0) + 1
        if len(self.bad_examples) < EXAMPLES:
            self.bad_examples.append(f"{self.files[file].path}:{item.line}: {item.kind}: {item.detail}")
        self.list_left_out(file, item)

    def list_left_out(self, file: int, item: BadRecord) -> None:
        """Write a line for what is left out into the list that lies beside the stores."""
        entry = {"file": str(self.files[file].path), "line": item.line, "kind": item.kind, "detail": item.detail}
        with self._left_out.open("a", encoding="utf-8") as listing:
            listing.write(json.dumps(entry) + "\n")  # ASCII: a bad record may quote lone surrogates

    def _judge_early(self, read_bytes: int) -> None:
        """Stop in the middle where even a faultless rest would leave too many bad records."""
        bad = sum(self.bad.values())
        if bad < EARLY_MINIMUM:
            return
        if self.total_bytes == 0:  # a stream whose length is not known
            hopeless = bad > 0.5 * self.seen
        else:  # a quarter in reserve: records are not equally long
            hopeless = read_bytes > 0 and bad > 1.25 * self.tolerated * self.seen * self.total_bytes / read_bytes
        if hopeless:
            raise self._too_many_bad()

    def _too_many_bad(self) -> DataError:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.bad.items()))
        return DataError(
            f"source {self.name}: {sum(self.bad.values()):,} of {self.seen:,} documents cannot be used ({kinds}), more "
            f"than data.max_bad_documents = {self.tolerated:g} tolerates: mend them, or raise it to leave "
            "them out. First of them:\n  " + "\n  ".join(self.bad_examples)
        )


def _record(file: InputFile, before: os.stat_result, digest: FileDigest) -> InputRecord:
    """The manifest's entry of a file that was read. Raises DataError when it changed or went meanwhile."""
    try:
        after = file.path.stat()
    except FileNotFoundError:
        raise DataError(f"{file.path}: removed while it was being read; bring it back and run again") from None
    if (after.st_size, after.st_mtime_ns, after.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
        raise DataError(f"{file.path}: changed while it was being read; run again when nothing writes to it")
    return {"name": file.name, "path": str(file.path), "size": after.st_size, "mtime_ns": after.st_mtime_ns,
            "digest": digest.hexdigest()}  # fmt: skip
