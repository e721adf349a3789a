"""The `prepare` stage: corpora in, one token store a source out.

A reader in this process streams documents; a pool of workers tokenises them; this process appends the results to
bucket files by the top of each document's order hash; then each bucket is sorted and written to the store. The order
of documents is that of a keyed hash of (source, file, line), so the output is the same bytes for any number of
workers, and a source is written in a temporary directory that is renamed when whole: a killed run leaves nothing
that looks finished, and the next run makes the same bytes.

Whether a document is held out depends on its text alone: adding files moves no document, and duplicates fall on the
same side.
"""

import glob
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash

from tsugiki.corpus.compression import FileDigest, compression_of
from tsugiki.corpus.readers import BadRecord, Document, format_of, read_documents
from tsugiki.corpus.store import DOCUMENT, StoreWriter, TokenStore, store_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError
from tsugiki.files import fsync_directory, read_json, write_json, xxh3_file
from tsugiki.recipe import Recipe, SourceSection

RULE_VERSION = 1
"""Of the order of documents, the held-out rule and what surrounds a document. Part of every fingerprint."""

BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 400_000
BUCKET_BYTES = 64 << 20
COMPRESSION_GUESS = 6
HELD_OUT_MINIMUM = (20, 20_000)
"""Documents and UTF-8 bytes below which held-out figures would be noise."""
EXAMPLES = 5
RECORD = np.dtype([("order", "<u8"), ("order2", "<u8"), ("held_out", "u1"), ("length", "<u4"), *DOCUMENT.descr])
"""Of one document in a bucket file, before its tokens (int32)."""


class Progress(Protocol):
    """Told how far preparing is; the command line draws it."""

    def start(self, source: str, total_bytes: int) -> None: ...
    def advance(self, read_bytes: int, documents: int) -> None: ...
    def finish(self, source: str, skipped: bool) -> None: ...


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
    bad_examples: list[str] = field(default_factory=list)
    replaced_surrogates: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    rule_version: int = RULE_VERSION

    @classmethod
    def read(cls, path: Path) -> "SourceManifest":
        """Raises DataError when the file is not such a manifest."""
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


# --- what there is to read -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputFile:
    path: Path
    name: str
    """Path below the pattern's fixed part: the same when a corpus is moved as a whole."""
    format: str


def input_files(name: str, source: SourceSection) -> list[InputFile]:
    """Files of a source in a fixed order. Raises DataError for a pattern that matches nothing readable."""
    found: dict[Path, InputFile] = {}
    for pattern in [source.path] if isinstance(source.path, str) else list(source.path or []):
        expanded = Path(pattern).expanduser()
        root = expanded
        while glob.has_magic(str(root)) or root == expanded:
            root = root.parent
        matches = [Path(match) for match in sorted(glob.glob(str(expanded), recursive=True))]
        files = [path for path in matches if path.is_file()]
        if not files:
            kind = "is a directory, not a file" if matches else "matches no file"
            raise DataError(f"data.sources.{name}.path: {pattern} {kind}")
        for path in files:
            if not os.access(path, os.R_OK):
                raise DataError(f"data.sources.{name}.path: {path} cannot be read (permission denied)")
            found.setdefault(path, InputFile(path, str(path.relative_to(root)), format_of(path, source.format)))
    return [found[path] for path in sorted(found)]


def source_directory(recipe: Recipe, name: str) -> Path:
    return (recipe.data.prepared_dir or recipe.run_dir / "data") / name


def _held_out_share(recipe: Recipe, source: SourceSection) -> float:
    return recipe.data.held_out if source.held_out is None else source.held_out


def _fingerprint(recipe: Recipe, name: str, tokenizer: TextTokenizer, files: list[dict[str, Any]]) -> str:
    """Of everything that decides the bytes of a prepared source. File contents enter by size and digest."""
    source = recipe.data.sources[name]
    add_bos, add_eos = _boundaries(recipe, tokenizer)
    parts = [
        RULE_VERSION, name, tokenizer.fingerprint, add_bos, add_eos, _held_out_share(recipe, source), source.text_key,
        source.encoding, source.hub, source.subset, source.split, source.revision, recipe.data.max_document_bytes,
        [(entry["name"], entry["size"], entry["digest"]) for entry in files],
    ]  # fmt: skip
    return xxhash.xxh3_128_hexdigest(repr(parts).encode())


def _boundaries(recipe: Recipe, tokenizer: TextTokenizer) -> tuple[bool, bool]:
    """Whether documents get BOS and EOS. Raises DataError when asked for a token that the tokenizer lacks."""
    add_bos = tokenizer.default_add_bos if recipe.data.add_bos is None else recipe.data.add_bos
    add_eos = tokenizer.default_add_eos if recipe.data.add_eos is None else recipe.data.add_eos
    for wanted, token, key in ((add_bos, tokenizer.bos_id, "add_bos"), (add_eos, tokenizer.eos_id, "add_eos")):
        if wanted and token is None:
            raise DataError(f"data.{key} is true, but the tokenizer in {tokenizer.folder} has no such token")
    return add_bos, add_eos


def _current_manifest(recipe: Recipe, name: str, tokenizer: TextTokenizer) -> SourceManifest | None:
    """The manifest of what is prepared, if it is what preparing now would give.

    A file whose size and time of change are as recorded is taken as unchanged; one that was merely touched is
    read and compared by digest.
    """
    path = source_directory(recipe, name) / "manifest.json"
    if not path.exists():
        return None
    manifest = SourceManifest.read(path)
    files = manifest.files
    if recipe.data.sources[name].path is not None:
        recorded = {entry["name"]: entry for entry in manifest.files}
        files = []
        for file in input_files(name, recipe.data.sources[name]):
            stat, entry = file.path.stat(), recorded.get(file.name)
            if entry is None or entry["size"] != stat.st_size:
                return None
            if entry["mtime_ns"] != stat.st_mtime_ns and xxh3_file(file.path) != entry["digest"]:
                return None
            files.append(entry)
    same = len(files) == len(manifest.files) and _fingerprint(recipe, name, tokenizer, files) == manifest.fingerprint
    return manifest if same else None


def source_is_current(recipe: Recipe, name: str) -> bool:
    """Whether a finished source exists (its inputs are compared by `prepare` alone)."""
    return (source_directory(recipe, name) / "manifest.json").exists()


def is_held_out(text: bytes, share: float) -> bool:
    """Whether a document is held out, by its UTF-8 text alone."""
    return xxhash.xxh3_64_intdigest(b"held-out\0" + text) / 2.0**64 < share


# --- workers ----------------------------------------------------------------------------------------------------


_worker: dict[str, Any] = {}


def _start_worker(folder: str, settings: dict[str, Any]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker.update(settings, tokenizer=TextTokenizer.from_folder(Path(folder)))


def _tokenise(batch: list[tuple[int, str, int, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Records (RECORD) and tokens (int32, end to end) of (file, file name, line, text) items."""
    tokenizer: TextTokenizer = _worker["tokenizer"]
    records = np.zeros(len(batch), RECORD)
    rows = []
    for index, ((file, name, line, text), ids) in enumerate(
        zip(batch, tokenizer.encode_batch([item[3] for item in batch]), strict=True)
    ):
        size = text.encode("utf-8")
        rows += [_worker["before"], ids, _worker["after"]]
        place = xxhash.xxh3_128_intdigest(f"{_worker['source']}\0{name}\0{line}".encode())
        kept_out = is_held_out(size, _worker["held_out"])
        length = len(ids) + len(_worker["before"]) + len(_worker["after"])
        records[index] = (place >> 64, place & (2**64 - 1), kept_out, length, file, line, len(size), len(text))
    return records, np.concatenate([np.asarray(row, dtype="<i4") for row in rows])


# --- the stage --------------------------------------------------------------------------------------------------


def prepare(
    recipe: Recipe, tokenizer: TextTokenizer, *, progress: Progress | None = None
) -> dict[str, SourceManifest]:
    """Prepare every source that is not up to date; returns all manifests by name.

    Raises DataError for sources that cannot be read, have too many bad documents, or too small a held-out part.
    """
    manifests = {}
    for name in recipe.data.sources:
        manifest = _current_manifest(recipe, name, tokenizer)
        if progress and manifest:
            progress.finish(name, True)
        manifests[name] = manifest or _prepare_source(recipe, name, tokenizer, progress)
    return manifests


def _prepare_source(recipe: Recipe, name: str, tokenizer: TextTokenizer, progress: Progress | None) -> SourceManifest:
    target = source_directory(recipe, name)
    work = target.with_name(f".{name}.preparing")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    add_bos, add_eos = _boundaries(recipe, tokenizer)
    manifest = SourceManifest(
        name=name, fingerprint="", tokenizer_fingerprint=tokenizer.fingerprint,
        vocabulary_size=tokenizer.vocabulary_size, add_bos=add_bos, add_eos=add_eos, bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id, files=[], train=Counts(), held_out=Counts(),
    )  # fmt: skip
    buckets = _fill_buckets(recipe, name, tokenizer, work, manifest, progress)
    _write_stores(work, buckets, manifest)
    _check_held_out(recipe, name, manifest)
    manifest.fingerprint = _fingerprint(recipe, name, tokenizer, manifest.files)
    for part in ("train", "held_out"):
        for path in store_files(work / part):
            manifest.digests[path.name] = xxh3_file(path)
    write_json(work / "manifest.json", asdict(manifest))
    fsync_directory(work)
    if target.exists():
        old = target.with_name(f".{name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        work.rename(target)
        shutil.rmtree(old)
    else:
        work.rename(target)
    fsync_directory(target.parent)
    if progress:
        progress.finish(name, False)
    return manifest


def _fill_buckets(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, work: Path, manifest: SourceManifest,
    progress: Progress | None,
) -> list[Path]:  # fmt: skip
    """Read, tokenise, and append every document to the bucket of its order hash."""
    source = recipe.data.sources[name]
    settings = {
        "source": name, "held_out": _held_out_share(recipe, source),
        "before": [tokenizer.bos_id] if manifest.add_bos else [], "after": [tokenizer.eos_id] if manifest.add_eos else [],
    }  # fmt: skip
    reading = _Reading(recipe, name, source, manifest, progress)
    count = max(1, min(256, reading.estimated_bytes // BUCKET_BYTES))
    paths = [work / f"bucket-{index:03d}" for index in range(count)]
    streams = [path.open("wb") for path in paths]
    try:
        for records, tokens in _map_batches(reading.batches(), tokenizer.folder, settings, recipe.data.workers):
            ends = np.cumsum(records["length"], dtype=np.int64)
            which = (records["order"] >> np.uint64(40)).astype(np.int64) * count >> 24
            for bucket in np.unique(which):
                for index in np.flatnonzero(which == bucket):
                    streams[bucket].write(records[index].tobytes())
                    streams[bucket].write(tokens[ends[index] - records["length"][index] : ends[index]].tobytes())
    finally:
        for stream in streams:
            stream.close()
    reading.judge(at_end=True)
    return paths


def _map_batches(
    batches: Iterator[list], folder: Path, settings: dict[str, Any], workers: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`_tokenise` over the batches, in order, in `workers` processes (1: in this one)."""
    workers = workers or len(os.sched_getaffinity(0))
    first = [batch for _, batch in zip(range(4), batches, strict=False)]
    if workers == 1 or len(first) < 4:  # a pool would take longer to start than the work
        _start_worker(str(folder), settings)
        yield from map(_tokenise, first)
        yield from map(_tokenise, batches)
        return
    # Forked workers of a process that runs threads may deadlock; a fork server has none.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsugiki.corpus.prepare"])

    with context.Pool(workers, _start_worker, (str(folder), settings)) as pool:
        waiting: list = []
        source = (batch for part in (first, batches) for batch in part)
        for batch in source:
            waiting.append(pool.apply_async(_tokenise, (batch,)))
            if len(waiting) >= 4 * workers:  # bounds memory: the reader is faster than the tokeniser
                yield waiting.pop(0).get()
        while waiting:
            yield waiting.pop(0).get()


class _Reading:
    """The documents of a source in batches, counting what is bad and telling how far it is."""

    def __init__(
        self, recipe: Recipe, name: str, source: SourceSection, manifest: SourceManifest, progress: Progress | None
    ):
        self.recipe, self.name, self.source = recipe, name, source
        self.manifest, self.progress = manifest, progress
        self.seen = self.bad = 0
        if source.hub is not None:
            from tsugiki.corpus.hub import HubSource

            self.files: list[Any] = [HubSource(name, source)]
            self.estimated_bytes = self.files[0].size or BUCKET_BYTES * 64
        else:
            self.files = input_files(name, source)
            sizes = [file.path.stat().st_size * (COMPRESSION_GUESS if compression_of(file.path) else 1) for file in self.files]
            self.estimated_bytes = sum(sizes)

    def batches(self) -> Iterator[list[tuple[int, str, int, str]]]:
        if self.progress:
            total = sum(file.path.stat().st_size for file in self.files) if self.source.hub is None else 0
            self.progress.start(self.name, total)
        batch: list[tuple[int, str, int, str]] = []
        characters = 0
        for index, file in enumerate(self.files):
            for item in self._documents(index, file):
                batch.append(item)
                characters += len(item[3])
                if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
        if batch:
            yield batch

    def _documents(self, index: int, file: Any) -> Iterator[tuple[int, str, int, str]]:
        digest = FileDigest()
        before = None if self.source.hub is not None else file.path.stat()
        good = reported = 0
        for item in self._read(file, digest):
            self.seen += 1
            if isinstance(item, BadRecord):
                self._count_bad(file, item)
                continue
            good += 1
            self.manifest.replaced_surrogates += item.replaced
            if self.progress and good % 64 == 0:
                self.progress.advance(digest.bytes_read - reported, 64)
                reported = digest.bytes_read
            yield index, file.name, item.line, item.text
        if self.progress:
            self.progress.advance(digest.bytes_read - reported, good % 64)
        self._record(file, before, digest)
        if good == 0 and self.source.format != "text" and not self.bad:
            raise DataError(f"{file.path}: no document in the whole file")

    def _read(self, file: Any, digest: FileDigest) -> Iterator[Document | BadRecord]:
        if self.source.hub is not None:
            return file.read(digest)
        return read_documents(
            file.path, format=file.format, text_key=self.source.text_key, encoding=self.source.encoding,
            max_bytes=self.recipe.data.max_document_bytes, digest=digest,
        )  # fmt: skip

    def _record(self, file: Any, before: os.stat_result | None, digest: FileDigest) -> None:
        if before is None:
            self.manifest.files.append(file.record(digest))
            return
        after = file.path.stat()
        if (after.st_size, after.st_mtime_ns, after.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
            raise DataError(f"{file.path}: changed while it was being read; run again when nothing writes to it")
        self.manifest.files.append(
            {"name": file.name, "path": str(file.path), "size": after.st_size, "mtime_ns": after.st_mtime_ns,
             "digest": digest.hexdigest()}
        )  # fmt: skip

    def _count_bad(self, file: Any, item: BadRecord) -> None:
        self.bad += 1
        self.manifest.bad[item.kind] = self.manifest.bad.get(item.kind, 0) + 1
        if len(self.manifest.bad_examples) < EXAMPLES:
            self.manifest.bad_examples.append(f"{file.path}:{item.line}: {item.kind}: {item.detail}")
        self.judge(at_end=False)

    def judge(self, *, at_end: bool) -> None:
        """Raise DataError when more documents are bad than the recipe tolerates (early only when it is certain)."""
        tolerated = self.recipe.data.max_bad_documents
        if self.bad > tolerated * self.seen and (at_end or self.bad >= max(20, tolerated * 50_000)):
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.manifest.bad.items()))
            raise DataError(
                f"source {self.name}: {self.bad:,} of {self.seen:,} documents cannot be used ({kinds}), more than "
                f"data.max_bad_documents = {tolerated:g} tolerates. First of them:\n  " + "\n  ".join(self.manifest.bad_examples)
            )
        if at_end and self.seen == 0:
            raise DataError(f"source {self.name}: no document at all")


def _write_stores(work: Path, buckets: list[Path], manifest: SourceManifest) -> None:
    """Sort each bucket and append it to the two stores; the buckets are removed."""
    writers = {part: StoreWriter(work / part, manifest.vocabulary_size) for part in ("train", "held_out")}
    for path in buckets:
        records, tokens, starts = _read_bucket(path)
        order = np.lexsort((records["order2"], records["order"]))
        for part, writer in writers.items():
            chosen = order[records["held_out"][order] == (part == "held_out")]
            if not len(chosen):
                continue
            lengths = records["length"][chosen].astype(np.int64)
            pieces = [tokens[start : start + length] for start, length in zip(starts[chosen], lengths, strict=True)]
            rows = np.zeros(len(chosen), DOCUMENT)
            for key in DOCUMENT.names or ():
                rows[key] = records[key][chosen]
            writer.add_documents(np.concatenate(pieces), lengths, rows)
            counts: Counts = getattr(manifest, part)
            counts.documents += len(chosen)
            counts.tokens += int(lengths.sum())
            counts.bytes += int(rows["bytes"].sum())
            counts.characters += int(rows["characters"].sum())
        path.unlink()
    for writer in writers.values():
        writer.close()


def _read_bucket(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(records, all tokens, start of each record's tokens) of a bucket file."""
    data = path.read_bytes()
    records, tokens, starts = [], [], []
    at = total = 0
    while at < len(data):
        record = np.frombuffer(data, RECORD, 1, at)
        at += RECORD.itemsize
        length = int(record["length"][0])
        tokens.append(np.frombuffer(data, "<i4", length, at))
        records.append(record)
        starts.append(total)
        at += 4 * length
        total += length
    if not records:
        return np.zeros(0, RECORD), np.zeros(0, "<i4"), np.zeros(0, np.int64)
    return np.concatenate(records), np.concatenate(tokens), np.asarray(starts, dtype=np.int64)


def _check_held_out(recipe: Recipe, name: str, manifest: SourceManifest) -> None:
    share = _held_out_share(recipe, recipe.data.sources[name])
    counts, (documents, size) = manifest.held_out, HELD_OUT_MINIMUM
    if share == 0 or (counts.documents >= documents and counts.bytes >= size):
        return
    all_documents = counts.documents + manifest.train.documents
    all_bytes = counts.bytes + manifest.train.bytes
    needed = 1.3 * max(documents / max(all_documents, 1), size / max(all_bytes, 1))
    remedy = f"set data.sources.{name}.held_out to {needed:.2g}" if needed < 0.5 else "the source is too small for one"
    raise DataError(
        f"source {name}: its held-out part has {counts.documents} documents and {counts.bytes:,} bytes; figures need at "
        f"least {documents} and {size:,}: {remedy}, or to 0 for no held-out part"
    )


# --- what is there ----------------------------------------------------------------------------------------------


def open_prepared(recipe: Recipe) -> dict[str, PreparedSource]:
    """The recipe's sources as prepared. Raises DataError, naming what to run, when one is missing."""
    sources = {}
    for name, source in recipe.data.sources.items():
        directory = source_directory(recipe, name)
        if not (directory / "manifest.json").exists():
            raise DataError(f"{directory}: source {name} is not prepared; run tsugiki prepare RECIPE (or tsugiki run)")
        sources[name] = PreparedSource(
            name, source.language, TokenStore(directory / "train"), TokenStore(directory / "held_out"),
            SourceManifest.read(directory / "manifest.json"),
        )  # fmt: skip
    return sources


def verify(directory: Path) -> list[str]:
    """Problems of a prepared source: files missing or not as their digests say. Empty when it is sound."""
    manifest = SourceManifest.read(directory / "manifest.json")
    problems = []
    for name, digest in manifest.digests.items():
        path = directory / name
        if not path.exists():
            problems.append(f"{path}: missing")
        elif xxh3_file(path) != digest:
            problems.append(f"{path}: its digest is not the recorded one; run tsugiki prepare after removing {directory}")
    return problems
