"""The recipes of a sweep's trials: how long they are, what they share, that each is a recipe as any other."""

import pytest

from tsugiki.errors import RecipeError
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.experiments.trials import expand, write_recipes
from tsugiki.recipe_file import load_recipe

VOCABULARY = {"language": "ja", "add": 64}


def plan_of(path):
    return expand(load_sweep(path))


def test_all_trials_run_at_one_seed_before_any_runs_at_the_next(project):
    plan = plan_of(project.write(seeds=2))
    assert [(trial.number, trial.name, trial.seed) for trial in plan.trials] == [
        (0, "low", 7), (1, "high", 7), (2, "low", 8), (3, "high", 8)
    ]  # fmt: skip
    assert [trial.recipe.seed for trial in plan.trials] == [7, 7, 8, 8]
    assert len({trial.folder for trial in plan.trials}) == 4
    assert str(plan.trials[0].folder) == "runs/sweep/low-seed-7"


def test_a_probe_stops_the_full_schedule_and_changes_nothing_else_of_it(project):
    for trial in plan_of(project.write(probe={"steps": 5})).trials:
        training = trial.recipe.training
        assert (trial.steps, training.max_steps, training.stop_after_steps, training.warmup_steps) == (5, 12, 5, 4)
    for path in (project.write(probe={"steps": 12}), project.write()):
        assert {(one.steps, one.recipe.training.stop_after_steps) for one in plan_of(path).trials} == {(12, None)}


def test_a_compressed_schedule_shortens_its_parts_alike_and_says_so(project):
    project.recipe["training"] |= {"lr_scheduler": "wsd", "decay_steps": 6, "max_steps": None, "max_tokens": 12 * 16}
    project.recipe["data"]["stages"] = [{"start_step": 8, "weights": {"ja": 1, "en": 1}}]
    plan = plan_of(project.write(probe={"steps": 6, "schedule": "compressed"}))
    training = plan.trials[0].recipe.training
    assert (training.max_steps, training.max_tokens, training.stop_after_steps) == (6, None, None)
    assert (training.warmup_steps, training.decay_steps) == (2, 3)
    assert [stage.start_step for stage in plan.trials[0].recipe.data.stages] == [4]
    assert plan.scaled == (
        "the schedule of 12 steps is pressed into 6", "warmup_steps from 4 to 2", "decay_steps from 6 to 3",
        "the stage that starts at step 8 starts at 4",
    )  # fmt: skip


def test_epochs_are_refused_where_they_stand_with_what_to_write_instead(project):
    said = r": training\.num_epochs: .*give training\.max_steps instead \(after `tsugiki prepare RECIPE`"
    epochs = {"training.num_epochs": 2, "training.max_steps": None}
    for probe in (None, {"steps": 5}):
        path = project.write(trials={"a": {}, "b": epochs}, probe=probe)
        with pytest.raises(RecipeError, match=path.name + said):
            plan_of(path)
    project.recipe["training"] |= {"num_epochs": 2, "max_steps": None}
    path = project.write()
    with pytest.raises(RecipeError, match=load_sweep(path).recipe_path.name + said) as caught:
        plan_of(path)
    assert len(str(caught.value).splitlines()) == 1  # once for all trials
    in_steps = {"training.num_epochs": None, "training.max_steps": 12}
    assert [trial.steps for trial in plan_of(project.write(trials={"a": in_steps})).trials] == [12]


def test_stores_are_shared_by_all_and_a_vocabulary_by_the_trials_of_its_seed(project):
    project.recipe["vocabulary"] = VOCABULARY
    plan = plan_of(project.write(seeds=2))
    assert len({trial.recipe.prepared_dir for trial in plan.trials}) == 1
    by_seed = {seed: {one.recipe.vocabulary_dir for one in plan.trials if one.seed == seed} for seed in (7, 8)}
    assert all(len(places) == 1 for places in by_seed.values())  # new rows are drawn by the seed, for all rates alike
    assert by_seed[7] != by_seed[8]
    assert [trial.title for trial in plan.makers(plan.trials)] == ["low, seed 7", "low, seed 8"]


def test_what_would_be_prepared_otherwise_lies_elsewhere_and_other_sources_beside(project):
    code = {"path": "code.jsonl", "weight": 5, "language": "code"}
    path = project.write(
        trials={"a": {}, "b": {"data.sources.code": code}, "c": {"data.sources.en.held_out": 0.5}, "d": {"vocabulary": VOCABULARY}},
        judge={"gain": ["bits_per_byte:ja"]},
    )  # fmt: skip
    places = {trial.name: trial.recipe.prepared_dir for trial in plan_of(path).trials}
    assert places["a"] == places["b"]
    assert len({places["a"], places["c"], places["d"]}) == 3


def test_conversations_that_would_be_others_lie_elsewhere(project):
    project.recipe["data"]["sources"]["talk"] = {"path": "talk.jsonl", "weight": 1, "format": "chat"}
    project.recipe["data"]["chat"] = {"template": "chatml"}
    (project.folder / "talk.jsonl").write_text("{}")
    changes = {
        "a": {}, "weight": {"data.sources.talk.weight": 2}, "all": {"data.sources.talk.loss_on": "all"},
        "template": {"data.chat.template": "qwen"}, "longer": {"data.sequence_length": 16},
        "tokens": {"data.chat.add_template_tokens": True},
    }  # fmt: skip
    places = {trial.name: trial.recipe.prepared_dir for trial in plan_of(project.write(trials=changes)).trials}
    assert places["a"] == places["weight"]
    assert len(set(places.values())) == 5


def test_a_folder_that_the_recipe_names_serves_the_trials_that_it_fits(project):
    project.recipe["vocabulary"] = {**VOCABULARY, "output_dir": "mine/vocabulary"}
    project.recipe["data"]["prepared_dir"] = "mine/data"
    plan = plan_of(project.write(seeds=2, trials={"a": {}, "b": {"vocabulary.add": 128}}))
    places = {
        (one.name, one.seed): (str(one.recipe.prepared_dir), str(one.recipe.vocabulary_dir)) for one in plan.trials
    }
    assert places["a", 7] == ("mine/data", "mine/vocabulary")
    assert places["a", 8][0] == "mine/data"
    assert places["a", 8][1].startswith("runs/sweep/shared/vocabulary/")
    assert not {place for key, both in places.items() if key[0] == "b" for place in both} & {
        "mine/data",
        "mine/vocabulary",
    }


def test_a_trials_recipe_is_written_as_any_other_and_reads_back_equal(project):
    plan = plan_of(project.write(probe={"steps": 5}))
    write_recipes(plan)
    for trial in (*plan.trials, plan.base):
        read = load_recipe(trial.beside(".yaml"))
        assert read.training == trial.recipe.training
        assert read.evaluation == trial.recipe.evaluation
        assert read.prepared_dir == trial.recipe.prepared_dir
        assert (read.run_dir, read.seed) == (trial.recipe.run_dir, trial.recipe.seed)
    assert plan.base.recipe.evaluation.base == "only"
    assert all(trial.recipe.evaluation.base is False for trial in plan.trials)


def test_the_base_is_asked_for_the_sources_of_the_trial_that_has_most(project):
    code = {"path": "code.jsonl", "weight": 5, "language": "code"}
    plan = plan_of(project.write(trials={"a": {}, "b": {"data.sources.code": code}}))
    assert set(plan.base.recipe.data.sources) == {"ja", "en", "code"}


def test_a_trial_that_has_begun_with_another_recipe_is_not_gone_on_with(project):
    plan = plan_of(project.write(trials={"a": {"training.learning_rate": 1e-3}}))
    write_recipes(plan)
    plan.trials[0].folder.mkdir()
    with pytest.raises(RecipeError, match=r"a-seed-7 has begun with another recipe: training.learning_rate: 0.001 in"):
        write_recipes(plan_of(project.write(trials={"a": {"training.learning_rate": 2e-3}})))
    longer = plan_of(project.write(trials={"a": {"training.learning_rate": 1e-3}}, probe={"steps": 5}))
    write_recipes(longer)  # how far it runs may change
    assert load_recipe(longer.trials[0].beside(".yaml")).training.stop_after_steps == 5
