"""Optional packages come when they are needed, or a message says how to get them."""

import sys

import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.extras import need


def test_a_module_that_is_there_is_imported():
    assert need("json.decoder") is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["sacrebleu", "sacrebleu.metrics"])
def test_the_missing_extra_is_named_with_its_install_command(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.delitem(sys.modules, "sacrebleu.metrics", raising=False)
    with pytest.raises(RecipeError, match=r"^sacrebleu is needed .*pip install 'tsugiki\[eval\]'$"):
        need(module)
