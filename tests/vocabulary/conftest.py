"""Proofs read the long adversarial strings at their length where a test asks for that: they take most of the time."""

import pytest

from tsugiki.corpus.adversarial import LONG, STRINGS


@pytest.fixture
def long_strings():
    """To ask for, where a test wants them as they are."""


@pytest.fixture(autouse=True)
def _shorter_strings(request, monkeypatch):
    if "long_strings" not in request.fixturenames:
        for name, text in STRINGS.items():
            if len(text) > LONG // 2:
                monkeypatch.setitem(STRINGS, name, text[:2_000])
