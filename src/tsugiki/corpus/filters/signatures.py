"""What is kept of a document to find its duplicates: a hash of its text, and bucket keys for texts that are nearly so.

Two texts are as similar as their sets of character 5-grams: J = |A and B| / |A or B|. A sketch of `hashes` times
`buckets` numbers agrees at each place with probability J; a bucket of `hashes` numbers agrees as a whole with J^hashes,
and its key stands for them. One bucket that agrees is enough: with 20 numbers in each of 40 buckets (as Doubri, with
which Swallow Corpus was made) two texts of J = 0.9 are found with probability 1 - (1 - 0.9^20)^40 = 0.994, of 0.8
with 0.37, of 0.7 with 0.03.

The numbers are not the minima of 800 hash functions, which would cost 800 products for every n-gram. They are the "fast
similarity sketch" of Dahlgaard, Knudsen and Thorup (FOCS 2017): in each round every n-gram falls into one of 800 places
by a hash, and a place holds the least that fell into it, in the first round in which anything did. A round of an
n-gram is one hash, rounds are needed until no place is empty (one, where there are thousands of n-grams), and every
place agrees with probability J as before. `tests/corpus/filters/test_signatures.py` counts how often pairs of known J
are found, beside 800 functions.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.corpus.filters.codepoints import codes_of

Hashes = NDArray[np.uint64]

FACTOR = np.uint64(0x9E3779B97F4A7C15)
MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""The constants of splitmix64 (Steele, Lea and Flood, 2014)."""
EMPTY = np.uint64(2**64 - 1)
BLOCK = 1 << 14
"""N-grams at a time: their hashes stay in the cache of a core."""


def exact_hash(text: bytes) -> int:
    """Of the whole text, 64 bits: among a billion documents that differ, 0.03 pairs are expected to agree."""
    return xxhash.xxh3_64_intdigest(b"duplicate\0" + text)


@dataclass(frozen=True)
class Signature:
    """How bucket keys are made: n-grams of so many characters, numbers in a bucket, buckets."""

    ngram: int = 5
    hashes: int = 20
    buckets: int = 40

    def keys(self, text: str) -> Hashes:
        """The keys of a document, [buckets]. One shorter than an n-gram has itself as its only one."""
        places = sketch(ngrams(codes_of(text), self.ngram), self.hashes * self.buckets)
        numbers = mixed(places).reshape(self.buckets, self.hashes)
        return mixed((numbers * _weights(self.hashes)).sum(axis=1, dtype=np.uint64))


@cache
def _weights(count: int) -> Hashes:
    """Odd numbers without a pattern."""
    return mixed(np.arange(1, count + 1, dtype=np.uint64) * FACTOR) | np.uint64(1)


def ngrams(codes: NDArray[np.uint32], n: int) -> Hashes:
    """A hash of the n-gram at each place; of a text that has none, of all of it."""
    n = min(n, len(codes))
    if n == 0:
        return np.zeros(1, np.uint64)
    count = len(codes) - n + 1
    wide = codes.astype(np.uint64)
    found = wide[:count].copy()
    for place in range(1, n):
        found *= FACTOR
        found += wide[place : place + count]
    return found


def sketch(items: Hashes, places: int) -> Hashes:
    """The fast similarity sketch of a set of hashes, [places]; items may stand in it more than once.

    A number is that of the round in which its place was first hit, and below it 32 bits of the least hash in it.
    """
    found = np.full(places, EMPTY)
    for start in range(0, len(items), BLOCK):
        _throw(found, items[start : start + BLOCK])
    empty = int(np.count_nonzero(found == EMPTY))
    if empty:
        items = np.sort(items)  # numpy's own unique, which does not sort, takes twenty times as long
        items = items[np.concatenate([[True], items[1:] != items[:-1]])]
    following = 1
    while empty:
        # So many that most likely no place is left empty: a round that nobody needs changes nothing.
        rounds = min(math.ceil(places * (math.log(empty) + 2) / len(items)), BLOCK // len(items) + 1)
        numbers = np.arange(following, following + rounds, dtype=np.uint64)
        for start in range(0, len(items), BLOCK):
            _throw(found, items[start : start + BLOCK], numbers)
        following += rounds
        empty = int(np.count_nonzero(found == EMPTY))
    return found


def _throw(found: Hashes, items: Hashes, rounds: Hashes | None = None) -> None:
    """Let all items fall into places, in the first round or in some later ones."""
    if rounds is not None:
        items = (items[None, :] + (rounds * MIX[1])[:, None]).ravel()
    hashes = mixed(items)
    places = hashes >> np.uint64(32)
    places *= np.uint64(len(found))
    places >>= np.uint64(32)
    hashes &= np.uint64(0xFFFFFFFF)
    if rounds is not None:
        hashes |= np.repeat(rounds << np.uint64(32), len(items) // len(rounds))
    np.minimum.at(found, places.view(np.int64), hashes)


def mixed(numbers: Hashes) -> Hashes:
    """Each number by the finaliser of splitmix64: a bijection whose every bit depends on all."""
    with np.errstate(over="ignore"):
        numbers = numbers ^ (numbers >> np.uint64(30))
        numbers *= MIX[0]
        numbers ^= numbers >> np.uint64(27)
        numbers *= MIX[1]
        numbers ^= numbers >> np.uint64(31)
    return numbers
