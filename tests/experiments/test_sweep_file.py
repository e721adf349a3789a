"""What a sweep file says, and every way in which it can be wrong, by line."""

import pytest

from tsugiki.errors import RecipeError
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.experiments.trials import expand


def problems(path) -> str:
    with pytest.raises(RecipeError) as caught:
        expand(load_sweep(path))
    return str(caught.value)


def test_a_grid_has_a_trial_for_every_combination(project):
    path = project.write(
        trials=None, vary={"training.learning_rate": [1e-4, 0.003], "training.precision": ["fp32", "pure-bf16"]}
    )
    plan = expand(load_sweep(path))
    found = {
        trial.name: (trial.recipe.training.learning_rate, trial.recipe.training.precision) for trial in plan.trials
    }
    assert found == {
        "learning_rate-1e-4_precision-fp32": (1e-4, "fp32"),
        "learning_rate-1e-4_precision-pure-bf16": (1e-4, "pure-bf16"),
        "learning_rate-3e-3_precision-fp32": (3e-3, "fp32"),
        "learning_rate-3e-3_precision-pure-bf16": (3e-3, "pure-bf16"),
    }


def test_a_section_in_a_trial_changes_the_keys_that_it_names_only(project):
    path = project.write(trials={"a": {"training": {"warmup_steps": 2}, "data.sources.ja": {"weight": 5}}})
    (trial,) = expand(load_sweep(path)).trials
    assert trial.recipe.training.warmup_steps == 2
    assert trial.recipe.training.max_steps == 12
    assert trial.recipe.data.sources["ja"].weight == 5
    assert trial.recipe.data.sources["ja"].language == "ja"


def test_unknown_keys_are_named_with_the_nearest_and_their_line(project):
    path = project.write(probe={"step": 3}, seds=2, judge={"gains": "x", "keep": {"suite:en": -1}})
    text = problems(path)
    lines = (project.folder / path).read_text().splitlines()

    def line(key: str) -> int:
        return next(number for number, text in enumerate(lines, 1) if text.strip().startswith(f"{key}:"))

    assert f"sweep.yaml:{line('step')}: probe.step: unknown key; did you mean steps?" in text
    assert f"sweep.yaml:{line('seds')}: seds: unknown key; did you mean seeds?" in text
    assert f"sweep.yaml:{line('gains')}: judge.gains: unknown key; did you mean gain?" in text
    assert "judge.keep.suite:en: must be at least 0, not -1" in text
    assert "missing" not in text  # a misspelt key is told once


def test_every_trials_recipe_is_checked_before_any_work(project):
    path = project.write(
        trials={"a": {"training.learning_rat": 1e-3}, "b": {"training.min_lr": 1}, "c": {"training.max_steps": "x"}}
    )
    text = problems(path)
    assert "sweep.yaml:4: trial a: training.learning_rat: unknown key; did you mean learning_rate?" in text
    assert "sweep.yaml:6: trial b: training.min_lr: 1 is above learning_rate 0.001: the rate would rise" in text
    assert "trial c: training.max_steps: must be a whole number" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 3), ("run_dir", "x"), ("training.stop_after_steps", 3), ("evaluation.limit", 3), ("evaluation", None)],
)
def test_a_trial_cannot_change_what_all_must_share_or_the_sweep_sets(project, key, value):
    assert f"trial a: {key}: no trial may change this" in problems(project.write(trials={"a": {key: value}}))


def test_trials_need_one_source_of_names_that_differ(project):
    assert "give one of trials (named) and vary" in problems(project.write(trials=None))
    assert "give one of trials (named) and vary" in problems(project.write(vary={"seed": [1]}))
    assert "two trials have this name" in problems(project.write(trials={"a": {}, "A": {}}))
    assert "a source is named by" in problems(project.write(trials={"a/b": {}}))


def test_a_probe_longer_than_the_run_and_a_recipe_that_measures_nothing_are_refused(project):
    assert "probe.steps: 13 is more than the 12 steps of trial low" in problems(project.write(probe={"steps": 13}))
    project.recipe["evaluation"] = None
    assert "has no section evaluation" in problems(project.write())
    project.recipe |= {
        "evaluation": {"suite": "quick"},
        "model": {"architecture": {"model_type": "mistral"}, "tokenizer": "base"},
    }
    assert "give model.name_or_path" in problems(project.write())
