"""A model whose weights are no numbers gets no score: every choice would be as likely, every text the first token."""

import pytest
import torch
from evaluation_models import Quiet
from safetensors.torch import load_file

from tsugiki.errors import ModelError
from tsugiki.evaluation import run
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings
from tsugiki.model.cached import CachedModel, Continuation, Prompt
from tsugiki.model.load import read_pretrained


@pytest.mark.parametrize(("suite", "tasks"), [("default", ["openbookqa"]), ("default", ["gsm8k"]), ("quick", None)])
def test_a_diverged_model_is_refused_instead_of_scored(suite, tasks, diverged, official_data, tmp_path):
    if suite == "default":
        pytest.importorskip("lm_eval")
    settings = Settings(suite=suite, tasks=tasks, data_dir=official_data, limit=2)
    ((_, result),) = run.evaluate([find_model(str(diverged))], settings, tmp_path, [].append, Quiet(), {})
    assert result.tasks == {}
    (failure,) = result.failures
    assert isinstance(failure, ModelError)
    assert "not finite" in str(failure)


@pytest.mark.parametrize("plain", [False, True])
def test_logits_that_are_no_numbers_are_never_an_answer(plain, diverged, language_model):
    """Also where the model was sound when it was looked at first."""
    hf, _ = read_pretrained(language_model(), dtype=torch.float32)
    model = CachedModel(hf, batch_tokens=64, stop_ids=frozenset())
    assert model.why_plain is None
    if plain:
        model.why_plain = "the test says so"
    answers = []
    requests = [Prompt([5, 6, 7], 3, lambda new: False), Prompt([8, 9], 3, lambda new: False)]
    model.generate(requests, lambda i, new: answers.append(new))
    assert len(answers) == 2
    hf.load_state_dict(load_file(diverged / "model.safetensors"), strict=False)
    with pytest.raises(ModelError, match="not finite"):
        model.generate(requests, lambda i, new: answers.append(new))
    with pytest.raises(ModelError, match="not finite"):
        model.score([Continuation([5, 6], [7])], lambda i, found: answers.append(found))
    assert len(answers) == 2
