"""Figures of a chat source, counted by hand."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from made_conversations import conversation, write_conversations

from tsugiki.corpus.conversation_figures import PackFigures, length_figures
from tsugiki.corpus.pack_table import make_packs


def test_figures_of_three_conversations_by_hand(tmp_path):
    made = [conversation(line, size, trained=size // 2) for line, size in enumerate((20, 12, 6), start=1)]
    store = write_conversations(tmp_path, made)
    make_packs(store, 32, divide=False)
    lengths = length_figures(Counter(store.lengths.tolist()), 32)
    figures = PackFigures(32, store.window_count(32), store.document_count, store.token_count, store.trained_tokens)
    assert (figures.packs, figures.conversations, figures.tokens) == (2, 3, 38)
    assert (lengths.conversations, lengths.tokens, lengths.median, lengths.longest, lengths.over_long) == (
        3,
        38,
        12,
        20,
        0,
    )
    assert lengths.histogram == [(16, 2), (32, 1)]
    assert figures.trained_share == 19 / 38
    assert figures.padding_share == 1 - 38 / 64
    assert figures.padding_share_unpacked == 1 - 38 / 96
    assert str(figures) == (
        "3 conversations of 38 tokens (50.0% trained) in 2 packs of 32: 40.62% padding "
        "(60.4% with a conversation a window)"
    )


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), max_size=30), st.integers(1, 100))
def test_each_conversation_is_in_one_bar_and_the_window_is_an_edge(lengths, window):
    figures = length_figures(Counter(lengths), window)
    assert figures.over_long == sum(length > window for length in lengths)
    below = 0
    for bound, count in figures.histogram:
        assert count == sum(below < length <= bound for length in lengths)
        below = bound
    assert sum(count for _, count in figures.histogram) == len(lengths)
    assert window in dict(figures.histogram)
