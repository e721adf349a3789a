"""The names that a sweep is judged by, against what evaluation will really score."""

import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.known import known_tasks
from tsugiki.experiments.measures import resolve
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.experiments.trials import expand


def resolved(path):
    return resolve(expand(load_sweep(path)), known_tasks)


def test_names_mean_suites_texts_and_tasks(project):
    sources = project.recipe["data"]["sources"]
    sources |= {"web": sources.pop("ja"), "novels": {"path": "ja.jsonl", "weight": 0, "language": "ja"}}
    measures = resolved(
        project.write(
            judge={
                "gain": "suite:ja",
                "keep": {"bits_per_byte:ja": 0.1, "bits_per_byte:novels": 0, "arithmetic": 0.1, "cloze_en": 0.2},
            }
        )
    )
    found = {one.metric.name: one for one in measures.every}
    assert set(found["suite:ja"].tasks) == {"order_ja", "copying_ja", "cloze_ja", "word_problems_ja"}
    assert set(found["bits_per_byte:ja"].tasks) == {"text_web", "text_novels"}
    assert found["bits_per_byte:novels"].tasks == ("text_novels",)
    assert found["arithmetic"].tasks == ("arithmetic",)
    assert [found[name].metric.higher_is_better for name in ("suite:ja", "bits_per_byte:ja", "cloze_en")] == [
        True,
        False,
        True,
    ]
    assert measures.suites == ["quick"]
    assert list(measures.by_name)[:2] == ["suite:ja", "bits_per_byte:ja"]


def test_text_is_scored_by_the_suite_quick_beside_another_suite(project):
    pytest.importorskip("lm_eval")
    project.recipe["evaluation"] = {"suite": "swallow"}
    measures = resolved(project.write(judge={"gain": ["suite:ja", "bits_per_byte:ja"], "keep": {"mgsm": 0.05}}))
    assert measures.suites == ["swallow", "quick"]
    assert {one.metric.name: one.tasks for one in measures.every}["mgsm"] == ("swallow_mgsm_ja",)


def test_an_unknown_name_is_refused_with_the_known_ones(project):
    with pytest.raises(RecipeError) as caught:
        resolved(project.write(judge={"gain": "bits_per_byte:jp", "keep": {"mgsm": 0.1}}))
    first, second = str(caught.value).splitlines()
    assert "judge.gain: bits_per_byte:jp is not measured by this recipe; did you mean bits_per_byte:ja?" in first
    for name in ("suite:ja", "suite:en", "bits_per_byte:en", "cloze_ja"):
        assert name in second


def test_text_that_trials_hold_out_otherwise_cannot_be_judged_by(project):
    path = project.write(trials={"a": {}, "b": {"data.sources.en.held_out": 0.4}})
    with pytest.raises(RecipeError, match="trials a and b hold out other documents of en"):
        resolved(path)
    project.recipe["data"]["sources"]["code"] = {"path": "code.jsonl", "weight": 0, "language": "code"}
    sources = {name: project.recipe["data"]["sources"][name] for name in ("ja", "en")}
    path = project.write(trials={"a": {}, "b": {"data.sources": sources}}, judge={"gain": "bits_per_byte:code"})
    with pytest.raises(RecipeError, match="trial b has no source code"):
        resolved(path)


def test_the_tasks_of_the_suites_are_those_that_lm_eval_finds(project):
    pytest.importorskip("lm_eval")
    from tsugiki.evaluation.harness import Harness
    from tsugiki.evaluation.suites import SUITES, full_names

    recipe = expand(load_sweep(project.write())).base.recipe
    for suite in SUITES:
        harness = Harness(suite, None, own=None, shots=None)
        known = {task.task: task for task in known_tasks(recipe, suite)}
        assert set(known) == set(full_names(SUITES[suite], None, harness.names))
        assert all(harness.language(name) == task.language for name, task in known.items())
