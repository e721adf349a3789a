"""Bits per byte of compressors, against figures worked out by hand or by the tool itself."""

import math
import random
import shutil
import subprocess

import pytest

from tsugiki.corpus.yardsticks import unigram_bits_per_byte, xz_bits_per_byte


def test_unigram_by_hand():
    # a is seen 3 times, b once; with one more for each of 256 values: a 4/260, b 2/260, c 1/260.
    expected = (2 * math.log2(260 / 4) + math.log2(260 / 2) + math.log2(260 / 1)) / 4
    assert unigram_bits_per_byte(b"aaab", b"aabc") == pytest.approx(expected)


def test_unigram_without_training_text_costs_eight_bits():
    assert unigram_bits_per_byte(b"", bytes(range(256))) == pytest.approx(8)


def test_unigram_approaches_the_entropy_of_its_source():
    assert unigram_bits_per_byte(b"abcd" * 100_000, b"dcba") == pytest.approx(2, abs=0.01)


def test_xz_pays_almost_nothing_for_what_it_has_seen():
    text = random.Random(1).randbytes(20_000)
    assert xz_bits_per_byte(text, text) < 0.2
    assert xz_bits_per_byte(b"", text) == pytest.approx(8, abs=0.05)
    assert xz_bits_per_byte(random.Random(2).randbytes(20_000), text) == pytest.approx(8, abs=0.05)


@pytest.mark.skipif(shutil.which("xz") is None, reason="the xz program is not installed")
def test_xz_counts_what_the_program_counts():
    words = ["mori", "ki", "tsugu", "eda", "ne", "hana", "mi", "no", "wo", "ga"]
    training, held_out = (" ".join(random.Random(seed).choices(words, k=4000)).encode() for seed in (1, 2))

    def size(text: bytes) -> int:
        return len(subprocess.run(["xz", "-9e", "-c"], input=text, capture_output=True, check=True).stdout)

    by_program = 8 * (size(training + held_out) - size(training)) / len(held_out)
    assert xz_bits_per_byte(training, held_out) == pytest.approx(by_program, abs=0.01)


@pytest.mark.parametrize("yardstick", [xz_bits_per_byte, unigram_bits_per_byte])
def test_no_held_out_text_is_an_error_and_not_a_zero(yardstick):
    with pytest.raises(ValueError, match="no held-out text"):
        yardstick(b"text", b"")
