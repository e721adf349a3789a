"""Where a model's answers lie: in one place, whatever else is evaluated beside it."""

import shutil

import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Quiet

from tsugiki.evaluation import run
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings


def test_a_model_beside_another_of_its_name_finds_its_answers_again(language_model, official_data, tmp_path):
    models = [tmp_path / "one/model", tmp_path / "other/model"]
    shutil.copytree(language_model(), models[0])
    shutil.copytree(language_model("llama"), models[1])
    named = [find_model(str(model)) for model in models]
    settings = Settings(tasks=["openbookqa"], data_dir=official_data, limit=2)

    def evaluate(count):
        progress = Quiet()
        found = run.evaluate(named[:count], settings, tmp_path / "results", [].append, progress, {})
        return found, sum(requests for _, requests, _ in progress.begun)

    ((folder, alone),), first = evaluate(1)
    both, second = evaluate(2)
    assert first == second == 8  # four choices of two items: the first model was not asked again
    assert both[0][0] == folder
    assert both[1][0] != folder
    assert alone.name == "model"
    assert len({result.name for _, result in both}) == 2  # told apart in the table
