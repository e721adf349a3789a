"""Which documents go, against a loop that reads them in the keyed order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.filters.duplicates import Duplicate, duplicates

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.lists(st.integers(0, 9), min_size=3, max_size=3)),
    max_size=40,
)


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_the_first_in_the_keyed_order_stays(rows: list[tuple[int, list[int]]]) -> None:
    texts, buckets, naive = set(), [set(), set(), set()], []
    for exact, keys in rows:
        near = any(key in bucket for key, bucket in zip(keys, buckets, strict=True))
        naive.append(Duplicate.EXACT if exact in texts else Duplicate.NEAR if near else Duplicate.NONE)
        texts.add(exact)
        for key, bucket in zip(keys, buckets, strict=True):
            bucket.add(key)
    columns = (np.array([keys[bucket] for _, keys in rows], np.uint64) for bucket in range(3))
    assert duplicates(np.array([exact for exact, _ in rows], np.uint64), columns).tolist() == naive
