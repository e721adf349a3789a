"""The recipes that people start from are valid, and the published run is stated as it was published."""

import shutil
from pathlib import Path

import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.known import known_tasks
from tsugiki.experiments.attribution_file import load_attribution
from tsugiki.experiments.measures import resolve
from tsugiki.experiments.sweep_file import load_sweep
from tsugiki.experiments.trials import expand
from tsugiki.init import KINDS
from tsugiki.recipe_checks import launch_errors
from tsugiki.recipe_file import load_recipe

ROOT = Path(__file__).parents[1]
SWEEPS = sorted(ROOT.glob("recipes/*-sweep.yaml"))
ATTRIBUTIONS = sorted(ROOT.glob("recipes/*-attribution.yaml"))
RECIPES = sorted({*ROOT.glob("recipes/*.yaml")} - {*SWEEPS, *ATTRIBUTIONS})
EXPERIMENTS = {path: load_sweep for path in sorted(ROOT.glob("experiments/*/*.yaml")) if "trials:" in path.read_text()}
EXPERIMENTS |= {ROOT / f"experiments/addition/{name}.yaml": load_attribution for name in ("factors", "transfer")}
EXPERIMENT_RECIPES = sorted({*ROOT.glob("experiments/*/*.yaml")} - {*EXPERIMENTS})
TEMPLATES = sorted(ROOT.glob("src/tsugiki/templates/*/*.yaml"))


def test_there_are_recipes_and_templates():
    names = {path.stem for path in RECIPES}
    assert names >= {
        "swallow-ms-7b",
        "swallow-mx-8x7b",
        "mistral-7b-one-gpu",
        "small-cpu",
        "smollm2-135m-ja",
        "swallow-ms-7b-instruct",
    }
    assert {path.parent.name for path in TEMPLATES} == set(KINDS)


@pytest.mark.parametrize(
    "path", RECIPES + EXPERIMENT_RECIPES + TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_published_recipe_validates(path):
    load_recipe(path, check_files=False)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_missing_inputs_of_published_recipes_are_only_missing_inputs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    for line in str(caught.value).splitlines():
        assert ": no file matches " in line or ": no such f" in line


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_published_sweep_validates_and_is_measured(path):
    plan = expand(load_sweep(path, check_files=False))
    measures = resolve(plan, known_tasks)
    assert len(plan.trials) == len(plan.file.variants) * plan.file.section.seeds
    assert {"bits_per_byte:ja", "suite:ja", "suite:en"} <= {one.metric.name for one in measures.every}


@pytest.mark.parametrize("path", ATTRIBUTIONS, ids=lambda path: path.stem)
def test_every_published_attribution_validates_and_is_measured(path):
    plan = expand(load_attribution(path, check_files=False))
    measures = resolve(plan, known_tasks)
    assert len(plan.trials) == len(plan.file.variants) * plan.file.section.seeds
    assert list(measures.by_name) == plan.file.asked["metrics"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_validates_and_is_measured(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "experiments/addition/tasks", "data/tasks")
    plan = expand(EXPERIMENTS[path](path, check_files=False))
    measures = resolve(plan, known_tasks)
    assert len(plan.trials) == len(plan.file.variants) * plan.file.section.seeds
    assert list(measures.by_name) == [name for names in plan.file.asked.values() for name in names]


def test_swallows_sweep_is_stated_as_they_made_it():
    plan = expand(load_sweep(ROOT / "recipes/swallow-ms-7b-sweep.yaml", check_files=False))
    rates = {trial.name: (trial.recipe.training.learning_rate, trial.recipe.training.min_lr) for trial in plan.trials}
    assert rates == {
        "lr-1e-4": (1e-4, 3.3e-6), "lr-6e-5": (6e-5, 2e-6), "lr-2e-5": (2e-5, 6.6e-7), "lr-1e-6": (1e-6, 1e-6)
    }  # fmt: skip
    for trial in plan.trials:
        training = trial.recipe.training
        assert (training.max_steps, training.stop_after_steps, training.warmup_steps) == (25_000, 2000, 1000)
    (mgsm,) = (one for one in resolve(plan, known_tasks).every if one.metric.name == "mgsm")
    assert mgsm.tasks == ("swallow_mgsm_ja",)


def test_swallow_ms_is_stated_as_published():
    recipe = load_recipe(ROOT / "recipes/swallow-ms-7b.yaml", check_files=False)
    training, sources = recipe.training, recipe.data.sources
    assert recipe.model.name_or_path == "mistralai/Mistral-7B-v0.1"
    assert recipe.data.sequence_length == 4096
    assert (training.global_batch_size, training.micro_batch_size, training.max_steps) == (1024, 8, 25_000)
    assert (training.learning_rate, training.min_lr, training.warmup_steps) == (2e-5, 6.6e-7, 1000)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.95, 1e-6)
    assert (training.weight_decay, training.max_grad_norm, training.lr_scheduler) == (0.1, 1.0, "cosine")
    assert (training.save_steps, training.eval_steps) == (500, 100)
    assert sorted((source.weight for source in sources.values()), reverse=True) == [78.67, 10.93, 4.45, 4.45, 1.49]
    evaluation = recipe.evaluation
    assert evaluation is not None
    assert (evaluation.suite, evaluation.base, evaluation.published) == ("swallow", True, True)
    assert {*evaluation.steps, training.max_steps} == {2000, 25_000}  # the last one is always evaluated
    assert training.keep_every is not None
    assert training.keep_every <= 2000
    assert training.evaluate is not None
    assert training.evaluate.every == 2000
    assert launch_errors(recipe, 128) == []  # the 128 GPUs it was trained on
    tokens = training.max_steps * training.global_batch_size * recipe.data.sequence_length
    assert round(tokens / 1e9, 1) == 104.9


def test_swallow_mx_mixes_72_to_28():
    sources = load_recipe(ROOT / "recipes/swallow-mx-8x7b.yaml", check_files=False).data.sources.values()
    japanese = sum(source.weight for source in sources if source.language == "ja")
    assert japanese / sum(source.weight for source in sources) == pytest.approx(0.72)


def test_smollm2_watches_what_it_does_not_train_on():
    recipe = load_recipe(ROOT / "recipes/smollm2-135m-ja.yaml", check_files=False)
    assert recipe.data.sources["ja-documentation"].weight == 0
    assert recipe.training.max_steps * recipe.training.global_batch_size * recipe.data.sequence_length == 81_920
