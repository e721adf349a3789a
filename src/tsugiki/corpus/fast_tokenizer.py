"""A faster way to the reference's ids, where there is one that gives the same.

`tokenizers` is the reference: the models were trained with what it gives. Two libraries (extra `fast`) read the same
tokenizer.json and are many times as fast, gigatoken and fastokens; and whatever library it is, most of the time is
saved by `segments` for tokenizers that split no words first. So a way to the ids must prove equal, before a source is
prepared, on documents of that source and on texts that tokenizers stumble over (`adversarial`), and it is checked while
it runs: of one document in `CHECKED` the reference makes the ids too, and where they differ nothing is prepared.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tsugiki.corpus.adversarial import adversarial_strings
from tsugiki.corpus.segments import Cuts, Encode, NotCuttable, SegmentTokenizer
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.tokenizer_engines import plain_ids
from tsugiki.errors import DataError
from tsugiki.printable import one_line

CHECKED = 512
"""The reference is some ten times slower: to check one document in so many costs a few hundredths."""
WORTH_IT = 4 << 20
"""Bytes of text below which opening and proving a second library takes longer than it saves."""
PROOF_CHARACTERS = 500_000
"""Text of a source that the proof takes, at most; the reference needs about half a second for it."""
REMEMBERED = 16 << 20
"""Characters after which gigatoken is opened anew: it keeps the ids of every stretch of text that it has met, two bytes
for each byte of Japanese text, without end (0.10.0; fastokens keeps 170 MB of them)."""


class _NotUsable(Exception):
    """Why a faster library cannot be used."""


class _Gigatoken:
    """Encodes one text a call: of several a library would use all cores, and there is a process for each already."""

    def __init__(self, description: str):
        import gigatoken

        self._open: Callable[[], Any] = lambda: gigatoken.Tokenizer.from_json(description)
        self._library, self._read = self._open(), 0

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [self._ids(text) for text in texts]

    def _ids(self, text: str) -> NDArray[np.int32]:
        self._read += len(text)
        if self._read > REMEMBERED:
            self._library, self._read = self._open(), len(text)
        return self._library.encode(text).astype(np.int32)


class _Fastokens:
    """The same with the other library."""

    def __init__(self, description: str):
        import fastokens

        self._library = fastokens.Tokenizer.from_json_str(description)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [np.frombuffer(self._library.encode_batch_flat([text])[0], np.uint32).astype(np.int32) for text in texts]


class _Reference:
    """The reference itself: for segments, for what a faster way refuses, and to check."""

    def __init__(self, description: str):
        self._library = Tokenizer.from_str(description)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [plain_ids(self._library, text) for text in texts]


LIBRARIES: dict[str, Callable[[str], _Gigatoken | _Fastokens | _Reference]] = {
    "gigatoken": _Gigatoken,
    "fastokens": _Fastokens,
    "tokenizers": _Reference,
}
WAYS = (("gigatoken", True), ("tokenizers", True), ("gigatoken", False), ("fastokens", False))
"""Library, and whether by segments; the fastest first."""
FASTER_WITH_SPACES = ("gigatoken", False)
"""Which remembers what stands between spaces."""
SPACED = 1 / 12
"""Share of spaces in a text that has them between words."""
NOT_INSTALLED = "neither gigatoken nor fastokens is installed: pip install 'tsugiki[fast]'"


@dataclass(frozen=True)
class Faster:
    """A library, what its tokenizer is made from (`Engine.plain_description`), and where text is cut if it is."""

    library: str
    description: str
    cuts: Cuts | None = None

    @property
    def way(self) -> str:
        """For a reader."""
        return self._named(self.library)

    @property
    def versioned(self) -> str:
        """For the manifest and the reports."""
        return self._named(f"{self.library} {version(self.library)}")

    def _named(self, library: str) -> str:
        return f"{library} by segments" if self.cuts else library


@dataclass(frozen=True)
class Choice:
    """What makes the ids of a source, and why."""

    faster: Faster | None
    """For the processes that tokenise; None where the reference is taken."""
    says: str
    """For the manifest and the reports."""


def choose(tokenizer: TextTokenizer, sample: Sequence[str], *, wanted: bool, size: int) -> Choice:
    """What makes the ids of a source of about `size` bytes of text, of which `sample` are documents."""
    reference = f"{tokenizer.engine.library} {version(tokenizer.engine.library)}"
    if not wanted:
        return Choice(None, f"{reference} (data.fast_tokenizer is false)")
    if size < WORTH_IT:
        return Choice(None, f"{reference} (little text)")
    description = tokenizer.engine.plain_description()
    if description is None:
        return Choice(None, f"{reference} (no faster library reads tokenizer.model)")
    cuts, not_cuttable = _cuts(description)
    refused, missing = [], []
    ways = [(library, by_segments) for library, by_segments in WAYS if cuts or not by_segments]
    for library, by_segments in sorted(ways, key=lambda way: not (way == FASTER_WITH_SPACES and _spaced(sample))):
        try:
            fast = FastTokenizer(Faster(library, description, cuts if by_segments else None))
        except ImportError:
            missing.append(library)
            continue
        except _NotUsable as reason:
            refused.append(str(reason))
            continue
        different, tried = _proof(fast, tokenizer, sample)
        if different is None:
            why = "; ".join([f"the ids of {reference} on {tried:,} texts", *refused])
            return Choice(fast.faster, f"{fast.faster.versioned} ({why})")
        refused.append(different)
    if {"gigatoken", "fastokens"} <= set(missing):
        refused.append(NOT_INSTALLED)
    return Choice(None, f"{reference} ({'; '.join([*not_cuttable, *refused])})")


@lru_cache(maxsize=2)
def _cuts(description: str) -> tuple[Cuts | None, list[str]]:
    """Where text is cut, or why it is not: once for all sources."""
    try:
        return Cuts.of(description), []
    except NotCuttable as reason:
        return None, [f"no segments: {reason}"]


def _spaced(sample: Sequence[str]) -> bool:
    """Whether texts have spaces between their words."""
    return sum(text.count(" ") for text in sample) > SPACED * sum(map(len, sample))


def _proof(fast: "FastTokenizer", tokenizer: TextTokenizer, sample: Sequence[str]) -> tuple[str | None, int]:
    """Where it gives other ids than the reference, and the number of texts that both have read."""
    own = [(tokenizer.encode_array(text), text) for text in _documents(sample)]
    both = [*_odd_texts(tokenizer), *own]
    for tried, (ids, (expected, text)) in enumerate(zip(fast.encode([text for _, text in both]), both, strict=True)):
        if (at := first_difference(ids, expected)) is not None:
            return f"{fast.faster.way} gives other ids, from id {at} on, for {_excerpt(text)}", tried
    return None, len(both)


class FastTokenizer:
    """The reference's ids in a faster way, control strings being text.

    The reference is opened when it is first needed: that takes longer than to tokenise a few megabytes.
    Raises ImportError where there is no such library, _NotUsable where it cannot read the description.
    """

    def __init__(self, faster: Faster):
        self.faster = faster
        open_library, cuts = LIBRARIES[faster.library], faster.cuts
        try:
            self._encode: Encode = (
                SegmentTokenizer(cuts, open_library(cuts.description).encode).encode
                if cuts
                else open_library(faster.description).encode
            )
        except ImportError:
            raise
        except Exception as error:  # whatever it raises for what it does not know
            why = one_line(str(error), 120)
            raise _NotUsable(f"{faster.library} cannot read this tokenizer: {why}") from None

    @cached_property
    def _reference(self) -> _Reference:
        return _Reference(self.faster.description)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Ids of each text."""
        try:
            return self._encode(texts)
        except Exception:  # beyond a limit of its regular expressions, perhaps: of one text, which the reference takes
            if len(texts) == 1:
                return self._reference.encode(texts)
            return [ids for text in texts for ids in self.encode([text])]

    def check(self, text: str, ids: NDArray[np.int32], where: str) -> None:
        """Raise DataError where the reference gives other ids than `ids` for the document at `where`."""
        (expected,) = self._reference.encode([text])
        at = first_difference(ids, expected)
        if at is not None:
            raise DataError(
                f"{where}: {self.faster.way} gives other ids than tokenizers here, from id {at} on "
                f"({ids[at : at + 4].tolist()} instead of {expected[at : at + 4].tolist()}): {_excerpt(text)}; set "
                "data.fast_tokenizer: false"
            )


@lru_cache(maxsize=2)
def _odd_texts(tokenizer: TextTokenizer) -> list[tuple[NDArray[np.int32], str]]:
    """Texts that tokenizers stumble over, every added token as text among them, and the reference's ids: once for all
    sources, since these take it seconds."""
    return [(tokenizer.encode_array(text), text) for _, text in adversarial_strings(tokenizer.added)]


def _documents(sample: Sequence[str]) -> Iterator[str]:
    """Documents of a source on which both must agree."""
    left = PROOF_CHARACTERS
    for text in sample:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def first_difference(ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> int | None:
    """The first place where two lists of ids differ, in length perhaps; None where they are equal."""
    if np.array_equal(ours, theirs):
        return None
    both = min(len(ours), len(theirs))
    return int(np.argmax(np.append(ours[:both] != theirs[:both], True)))


def _excerpt(text: str) -> str:
    return one_line(repr(text), 80)
