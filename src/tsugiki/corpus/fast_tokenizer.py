"""A faster library in the reference's place, where it is installed and gives the same ids.

`tokenizers` is the reference: the models were trained with what it gives. fastokens (extra `fast`) reads the same
tokenizer.json and is many times as fast, but is another program. So it must prove equal, before a source is prepared,
on documents of that source and on texts that tokenizers stumble over (`adversarial`), and it is checked while it runs:
of one document in `CHECKED` the reference makes the ids too, and where they differ nothing is prepared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tsugiki.corpus.adversarial import adversarial_strings
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


@dataclass(frozen=True)
class Choice:
    """Which library makes the ids of a source, and why."""

    description: str | None
    """What the faster library is made from, in the processes that tokenise; None where the reference is taken."""
    says: str
    """For the manifest and the reports."""

    @property
    def fast(self) -> bool:
        """Whether it is the faster one."""
        return self.description is not None


def choose(tokenizer: TextTokenizer, sample: Sequence[str], *, wanted: bool, size: int) -> Choice:
    """The library for a source of about `size` bytes of text, of which `sample` are documents."""
    reference = f"{tokenizer.engine.library} {version(tokenizer.engine.library)}"
    if not wanted:
        return Choice(None, f"{reference} (data.fast_tokenizer is false)")
    if size < WORTH_IT:
        return Choice(None, f"{reference} (little text)")
    description = tokenizer.engine.plain_description()
    if description is None:
        return Choice(None, f"{reference} (no faster library reads tokenizer.model)")
    try:
        fast = FastTokenizer(description)
    except _NotUsable as reason:
        return Choice(None, f"{reference} ({reason})")
    odd = _odd_texts(tokenizer)
    tried = 0
    for expected, text in chain(odd, ((tokenizer.encode_array(text), text) for text in _documents(sample))):
        if (at := first_difference(fast.encode(text), expected)) is not None:
            return Choice(None, f"{reference} (fastokens gives other ids, from id {at} on, for {_excerpt(text)})")
        tried += 1
    return Choice(description, f"fastokens {version('fastokens')} (the ids of {reference} on {tried:,} texts)")


class _NotUsable(Exception):
    """Why the faster library cannot be used."""


class FastTokenizer:
    """The faster library's ids of a text, control strings being text, made from what `Engine.plain_description` gives.

    The reference is opened when it is first needed: that takes longer than to tokenise a few megabytes.
    Raises _NotUsable where there is no such library, or it cannot read the description.
    """

    def __init__(self, description: str):
        try:
            import fastokens
        except ImportError:
            raise _NotUsable("fastokens is not installed: pip install 'tsugiki[fast]'") from None
        try:
            self._fast = fastokens.Tokenizer.from_json_str(description)
        except Exception as error:  # whatever it raises for what it does not know
            raise _NotUsable(f"fastokens cannot read this tokenizer: {one_line(str(error), 120)}") from None
        self._description = description

    @cached_property
    def _reference(self) -> Tokenizer:
        return Tokenizer.from_str(self._description)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of a text."""
        try:
            # One text a call: of several the library would use all cores, and there is a process for each already.
            return np.frombuffer(self._fast.encode_batch_flat([text])[0], np.uint32).astype(np.int32)
        except Exception:  # beyond the limits of its regular expressions, which the reference has not
            return plain_ids(self._reference, text)

    def check(self, text: str, ids: NDArray[np.int32], where: str) -> None:
        """Raise DataError where the reference gives other ids than `ids` for the document at `where`."""
        expected = plain_ids(self._reference, text)
        at = first_difference(ids, expected)
        if at is not None:
            raise DataError(
                f"{where}: fastokens gives other ids than tokenizers here, from id {at} on "
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
