"""The processes that tokenise: batches of documents in, what a `Work` makes of each out, in the same order."""

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import forkserver, resource_tracker
from multiprocessing.synchronize import Event
from typing import Any, Protocol, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.corpus.buckets import RECORD, in_order
from tsugiki.corpus.fast_tokenizer import CHECKED, Faster, FastTokenizer
from tsugiki.corpus.filters.figures import Found, Removed, excerpt
from tsugiki.corpus.filters.judge import Judge, Kept
from tsugiki.corpus.held_out import held_out_draw
from tsugiki.corpus.inputs import Batch, Counted
from tsugiki.corpus.megatron import token_dtype
from tsugiki.corpus.records import Document, Reading
from tsugiki.corpus.tokenizer_engines import Opener
from tsugiki.errors import DataError, TsugikiError

WAITING_BATCHES = 4
"""Batches a worker that may wait for tokenising: the reader is faster, and this bounds memory."""
CONTROL = bytes({*range(32), 127} - {*b"\t\n\r"})
"""Control characters that a text should not have."""
MOJIBAKE = ("縺", "繧", "繝", "ã\x81", "ã\x82")
"""What kana in UTF-8 look like when read as CP932 or Latin-1; the first three are also rare characters."""

Result = TypeVar("Result", covariant=True)


@dataclass
class Tokenised:
    """What became of a batch of documents."""

    records: NDArray[np.void]
    """RECORD, in order."""
    tokens: NDArray[np.generic]
    """Of all documents end to end, in the type that a store has."""
    odd: Counter[str]
    """How many documents hold something odd."""
    counted: Counted
    removed: list[Removed]
    hits: list[Found]


class Work(Protocol[Result]):
    """What is done with each batch. It travels to every process once, and there is started once."""

    @property
    def source(self) -> str: ...

    def start(self) -> None: ...

    def __call__(self, batch: Batch, /) -> Result: ...


GUARD = (
    "Tokenising processes import the script that calls prepare, so it must call it below `if __name__ == "
    '"__main__":` (or set data.workers to 1)'
)

_worker: dict[str, Any] = {}


def _start_worker(work: Work[Any], started: Event | None) -> None:
    """`started`: set once a process of its own is ready; None in the process that reads."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    work.start()
    _worker["work"] = work
    if started is not None:
        started.set()
        threading.Thread(target=leave_with_parent, daemon=True).start()


def _run(batch: Batch) -> Any:
    return _worker["work"](batch)


def check_not_importing() -> None:
    """Raise TsugikiError in a tokenising process that imports a script which prepares: it would wait for itself."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise TsugikiError(f"prepare was called while a tokenising process imported the script. {GUARD}")


def leave_with_parent() -> None:
    """End this process when its parent is gone, killed perhaps: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass
class TextWork:
    """Documents become tokens, between what stands `before` and `after` each.

    fast: the faster way to ids, where one is taken; else what `opener` gives.
    """

    source: str
    how: Reading
    opener: Opener
    vocabulary_size: int
    before: list[int]
    after: list[int]
    fast: Faster | None = None
    judge: Judge = field(default_factory=Judge)

    def start(self) -> None:
        """Open the tokenizer and the filters."""
        self.judge.open()
        self.checked = None if self.fast is None else FastTokenizer(self.fast)
        self.encode = self.checked.encode if self.checked else _each(self.opener())

    def __call__(self, batch: Batch) -> Tokenised:
        """Tokenise what filters leave of a batch. Raises DataError where the faster way errs."""
        before, after = (np.array(side, np.int32) for side in (self.before, self.after))
        counted = Counted()
        left: list[tuple[int, str, Document]] = []
        kept: list[Kept] = []
        removed: list[Removed] = []
        for file, name, document in batch.items(self.how, counted):
            text = document.text
            content = text.encode("utf-8")
            if rule := self.judge.removed_by(text, len(content)):
                removed.append(Removed(file, document.line, rule, excerpt(text)))
            else:
                left.append((file, name, document))
                kept.append(Kept(text, content, odd_in(text, content)))
        rows: list[tuple[int, ...]] = []
        parts: list[NDArray[np.int32]] = []
        for (file, name, document), own, ids in zip(left, kept, self.encode([own.text for own in kept]), strict=True):
            place = place_hash(self.source, name, document)
            draw = held_out_draw(own.content if document.whole is None else document.whole.encode("utf-8"))
            if self.checked and place % CHECKED == 0:
                self.checked.check(own.text, ids, f"source {self.source}, {name}:{document.line}")
            parts += [before, ids, after]
            rows.append(
                (place >> 64, place & (2**64 - 1), draw, len(before) + len(ids) + len(after), file, document.line,
                 len(own.content), len(own.text))
            )  # fmt: skip
        records = np.zeros(len(rows), self.judge.record)
        for key, column in zip(RECORD.names or (), zip(*rows, strict=True), strict=False):
            records[key] = column
        hits = self.judge.mark(records, kept)
        tokens = self._narrowed(np.concatenate(parts or [np.zeros(0, np.int32)]))
        odd = Counter(name for one in kept for name in one.odd)
        return Tokenised(*in_order(records, tokens), odd, counted, removed, hits)

    def _narrowed(self, tokens: NDArray[np.int32]) -> NDArray[np.generic]:
        """Tokens in the type of the store, which would wrap an id outside the vocabulary in silence."""
        size = self.vocabulary_size
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < size:
            wrong = int(tokens.min()) if tokens.min() < 0 else int(tokens.max())
            raise DataError(f"source {self.source}: token id {wrong:,} does not fit a vocabulary of {size:,}")
        return tokens.astype(token_dtype(size))


def _each(encode: Callable[[str], NDArray[np.int32]]) -> Callable[[Sequence[str]], list[NDArray[np.int32]]]:
    """One text after another: what the libraries keep of a text takes about a hundred times its size."""
    return lambda texts: [encode(text) for text in texts]


def place_hash(source: str, file: str, document: Document) -> int:
    """128 bits that give a document its place in the order."""
    place = f"{source}\0{file}\0{document.line}" + (f"\0{document.part}" if document.part else "")
    return xxhash.xxh3_128_intdigest(place.encode())


def odd_in(text: str, content: bytes) -> list[str]:
    """What is odd about a text, of which `content` is the UTF-8, that is kept all the same."""
    found = {
        "control characters": len(content.translate(None, CONTROL)) < len(content),
        "U+FFFD": "\ufffd" in text,
        "mojibake": not text.isascii()
        and 50 * sum(text.count(sign) for sign in MOJIBAKE if sign[0] in text) > len(text),
    }
    return [name for name, holds in found.items() if holds]


def tokenise_batches(
    batches: Iterator[Batch], work: Work[Result], workers: int | None
) -> Generator[tuple[Batch, Result]]:
    """Each batch with what `work` makes of it, in order, by `workers` processes (1: in this one)."""
    workers = workers or usable_cores()
    first = [batch for _, batch in zip(range(4), batches, strict=False)]
    if workers == 1 or len(first) < 4:  # a pool would take longer to start than the work
        _start_worker(work, None)
        yield from ((batch, work(batch)) for batch in chain(first, batches))
        return
    # Forked workers of a process that runs threads may deadlock; a fork server has none.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsugiki.corpus.workers"])
    _start_deaf_server()
    started = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (work, started))
    waiting: deque[tuple[Batch, Future[Result]]] = deque()
    broken = False
    try:
        for batch in chain(first, batches):
            waiting.append((batch, pool.submit(_run, batch)))
            if len(waiting) >= WAITING_BATCHES * workers:
                yield _awaited(*waiting.popleft())
        while waiting:
            yield _awaited(*waiting.popleft())
    except (BrokenProcessPool, BrokenPipeError):  # the latter where one ends before it has taken its work
        broken = True
        if not started.is_set():
            raise TsugikiError(
                f"source {work.source}: no tokenising process could start; its own error is above. {GUARD}"
            ) from None
        raise TsugikiError(
            f"source {work.source}: a tokenising process was killed, most likely for want of memory; "
            "lower data.workers or data.max_document_bytes and run again"
        ) from None
    finally:
        # A broken pool has ended its processes itself; to wait for its thread may never end (python/cpython#94777).
        pool.shutdown(wait=not broken, cancel_futures=True)


def _awaited(batch: Batch, result: Future[Result]) -> tuple[Batch, Result]:
    return batch, result.result()


@contextmanager
def own_server() -> Iterator[None]:
    """End the fork server after the block, where the block has started it: it is deaf to Ctrl-C, and so would be
    whatever else this process forks from it."""
    server: Any = forkserver._forkserver  # there is no public way to stop it
    was_running = server._forkserver_pid is not None
    try:
        yield
    finally:
        if not was_running:
            server._stop()


def _start_deaf_server() -> None:
    """Start the fork server so that it and its workers never see a Ctrl-C: this process does, and ends them."""
    resource_tracker.ensure_running()  # else the server starts it, and it unblocks the signal (Python 3.11)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def usable_cores() -> int:
    """Cores that this process may run on, where the system tells; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
