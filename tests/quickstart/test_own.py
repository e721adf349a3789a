"""A quickstart on one's own files: what the minutes and the measured speed decide."""

import pytest

from tsugiki.errors import RecipeError
from tsugiki.quickstart import own
from tsugiki.quickstart.corpora import Corpus
from tsugiki.quickstart.own import flops_per_token, make_plan, parameters
from tsugiki.quickstart.recipes import EMBEDDED

CORPORA = [
    Corpus("ja-books", ["x"], "ja", "target", 1_600, 58_000_000, 0.02),
    Corpus("en-books", ["y"], "en", "replay", 1_700, 33_000_000, 0.02),
    Corpus("code", ["z"], "other", "other", 500, 9_000_000, 0.06),
]


def plan_for(minutes, speed):
    return make_plan(CORPORA, own._first_guess(minutes), speed, 60.0 * minutes)


def test_more_time_or_speed_gives_a_larger_model_or_more_steps():
    plans = [plan_for(10, 4_000), plan_for(30, 4_000), plan_for(30, 16_000), plan_for(300, 16_000)]
    work = [flops_per_token(p) * (p.base_steps + p.continued_steps + p.without_replay_steps) for p in plans]
    assert work == sorted(work)
    assert [parameters(p) for p in plans] == sorted(parameters(p) for p in plans)
    assert parameters(plans[-1]) > 4 * parameters(plans[0])


@pytest.mark.parametrize("minutes", [15, 30, 120])
@pytest.mark.parametrize("speed", [2_000, 8_000])
def test_the_parts_fit_into_the_time(minutes, speed):
    plan = plan_for(minutes, speed)
    speed_of_chosen = speed * flops_per_token(own._first_guess(minutes)) / flops_per_token(plan)
    steps = plan.base_steps + plan.continued_steps + plan.without_replay_steps
    training = steps * plan.batch * plan.sequence_length / speed_of_chosen
    assert 0.55 * 60 * minutes < training < 60 * minutes


def test_too_little_time_is_an_error_that_says_so():
    with pytest.raises(RecipeError, match=r"too few at 300 tokens/s; give --minutes more"):
        plan_for(4, 300)


def test_parameters_are_those_of_the_model():
    from transformers import AutoConfig, AutoModelForCausalLM

    from tsugiki.quickstart.base import architecture
    from tsugiki.training.flops import flops_per_token as counted

    for plan in (EMBEDDED, plan_for(30, 8_000)):
        config = architecture(
            plan.vocabulary, hidden_size=plan.hidden_size, layers=plan.layers, heads=plan.heads,
            sequence_length=plan.sequence_length,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
        assert parameters(plan) == pytest.approx(model.num_parameters(), rel=0.01)
        assert flops_per_token(plan) == pytest.approx(counted(model, model.config, plan.sequence_length), rel=0.01)


def test_a_directory_with_another_quickstart_is_refused(tmp_path):
    (tmp_path / "base.yaml").write_text("")
    with pytest.raises(RecipeError, match="another quickstart; give another --run-dir"):
        own.own_corpora_and_plan(tmp_path, tmp_path / "texts", 30, None, print)


def test_the_same_command_continues_and_another_one_is_refused(tmp_path):
    from dataclasses import asdict

    from tsugiki.files import write_json

    kept = {
        "question": {"corpora": "texts", "minutes": 30.0},
        "corpora": [asdict(c) for c in CORPORA],
        "plan": asdict(EMBEDDED),
    }
    write_json(tmp_path / "plan.json", kept)
    from pathlib import Path

    assert own.own_corpora_and_plan(tmp_path, Path("texts"), 30.0, None, print) == (CORPORA, EMBEDDED)
    with pytest.raises(RecipeError, match="holds a quickstart on texts of 30 minutes"):
        own.own_corpora_and_plan(tmp_path, Path("texts"), 60.0, None, print)
