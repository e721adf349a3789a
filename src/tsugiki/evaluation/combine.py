"""From the values of items to the score of a task: a mean, or corpus BLEU from its sufficient statistics.

Each takes sums over items, [..., k], and how many items were summed, and returns scores [...] between 0 and 1: the
leading axes are the resamples of a bootstrap, so that thousands of corpus scores cost one pass.
"""

import numpy as np
from numpy.typing import NDArray

from tsugiki.statistics import Combine, mean


def bleu(sums: NDArray[np.float64], items: int) -> NDArray[np.float64]:
    """Corpus BLEU-4 between 0 and 1 from summed statistics [..., 10], with sacrebleu's default smoothing ("exp").

    The statistics are those of sacrebleu, in its order: length of the outputs, length of the references, matching
    n-grams for n = 1 to 4, n-grams of the outputs for n = 1 to 4. Smoothing: the j-th order without a match counts
    1 / 2^j matches. As there, no unigram match is 0, and an order that the outputs are too short for makes 0.
    """
    lengths, references = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2:6], sums[..., 6:10]
    empty = matches == 0
    smoothed = np.where(empty, 0.5 ** np.cumsum(empty, axis=-1), matches)
    defined = (totals > 0).all(axis=-1) & (matches[..., 0] > 0)
    precisions = np.log(smoothed / np.maximum(totals, 1)).mean(axis=-1)
    brevity = np.minimum(1 - references / np.maximum(lengths, 1), 0)
    return np.where(defined, np.exp(precisions + brevity), 0.0)


COMBINATIONS: dict[str, Combine] = {"mean": mean, "bleu": bleu}
