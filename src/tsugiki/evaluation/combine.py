"""From the values of items to the score of a task: a mean, corpus BLEU, bits per byte of all documents together.

Each takes sums over items, [..., k], and how many items were summed, and returns scores [...]: the leading axes are the
resamples of a bootstrap, so that thousands of corpus scores cost one pass.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tsugiki.evaluation.metrics.bleu import bleu_from_statistics
from tsugiki.statistics import Combine, mean


def bleu(sums: NDArray[np.float64], items: int) -> NDArray[np.float64]:
    """Corpus BLEU between 0 and 1 from summed statistics [..., 10]."""
    return bleu_from_statistics(sums)


def bits_per_byte(sums: NDArray[np.float64], items: int) -> NDArray[np.float64]:
    """Bits per byte of all documents together: sums [..., 2] of nats and of UTF-8 bytes. Not between 0 and 1."""
    return sums[..., 0] / math.log(2) / sums[..., 1]


COMBINATIONS: dict[str, Combine] = {"mean": mean, "bleu": bleu, "bits_per_byte": bits_per_byte}
LOWER_IS_BETTER = {"bits_per_byte"}
