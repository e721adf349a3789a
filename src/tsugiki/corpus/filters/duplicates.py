"""The filter `duplicates`: which documents of a source stand before, exactly or nearly.

Documents are compared column by column, in the keyed order: the hash of the text, then one bucket after another. A
document goes where an earlier one has the same value, whether or not that one stays itself; so what stays does not
depend on who read what, and the first of its likes stays. In memory are one column and its order: at most 40 bytes a
document, 40 MB a million documents, however many buckets there are.
"""

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Duplicate(IntEnum):
    """What a document is."""

    NONE = 0
    EXACT = 1
    NEAR = 2


def duplicates(exact: NDArray[np.uint64], keys: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint8]:
    """A `Duplicate` for each document.

    Args:
        exact: the hashes of the texts, in the keyed order.
        keys: one bucket after another, with the key of each document.
    """
    found = np.zeros(len(exact), np.uint8)
    for kind, columns in ((Duplicate.EXACT, [exact]), (Duplicate.NEAR, keys)):
        for column in columns:
            found[not_first(column) & (found == Duplicate.NONE)] = kind
    return found


def not_first(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Of each value whether an equal one stands before it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = np.zeros(len(values), bool)
    again[order[1:]] = ordered[1:] == ordered[:-1]
    return again
