"""Proofs read the long adversarial strings at their length where a test asks for them."""

import pytest
from shorter_strings import SHORTER

from tsugiki.corpus.adversarial import STRINGS


@pytest.fixture
def long_strings():
    """To ask for, where a test wants them as they are."""


@pytest.fixture(autouse=True)
def _shorter_strings(request, monkeypatch):
    if "long_strings" not in request.fixturenames:
        for name, text in SHORTER.items():
            monkeypatch.setitem(STRINGS, name, text)
