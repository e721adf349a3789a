"""The arrays with which Megatron-LM and nanotron order data, built by their published rules and read as they do.

Megatron-LM: for each data set an array of its documents in random order, one of where each sample begins in it, and one
of the samples in random order; for the mixture, of each sample its data set and its number there, by the greatest
sampling error. nanotron: the mixture's two arrays by the same rule over one pass of all data sets, both shuffled.
Their own loops over samples are compiled (C++, numba); here they are the C below, compiled at the first use.

Both are given their best case: one file for each source, lengths of documents in memory, no other process beside them.
"""

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

DOCUMENT_TOKENS = 1000
"""Mean; documents have half of it up to one and a half."""

LOOPS = r"""
#include <stdint.h>
#include <stdlib.h>

/* Of each sample the data set whose share of the samples so far lags most, and how many came from it before. */
void blend(int16_t *set, int64_t *number, const double *weights, int32_t sets, int64_t samples) {
    int64_t *taken = calloc(sets, sizeof *taken);
    for (int64_t i = 0; i < samples; i++) {
        double at = i > 0 ? (double)i : 1.0, most = weights[0] * at - (double)taken[0];
        int32_t chosen = 0;
        for (int32_t k = 1; k < sets; k++) {
            double error = weights[k] * at - (double)taken[k];
            if (error > most) { most = error; chosen = k; }
        }
        set[i] = (int16_t)chosen;
        number[i] = taken[chosen]++;
    }
    free(taken);
}

/* Of each sample of `length` tokens the document (by its place in `order`) and the offset in it where it begins. */
void samples(int32_t *begin, const int32_t *lengths, const int32_t *order, int64_t length, int64_t count) {
    int64_t at = 0, offset = 0;
    begin[0] = begin[1] = 0;
    for (int64_t i = 1; i <= count; i++) {
        int64_t missing = length + 1;
        while (missing > 0) {
            int64_t rest = (int64_t)lengths[order[at]] - offset;
            missing -= rest;
            if (missing <= 0) offset += missing + rest - 1;
            else { at++; offset = 0; }
        }
        begin[2 * i] = (int32_t)at;
        begin[2 * i + 1] = (int32_t)offset;
    }
}
"""


@cache
def loops() -> ctypes.CDLL:
    """The two loops, compiled by `cc`."""
    folder = Path(tempfile.mkdtemp(prefix="data-start-"))
    (folder / "loops.c").write_text(LOOPS)
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-o", folder / "loops.so", folder / "loops.c"], check=True)
    return ctypes.CDLL(str(folder / "loops.so"))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def blend(weights: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Data set and number there of each sample."""
    sets, numbers = np.empty(samples, np.int16), np.empty(samples, np.int64)
    shares = np.ascontiguousarray(weights / weights.sum(), np.float64)
    loops().blend(
        _pointer(sets), _pointer(numbers), _pointer(shares), ctypes.c_int32(len(shares)), ctypes.c_int64(samples)
    )
    return sets, numbers


@dataclass
class MegatronSource:
    """One data set: its tokens, and the three arrays."""

    tokens: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    begins: np.ndarray
    shuffled: np.ndarray

    @classmethod
    def build(cls, tokens: np.ndarray, length: int, generator: np.random.RandomState) -> "MegatronSource":
        """One epoch."""
        lengths = document_lengths(len(tokens))
        order = np.arange(len(lengths), dtype=np.int32)
        generator.shuffle(order)
        count = (int(lengths.sum(dtype=np.int64)) - 1) // length
        begins = np.empty((count + 1, 2), np.int32)
        loops().samples(
            _pointer(begins), _pointer(lengths), _pointer(order), ctypes.c_int64(length), ctypes.c_int64(count)
        )
        shuffled = np.arange(count, dtype=np.uint32)
        generator.shuffle(shuffled)
        return cls(tokens, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), order, begins, shuffled)

    def sample(self, number: int) -> np.ndarray:
        """The pieces of documents that a sample is made of, end to end."""
        index = int(self.shuffled[number % len(self.shuffled)])
        (first, begin), (last, end) = self.begins[index].tolist(), self.begins[index + 1].tolist()
        pieces = []
        for at in range(first, last + 1):
            document = int(self.order[at])
            start, stop = int(self.offsets[document]), int(self.offsets[document + 1])
            pieces.append(self.tokens[start + begin * (at == first) : start + end + 1 if at == last else stop])
        return np.concatenate(pieces)


@dataclass
class Built:
    """What a method holds, and how to read a sample by it."""

    seconds: float
    bytes: int
    read: Callable[[int], np.ndarray] = field(repr=False)


def megatron(files: list[Path], weights: np.ndarray, tokens: int, length: int) -> Built:
    """Megatron's arrays for a run over `tokens` tokens."""
    loops()
    start, generator = time.process_time(), np.random.RandomState(1234)
    sources = [MegatronSource.build(np.memmap(path, "<u2", "r"), length, generator) for path in files]
    sets, numbers = blend(weights, tokens // length)
    seconds = time.process_time() - start
    held = sets.nbytes + numbers.nbytes
    held += sum(one.order.nbytes + one.begins.nbytes + one.shuffled.nbytes for one in sources)
    return Built(seconds, held, lambda sample: sources[sets[sample]].sample(int(numbers[sample])))


def nanotron(files: list[Path], weights: np.ndarray, tokens: int, length: int) -> Built:
    """nanotron's arrays: one pass over all sources."""
    loops()
    start = time.process_time()
    maps = [np.memmap(path, "<u2", "r") for path in files]
    sizes = np.array([(len(one) - 1) // length for one in maps])
    sets, numbers = blend(weights, tokens // length)
    numbers %= sizes[sets]
    order = np.random.RandomState(1234).permutation(len(sets))
    sets, numbers = sets.astype(np.int64)[order], numbers[order]
    seconds = time.process_time() - start

    def read(sample: int) -> np.ndarray:
        begin = int(numbers[sample]) * length
        return np.array(maps[sets[sample]][begin : begin + length + 1])

    return Built(seconds, sets.nbytes + numbers.nbytes, read)


def document_lengths(tokens: int) -> np.ndarray:
    """Lengths that add up to `tokens`, the same at every call."""
    count = max(1, tokens // DOCUMENT_TOKENS)
    lengths = np.random.default_rng(count).integers(DOCUMENT_TOKENS // 2, 3 * DOCUMENT_TOKENS // 2, count)
    lengths = (lengths * (tokens / lengths.sum())).astype(np.int32)
    lengths[-1] += tokens - int(lengths.sum(dtype=np.int64))
    return lengths


def expected_bytes(method: str, tokens: int, length: int) -> int:
    """Of the arrays, for sizes that are not built."""
    samples, documents = tokens // length, tokens // DOCUMENT_TOKENS
    return 4 * documents + (8 + 4 + 2 + 8) * samples if method == "megatron" else 16 * samples
