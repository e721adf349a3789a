"""How many threads: as measured, and quickly."""

import pytest
import torch

from tsugiki.quickstart import threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("one", "two", "chosen"), [(1.0, 0.6, 2), (1.0, 0.9, 1), (1.0, 9.0, 1)])
def test_more_threads_only_where_they_are_clearly_faster(one, two, chosen, two_threads, monkeypatch):
    monkeypatch.setattr(threads, "_time", lambda *_: {1: one, 2: two}[torch.get_num_threads()])
    assert threads.choose_threads() == chosen == torch.get_num_threads()


def test_one_thread_stays_one(two_threads):
    torch.set_num_threads(1)
    assert threads.choose_threads() == 1
