"""What windows cost is what a count over sets of tokens gives."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.corpus.store import DOCUMENT, TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.window_figures import cut_documents


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 15), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 40))
def test_a_document_is_cut_where_no_window_holds_all_of_it(tmp_path, lengths, length, shard_tokens):
    writer = StoreWriter(tmp_path / "s", 100, shard_tokens=shard_tokens)
    writer.add_documents(np.zeros(sum(lengths)), np.array(lengths), np.zeros(len(lengths), DOCUMENT))
    store = TokenStore(tmp_path / "s", writer.close())
    ends = np.cumsum(lengths)
    windows = [set(range(w * length, w * length + length + 1)) for w in range(int(ends[-1]) // length + 1)]
    documents = [set(range(end - size, end)) for end, size in zip(ends.tolist(), lengths, strict=True)]
    whole = sum(any(document <= window for window in windows) for document in documents)
    assert cut_documents(store, length) == (len(documents) - whole) / len(documents)


def test_of_many_documents_some_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("tsugiki.corpus.window_figures.DOCUMENTS_AT_A_TIME", 50)
    lengths = np.random.default_rng(1).integers(10, 400, 2000)
    writer = StoreWriter(tmp_path / "s", 100, shard_tokens=50_000)
    writer.add_documents(np.zeros(lengths.sum()), lengths, np.zeros(2000, DOCUMENT))
    store = TokenStore(tmp_path / "s", writer.close())
    sampled = cut_documents(store, 512)
    monkeypatch.setattr("tsugiki.corpus.window_figures.MOST_BLOCKS", 1000)
    assert abs(sampled - cut_documents(store, 512)) < 0.12  # four standard errors of 200 documents
