"""ROUGE-2 on tokens that the caller gives, since the number is as good as the tokens (see `words.py`).

Published Japanese tables count the subwords of the evaluated model, so that a coarser vocabulary lowers the score.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise


def rouge2(prediction: Sequence[Hashable], reference: Sequence[Hashable]) -> float:
    """F1 over the bigrams in common, 0..1; 0 where either side has no bigram. Equal to rouge-score's `rouge2`."""
    predicted, expected = Counter(pairwise(prediction)), Counter(pairwise(reference))
    return 2 * (predicted & expected).total() / max(predicted.total() + expected.total(), 1)
