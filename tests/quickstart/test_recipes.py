"""The recipes that a quickstart writes: valid, readable, the same each time, never over a user's changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from tsugiki.errors import RecipeError
from tsugiki.quickstart.corpora import Corpus, embedded_corpora
from tsugiki.quickstart.recipes import EMBEDDED, mixture, recipe_text, write_recipes
from tsugiki.recipe_file import load_recipe, parse_recipe


@pytest.fixture
def written(tmp_path):
    corpora = embedded_corpora(tmp_path / "corpora")
    return tmp_path, corpora, write_recipes(tmp_path, corpora, EMBEDDED)


RUNS = ("base", "continued", "without-extension", "without-replay")


def test_all_four_are_valid_recipes(written):
    _, _, paths = written
    recipes = {run: load_recipe(path, check_files=False) for run, path in paths.items()}
    assert tuple(recipes) == RUNS
    assert recipes["base"].model.architecture["model_type"] == "mistral"
    assert recipes["continued"].model.name_or_path == f"{recipes['base'].run_dir}/export"
    weights = {run: {n: s.weight for n, s in recipe.data.sources.items()} for run, recipe in recipes.items()}
    assert weights["base"]["japanese"] == 2
    assert weights["continued"]["english"] == 30
    assert weights["without-replay"]["english"] == 0
    assert all(recipe.training.precision == "fp32" for recipe in recipes.values())


def test_two_runs_share_the_extended_model_and_token_stores_go_with_the_tokenizer(written):
    _, _, paths = written
    recipes = {run: load_recipe(path, check_files=False) for run, path in paths.items()}
    extended = ("continued", "without-replay")
    assert tuple(run for run, recipe in recipes.items() if recipe.vocabulary) == extended
    assert recipes["continued"].vocabulary.learns_from(recipes["continued"]) == ["japanese"]
    assert len({str(recipes[run].vocabulary_dir) for run in extended}) == 1
    stores = {run: recipe.prepared_dir for run, recipe in recipes.items()}
    assert stores["base"] == stores["without-extension"] != stores["continued"] == stores["without-replay"]


def test_nothing_but_the_vocabulary_differs_from_the_run_without_extension(written):
    _, _, paths = written
    with_it, without = (
        load_recipe(paths[run], check_files=False).model_dump() for run in ("continued", "without-extension")
    )
    assert {key for key in with_it if with_it[key] != without[key]} == {"run_dir", "vocabulary", "data", "training"}
    assert {key for key in with_it["data"] if with_it["data"][key] != without["data"][key]} == {"prepared_dir"}
    cadence = {"eval_steps"}
    assert {key for key in with_it["training"] if with_it["training"][key] != without["training"][key]} == cadence


def test_a_language_without_a_script_of_its_own_gets_three_runs(tmp_path):
    corpora = [
        Corpus("de", ["d.jsonl"], "de", "target", 200, 10**6, 0.1),
        Corpus("en", ["e.jsonl"], "en", "replay", 200, 10**6, 0.1),
    ]
    paths = write_recipes(tmp_path, corpora, replace(EMBEDDED, added=0))
    recipes = {run: load_recipe(path, check_files=False) for run, path in paths.items()}
    assert tuple(recipes) == ("base", "continued", "without-replay")
    assert not any(recipe.vocabulary for recipe in recipes.values())
    assert len({recipe.prepared_dir for recipe in recipes.values()}) == 1
    assert "2 of 3" in paths["continued"].read_text()


@pytest.mark.parametrize("precision", ["fp32", "fp32-master"])
def test_the_precision_of_the_plan_is_written_with_its_reason(precision, written):
    directory, corpora, _ = written
    for run in (*RUNS, "calibration"):
        text = recipe_text(directory, run, corpora, replace(EMBEDDED, precision=precision))
        assert parse_recipe(text, check_files=False).training.precision == precision
        (line,) = [line for line in text.splitlines() if "precision:" in line]
        assert "# " in line
        assert "fp32 is what CPUs multiply fastest" not in text


def test_about_a_million_parameters(written):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = dict(load_recipe(written[2]["base"], check_files=False).model.architecture)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    assert 0.8e6 < model.num_parameters() < 1.3e6


def test_writing_again_changes_nothing_and_an_edited_recipe_is_kept(written):
    directory, corpora, paths = written
    assert write_recipes(directory, corpora, EMBEDDED) == paths
    paths["continued"].write_text(paths["continued"].read_text().replace("weight: 30", "weight: 20"))
    edited = paths["continued"].read_text()
    with pytest.raises(RecipeError, match=r"continued\.yaml is not what this quickstart writes.*--run-dir"):
        write_recipes(directory, corpora, EMBEDDED)
    assert paths["continued"].read_text() == edited


@pytest.mark.parametrize("name", ["a b", "日本: 'x' #1", '"', "-x"])
def test_any_directory_name_survives_yaml(name, tmp_path):
    directory = tmp_path / name
    corpus = Corpus("ja", [str(directory / "ja {1}.jsonl")], "ja", "target", 200, 10**6, 0.1)
    english = Corpus("en", [str(directory / "en.jsonl"), "en2.txt"], "en", "replay", 200, 10**6, 0.1, bad=0.004)
    for run in (*RUNS, "calibration"):
        recipe = parse_recipe(recipe_text(directory, run, [corpus, english], EMBEDDED), check_files=False)
        assert recipe.run_dir == directory / run
        assert recipe.vocabulary is None or recipe.vocabulary_dir == directory / "vocabulary"
        assert recipe.data.sources["ja"].paths == corpus.paths
        assert recipe.data.sources["en"].paths == english.paths
        assert recipe.data.max_bad_documents > 0.004


def test_weights_follow_roles_and_the_root_of_sizes():
    def corpus(name, role, size):
        return Corpus(name, [], "xx", role, 1, size, 0.1)

    corpora = [corpus("a", "target", 400), corpus("b", "target", 100), corpus("c", "replay", 50)]
    weights = mixture(corpora, {"target": 60, "replay": 30, "other": 10})
    assert weights == {"a": 44.44, "b": 22.22, "c": 33.33}
    assert mixture(corpora, {"target": 55, "replay": 0, "other": 15})["c"] == 0


def test_phases_print_ten_to_fifteen_lines():
    for steps in (EMBEDDED.base_steps, EMBEDDED.continued_steps, EMBEDDED.without_replay_steps, 7000, 13):
        text = recipe_text(
            Path("d"), "base", [Corpus("en", ["x"], "en", "replay", 1, 1, 0.1)], replace(EMBEDDED, base_steps=steps)
        )
        every = int(text.split("logging_steps: ")[1].split()[0])
        assert 10 <= -(-steps // every) <= 15 or steps == 13
