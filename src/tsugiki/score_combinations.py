"""From the values of items to the score of a task: a mean, corpus BLEU, bits per byte of all documents together, a
share of all that was asked.

Each takes sums over items, [..., k], and how many items were summed, and returns scores [...]: the leading axes are the
resamples of a bootstrap, so that thousands of corpus scores cost one pass.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tsugiki.statistics import Combine, mean


def bleu(sums: NDArray[np.float64], items: int) -> NDArray[np.float64]:
    """Corpus BLEU in 0..1 from sums of statistics [..., 10].

    The n-th order without a match counts as 2^-n matches; without any match, or without any 4-gram in all the
    predictions, the score is 0.
    """
    length, reference_length = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2:6], sums[..., 6:10]
    defined = (matches > 0).any(-1) & (totals > 0).all(-1)
    smoothed = np.where(matches > 0, matches, 0.5 ** (matches == 0).cumsum(-1))
    precisions = smoothed / np.where(totals > 0, totals, 1)
    brevity = np.exp(np.minimum(0, 1 - reference_length / np.maximum(length, 1)))
    return np.where(defined, brevity * np.exp(np.log(precisions).mean(-1)), 0.0)


def bits_per_byte(sums: NDArray[np.float64], items: int) -> NDArray[np.float64]:
    """Bits per byte of all documents together: sums [..., 2] of nats and of UTF-8 bytes. Not between 0 and 1."""
    return sums[..., 0] / math.log(2) / sums[..., 1]


def share(sums: NDArray[np.float64], items: int) -> NDArray[np.float64]:
    """What was done of all that was asked, where an item asks several things: sums [..., 2] of the two."""
    return sums[..., 0] / sums[..., 1]


COMBINATIONS: dict[str, Combine] = {"mean": mean, "bleu": bleu, "bits_per_byte": bits_per_byte, "share": share}
LOWER_IS_BETTER = {"bits_per_byte"}
