"""The `prepare` stage: corpora in, one token store a source out.

A reader in this process streams documents (`inputs`); a pool of workers tokenises them; this process appends the
results to bucket files by order hash (`buckets`), which are then sorted and written to the stores. The order of
documents is that of a keyed hash of (source, file, line), so the output is the same bytes for any number of workers,
and a source is written in a temporary directory that is renamed when whole: a killed run leaves nothing that looks
finished, and the next run makes the same bytes.

Whether a document is held out depends on its text alone: adding files moves no document, and duplicates fall on the
same side.
"""

import contextlib
import fcntl
import math
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from tsugiki.corpus.buckets import RECORD, Buckets, gather
from tsugiki.corpus.inputs import InputFile, Item, Progress, SourceDocuments, input_files
from tsugiki.corpus.prepared import (
    FILE_NAMES,
    LEFT_OUT,
    MANIFEST,
    PARTS,
    RULE_VERSION,
    Counts,
    PreparedSource,
    SourceManifest,
    open_prepared,
    source_directory,
    source_is_current,
    verify,
)
from tsugiki.corpus.store import DOCUMENT, StoreWriter, TokenStore, store_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, StorageError, TsugikiError
from tsugiki.files import explain_os_error, fsync_directory, fsync_file, write_json, xxh3_file
from tsugiki.recipe import Recipe

__all__ = [
    "HELD_OUT_MINIMUM", "Counts", "InputFile", "PreparedSource", "Progress", "SourceManifest", "current_manifest",
    "input_files", "is_held_out", "open_prepared", "prepare", "source_directory", "source_is_current", "verify",
]  # fmt: skip

HELD_OUT_MINIMUM = (20, 20_000)
"""Documents and UTF-8 bytes below which held-out figures would be noise."""
WAITING_BATCHES = 4
"""Batches a worker that may wait for tokenising: the reader is faster, and this bounds memory."""
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MOJIBAKE = ("縺", "繧", "繝", "ã\x81", "ã\x82")
"""What kana in UTF-8 look like when read as CP932 or Latin-1; the first three are also rare characters."""


def prepare(recipe: Recipe, tokenizer: TextTokenizer, *, progress: Progress | None = None) -> dict[str, SourceManifest]:
    """Prepare every source that is not up to date; returns all manifests by name.

    Raises DataError for sources that cannot be read, have too many bad documents, or too small a held-out part, and
    StorageError where the disk refuses.
    """
    manifests = {}
    for name in recipe.data.sources:
        manifest = current_manifest(recipe, name, tokenizer)
        if manifest is None:
            with _only_one(source_directory(recipe, name)):
                # Another run that shares the folder may have prepared it meanwhile.
                manifest = current_manifest(recipe, name, tokenizer)
                if manifest is None:
                    manifests[name] = _prepare_source(recipe, name, tokenizer, progress)
                    continue
        manifests[name] = manifest
        if progress:
            progress.finish(name, True)
    return manifests


# --- what is up to date ----------------------------------------------------------------------------------------


def current_manifest(recipe: Recipe, name: str, tokenizer: TextTokenizer) -> SourceManifest | None:
    """The manifest of what is prepared, if it is what preparing now would give.

    A file whose size and time of change are as recorded is taken as unchanged; one that was merely touched is
    read and compared by digest, once.
    """
    directory = source_directory(recipe, name)
    if not (directory / MANIFEST).exists():
        return None
    try:
        manifest = SourceManifest.read(directory / MANIFEST)
        for part in PARTS:
            TokenStore(directory / part)  # whole, by its sizes and index
    except DataError:
        return None
    files, touched = manifest.files, False
    if recipe.data.sources[name].hub is None:
        recorded = {entry["name"]: entry for entry in manifest.files}
        files = []
        for file in input_files(name, recipe.data.sources[name]):
            stat, entry = file.path.stat(), recorded.get(file.name)
            if entry is None or entry["size"] != stat.st_size:
                return None
            if entry["mtime_ns"] != stat.st_mtime_ns:
                if _digest(file.path) != entry["digest"]:
                    return None
                touched = True
            files.append(entry | {"path": str(file.path), "mtime_ns": stat.st_mtime_ns})
    if len(files) != len(manifest.files) or _fingerprint(recipe, name, tokenizer, files) != manifest.fingerprint:
        return None
    if touched:
        manifest.files = files
        with contextlib.suppress(StorageError):  # a shared folder may be read-only
            write_json(directory / MANIFEST, asdict(manifest))
    return manifest


def _digest(path: Path) -> str:
    try:
        return xxh3_file(path)
    except OSError as error:
        raise DataError(explain_os_error(error, path, "read")) from error


def _fingerprint(recipe: Recipe, name: str, tokenizer: TextTokenizer, files: list[dict[str, Any]]) -> str:
    """Of everything that decides the bytes of a prepared source. File contents enter by size and digest."""
    source = recipe.data.sources[name]
    parts = [
        RULE_VERSION, name, tokenizer.fingerprint, *boundaries(recipe, tokenizer), recipe.held_out_share(name),
        source.format, source.text_key, source.encoding, source.hub, source.subset, source.split, source.revision,
        recipe.data.max_document_bytes, [(entry["name"], entry["size"], entry["digest"]) for entry in files],
    ]  # fmt: skip
    return xxhash.xxh3_128_hexdigest(repr(parts).encode())


def boundaries(recipe: Recipe, tokenizer: TextTokenizer) -> tuple[bool, bool]:
    """Whether documents get BOS and EOS. Raises DataError when asked for a token that the tokenizer lacks."""
    add_bos = tokenizer.default_add_bos if recipe.data.add_bos is None else recipe.data.add_bos
    add_eos = tokenizer.default_add_eos if recipe.data.add_eos is None else recipe.data.add_eos
    for wanted, token, key in ((add_bos, tokenizer.bos_id, "add_bos"), (add_eos, tokenizer.eos_id, "add_eos")):
        if wanted and token is None:
            raise DataError(f"data.{key} is true, but the tokenizer in {tokenizer.folder} has no such token")
    return add_bos, add_eos


# --- one source ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Hold a source's lock, waiting for another process that prepares it. A killed process leaves no lock."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.with_name(f".{target.name}.lock").open("w")
    except OSError as error:
        raise StorageError(explain_os_error(error, target)) from error
    with file:
        with contextlib.suppress(OSError):  # a file system without locks: then it is up to the user
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare_source(recipe: Recipe, name: str, tokenizer: TextTokenizer, progress: Progress | None) -> SourceManifest:
    target = source_directory(recipe, name)
    work, old = target.with_name(f".{name}.preparing"), target.with_name(f".{name}.old")
    _check_ours(target)
    try:
        for leftover in (work, old):
            shutil.rmtree(leftover, ignore_errors=True)
        work.mkdir(parents=True)
        manifest = _write_source(recipe, name, tokenizer, work, progress)
        fsync_directory(work)
        if target.exists():
            target.rename(old)
        work.rename(target)
        fsync_directory(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StorageError(explain_os_error(error, error.filename or work)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if progress:
        progress.finish(name, False)
    return manifest


def _check_ours(target: Path) -> None:
    """Refuse to replace a folder that is not a prepared source."""
    others = [path.name for path in target.iterdir() if path.name not in FILE_NAMES] if target.is_dir() else []
    if others or (target.exists() and not target.is_dir()):
        what = f"holds other files ({', '.join(sorted(others)[:3])})" if others else "is a file"
        raise StorageError(f"{target} {what}; choose another data.prepared_dir, or move it away")


def _write_source(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, work: Path, progress: Progress | None
) -> SourceManifest:
    """Write both stores and the manifest into `work`."""
    add_bos, add_eos = boundaries(recipe, tokenizer)
    settings = {
        "source": name,
        "before": [tokenizer.bos_id] if add_bos else [],
        "after": [tokenizer.eos_id] if add_eos else [],
    }
    documents = SourceDocuments(recipe, name, work / LEFT_OUT, progress)
    buckets = Buckets.for_text(work, documents.expected_bytes)
    odd: Counter[str] = Counter()
    results = _map_batches(documents.batches(), tokenizer.folder, settings, recipe.data.workers)
    try:
        for records, tokens, found in results:
            buckets.add(records, tokens)
            odd.update(found)
    finally:
        buckets.close()
    manifest = SourceManifest(
        name=name, fingerprint=_fingerprint(recipe, name, tokenizer, documents.records),
        tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size, add_bos=add_bos,
        add_eos=add_eos, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, files=documents.records, train=Counts(),
        held_out=Counts(), bad=documents.bad, bad_examples=documents.bad_examples,
        replaced_surrogates=documents.replaced_surrogates, odd=dict(sorted(odd.items())),
    )  # fmt: skip
    _write_stores(work, buckets, manifest, recipe.held_out_share(name))
    files = [path for part in PARTS for path in store_files(work / part)]
    if documents.bad:
        fsync_file(work / LEFT_OUT)
        files.append(work / LEFT_OUT)
    manifest.digests = {path.name: xxh3_file(path) for path in files}
    write_json(work / MANIFEST, asdict(manifest))
    return manifest


def _write_stores(work: Path, buckets: Buckets, manifest: SourceManifest, share: float) -> None:
    """Append the documents in order to the two stores. Raises DataError when the held-out part is too small."""
    writers = {part: StoreWriter(work / part, manifest.vocabulary_size) for part in PARTS}
    smallest = np.zeros(0, RECORD)
    for records, starts, tokens in buckets.sorted_documents():
        held_out = _below(records["draw"], share)
        smallest = _enough_to_hold_out(np.concatenate([smallest, records]))
        for part, chosen in (("train", ~held_out), ("held_out", held_out)):
            rows, begin = records[chosen], starts[chosen]
            if not len(rows):
                continue
            places = np.zeros(len(rows), DOCUMENT)
            for key in DOCUMENT.names or ():
                places[key] = rows[key]
            writers[part].add_documents(gather(tokens, begin, begin + rows["length"]), rows["length"], places)
            counts: Counts = getattr(manifest, part)
            counts.documents += len(rows)
            counts.tokens += int(rows["length"].sum(dtype=np.int64))
            counts.bytes += int(rows["bytes"].sum())
            counts.characters += int(rows["characters"].sum())
    for writer in writers.values():
        writer.close()
    if share > 0:
        _check_held_out(manifest, smallest)


# --- held out or not -------------------------------------------------------------------------------------------


def held_out_draw(text: bytes) -> int:
    """A number below 2^64 that depends on a document's UTF-8 text alone."""
    return xxhash.xxh3_64_intdigest(b"held-out\0" + text)


def is_held_out(text: bytes, share: float) -> bool:
    """Whether a document is held out, by its UTF-8 text alone."""
    return bool(_below(np.array([held_out_draw(text)], np.uint64), share)[0])


def _below(draws: np.ndarray, share: float) -> np.ndarray:
    return draws / 2.0**64 < share


def _enough_to_hold_out(records: np.ndarray) -> np.ndarray:
    """Those records with the smallest draws that suffice for a held-out part (all, if they do not)."""
    documents, size = HELD_OUT_MINIMUM
    records = records[np.argsort(records["draw"], kind="stable")]
    enough = np.cumsum(records["bytes"]) >= size
    enough[: documents - 1] = False
    return records[: int(np.argmax(enough)) + 1] if enough.any() else records


def _check_held_out(manifest: SourceManifest, smallest: np.ndarray) -> None:
    """Raise DataError, naming a share that works, when figures from the held-out part would be noise."""
    counts, (documents, size) = manifest.held_out, HELD_OUT_MINIMUM
    if counts.documents >= documents and counts.bytes >= size:
        return
    remedy = "the source is too small for one: give it more text, or set held_out to 0"
    if len(smallest) >= documents and int(smallest["bytes"].sum()) >= size:
        needed = _round_up((int(smallest["draw"][-1]) + 1) / 2.0**64)
        if needed <= 0.5:
            remedy = f"set data.sources.{manifest.name}.held_out to {needed:g}, or to 0 for no held-out part"
    raise DataError(
        f"source {manifest.name}: its held-out part has {counts.documents} documents and {counts.bytes:,} bytes; "
        f"figures need at least {documents} and {size:,}: {remedy}"
    )


def _round_up(share: float) -> float:
    """To two digits, never down."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    rounded = float(f"{math.ceil(share / unit) * unit:.2g}")
    return rounded if rounded > share else float(f"{rounded + unit:.2g}")


# --- workers ---------------------------------------------------------------------------------------------------

Tokenised = tuple[np.ndarray, np.ndarray, Counter[str]]
"""Records (RECORD), tokens (int32, end to end), and how many documents hold something odd."""

_worker: dict[str, Any] = {}


def _start_worker(folder: str, settings: dict[str, Any], own_process: bool) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker.update(settings, tokenizer=TextTokenizer.from_folder(Path(folder)))
    if own_process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
        threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when its parent is gone, killed perhaps: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _tokenise(batch: list[Item]) -> Tokenised:
    source, before, after = _worker["source"], _worker["before"], _worker["after"]
    encoded = _worker["tokenizer"].encode_batch([item[3] for item in batch])
    records = np.zeros(len(batch), RECORD)
    odd: Counter[str] = Counter()
    rows = []
    for (file, name, line, text), ids in zip(batch, encoded, strict=True):
        content = text.encode("utf-8")
        place = xxhash.xxh3_128_intdigest(f"{source}\0{name}\0{line}".encode())
        length = len(ids) + len(before) + len(after)
        rows.append(
            (place >> 64, place & (2**64 - 1), held_out_draw(content), length, file, line, len(content), len(text))
        )
        if CONTROL.search(text):
            odd["control characters"] += 1
        if "\ufffd" in text:
            odd["U+FFFD"] += 1
        if 50 * sum(map(text.count, MOJIBAKE)) > len(text):
            odd["mojibake"] += 1
    records[:] = rows
    pieces = chain.from_iterable((before, ids, after) for ids in encoded)
    return records, np.fromiter(chain.from_iterable(pieces), "<i4", int(records["length"].sum(dtype=np.int64))), odd


def _map_batches(
    batches: Iterator[list[Item]], folder: Path, settings: dict[str, Any], workers: int | None
) -> Iterator[Tokenised]:
    """`_tokenise` over the batches, in order, in `workers` processes (1: in this one)."""
    workers = workers or _cores()
    first = [batch for _, batch in zip(range(4), batches, strict=False)]
    if workers == 1 or len(first) < 4:  # a pool would take longer to start than the work
        _start_worker(str(folder), settings, own_process=False)
        yield from map(_tokenise, chain(first, batches))
        return
    # Forked workers of a process that runs threads may deadlock; a fork server has none.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsugiki.corpus.prepare"])
    pool = ProcessPoolExecutor(workers, context, _start_worker, (str(folder), settings, True))
    waiting: deque[Future[Tokenised]] = deque()
    try:
        for batch in chain(first, batches):
            waiting.append(pool.submit(_tokenise, batch))
            if len(waiting) >= WAITING_BATCHES * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise TsugikiError(
            f"source {settings['source']}: a tokenising process was killed, most likely for want of memory; "
            "lower data.workers or data.max_document_bytes and run again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
