"""The header of the suite quick says what was done, and nothing that was asked for is passed over."""

import pytest
from evaluation_models import Naive, Quiet

from tsugiki.errors import RecipeError
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings, evaluate

TEXT = "The train left at seven."


def result_of(model, output, texts=None, **settings):
    ((_, result),) = evaluate(
        [find_model(str(model))], Settings(suite="quick", limit=1, **settings), output, [].append, Quiet(), texts or {}
    )
    return result


@pytest.mark.parametrize(("add_bos", "first"), [(None, 1), (True, 1), (False, 2)])
def test_texts_begin_with_bos_as_the_header_says(add_bos, first, language_model, tmp_path):
    result = result_of(language_model(), tmp_path, {"notes.txt": ("en", [TEXT])}, add_bos=add_bos)
    naive = Naive(language_model())
    ids = [first, *naive.encode(TEXT)]
    logprobs = naive.logits(ids)[:-1].log_softmax(-1)
    expected = -sum(float(logprobs[place, token]) for place, token in enumerate(ids[1:]))
    assert result.tasks["text_notes.txt"].values[0, 0] == pytest.approx(expected, rel=1e-5)
    assert result.header["add_bos"] == (first == 1)


def test_a_backend_that_the_probes_do_not_use_is_refused(language_model, tmp_path):
    with pytest.raises(RecipeError, match="leave out --backend"):
        result_of(language_model(), tmp_path, backend="vllm")
