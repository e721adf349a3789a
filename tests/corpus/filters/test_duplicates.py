"""Which documents go, against a loop that reads them in the keyed order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.filters.duplicates import Duplicate, duplicates, keyed_order

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2**64 - 1), st.integers(0, 4), st.lists(st.integers(0, 9), min_size=3, max_size=3)),
    max_size=40,
)  # fmt: skip


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_the_first_in_the_keyed_order_stays(rows: list[tuple[int, int, int, list[int]]]) -> None:
    rows = list({(order, order2): (order, order2, exact, keys) for order, order2, exact, keys in rows}.values())
    texts, buckets, naive = set(), [set(), set(), set()], []
    for _, _, exact, keys in sorted(rows, key=lambda row: row[:2]):
        near = any(key in bucket for key, bucket in zip(keys, buckets, strict=True))
        naive.append(Duplicate.EXACT if exact in texts else Duplicate.NEAR if near else Duplicate.NONE)
        texts.add(exact)
        for key, bucket in zip(keys, buckets, strict=True):
            bucket.add(key)
    orders, orders2, exacts = (np.array([row[i] for row in rows], np.uint64) for i in range(3))
    columns = (np.array([row[3][bucket] for row in rows], np.uint64) for bucket in range(3))
    assert duplicates(keyed_order(orders, orders2), exacts, columns).tolist() == naive
