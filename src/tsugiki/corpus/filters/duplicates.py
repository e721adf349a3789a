"""The filters over all documents of a source: which of them stand before, exactly or nearly.

Documents are compared column by column: the hash of the text, then one bucket after another. A document goes where an
earlier one *in the keyed order* has the same value, whether or not that one stays itself; so what stays does not depend
on who read what, and the first of its likes stays. In memory are one column and the order: 41 bytes a document at most,
41 MB a million documents, however many buckets there are.
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


def duplicates(
    order: NDArray[np.int64], exact: NDArray[np.uint64], keys: Iterable[NDArray[np.uint64]]
) -> NDArray[np.uint8]:
    """A `Duplicate` for each document in the keyed order.

    Args:
        order: the documents in the keyed order, as places in the columns.
        exact: the hashes of the texts.
        keys: one bucket after another, with the key of each document.
    """
    found = np.zeros(len(order), np.uint8)
    for kind, columns in ((Duplicate.EXACT, [exact]), (Duplicate.NEAR, keys)):
        for column in columns:
            again = not_first(column[order])
            found[again & (found == Duplicate.NONE)] = kind
    return found


def keyed_order(order: NDArray[np.uint64], order2: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places of documents in the order of both words."""
    return np.lexsort((order2, order))


def not_first(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Of each value whether an equal one stands before it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = np.zeros(len(values), bool)
    again[order[1:]] = ordered[1:] == ordered[:-1]
    return again
