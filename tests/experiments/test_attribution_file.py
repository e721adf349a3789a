"""What an attribution file says: the mixture of each cell, and every way in which it can be wrong, by line."""

import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.known import known_tasks
from tsugiki.experiments.attribution_file import load_attribution
from tsugiki.experiments.measures import resolve
from tsugiki.experiments.trials import expand

SHARED = {"shares": {"code": 10}}
RATES = {"low": {}, "high": {"training.learning_rate": 1e-2}}


def problems(path) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve(expand(load_attribution(path)), known_tasks)
    return str(caught.value)


def weights(plan):
    return {
        trial.name: {name: source.weight for name, source in trial.recipe.data.sources.items()} for trial in plan.trials
    }


def test_two_factors_may_displace_the_same_source_and_all_other_shares_stay(project):
    project.recipe["data"]["sources"]["sums"] = {"path": "en.jsonl", "weight": 0.1, "language": "other"}
    factors = {
        "mathematics": {"without": {}, "with": {"shares": {"sums": 0.2}}},
        "code": {"0": {}, "10": SHARED, "20": {"shares": {"code": 20, "sums": 0.1}}},
    }
    plan = expand(load_attribution(project.write_attribution(factors=factors)))
    assert weights(plan) == {
        "mathematics-without_code-0": {"ja": 70, "en": 30, "sums": 0.1, "code": 0},
        "mathematics-without_code-10": {"ja": 60, "en": 30, "sums": 0.1, "code": 10},
        "mathematics-without_code-20": {"ja": 49.9, "en": 30, "sums": 0.2, "code": 20},
        "mathematics-with_code-0": {"ja": 69.8, "en": 30, "sums": 0.3, "code": 0},
        "mathematics-with_code-10": {"ja": 59.8, "en": 30, "sums": 0.3, "code": 10},
        "mathematics-with_code-20": {"ja": 49.7, "en": 30, "sums": 0.4, "code": 20},
    }
    assert len({trial.recipe.prepared_dir for trial in plan.trials}) == 1  # all share one set of stores


def test_every_cell_is_run_at_every_seed_with_the_keys_of_its_levels(project):
    plan = expand(load_attribution(project.write_attribution(seeds=2)))
    assert [(trial.name, trial.seed, trial.recipe.training.learning_rate) for trial in plan.trials[:5]] == [
        ("code-without_learning-rate-low", 7, 1e-3), ("code-without_learning-rate-high", 7, 1e-2),
        ("code-with_learning-rate-low", 7, 1e-3), ("code-with_learning-rate-high", 7, 1e-2),
        ("code-without_learning-rate-low", 8, 1e-3),
    ]  # fmt: skip
    assert plan.file.cells["code-with_learning-rate-low"] == {"code": "with", "learning rate": "low"}
    assert str(plan.directory) == "runs/effects"


def test_a_comparison_names_only_what_is_not_at_its_first_level(project):
    compare = [{"from": {"code": "with"}, "to": {"learning rate": "high"}, "parts": {"all": ["learning rate"]}}]
    (found,) = load_attribution(project.write_attribution(compare=compare)).comparisons
    assert found.start == {"code": "with", "learning rate": "low"}
    assert found.end == {"code": "with", "learning rate": "high"}
    assert found.parts == {"all": ["learning rate"]}


def test_levels_that_look_like_numbers_are_found_by_them(project):
    path = project.write_attribution(
        factors={"rate": {"LOW": {}, "HIGH": RATES["high"]}, "code": {"no": {}, "yes": SHARED}}
    )
    path.write_text(
        path.read_text().replace("LOW", "1.0e-3").replace("HIGH", "1e-2") + "compare: [{from: {}, to: {rate: 1e-2}}]\n"
    )
    (found,) = load_attribution(path).comparisons
    assert (found.start["rate"], found.end["rate"]) == ("1.0e-3", "1e-2")


def test_a_transfer_runs_the_mixtures_of_its_modes(project):
    project.recipe["data"]["sources"] |= {
        name: {"path": "en.jsonl", "weight": 0, "language": "other"} for name in ("sums", "formal")
    }
    transfer = {"sources": {"code": 10, "sums": 5, "formal": 1}, "mode": "add-one"}
    file = load_attribution(project.write_attribution(factors=None, transfer=transfer))
    of_run = [{name for name, level in cell.items() if level == "with"} for cell in file.cells.values()]
    assert of_run == [set(), {"code"}, {"sums"}, {"formal"}]
    transfer["mode"] = ["add-one", "leave-one-out"]
    plan = expand(load_attribution(project.write_attribution(factors=None, transfer=transfer)))
    found = list(weights(plan).values())
    assert len(found) == 8
    assert found[4] == {"ja": 54, "en": 30, "sums": 5, "formal": 1, "code": 10}
    assert {"ja": 64, "en": 30, "sums": 5, "formal": 1, "code": 0} in found
    assert plan.file.domains == {"code": [], "sums": [], "formal": []}  # none of these texts is measured


def test_what_the_design_cannot_tell_is_refused_before_any_work(project):
    assert "effects.yaml:16: These runs cannot tell apart:" in problems(project.write_attribution(design="half"))
    mains = {"design": "half", "terms": ["code", "learning rate"]}
    assert "code with learning rate" in problems(project.write_attribution(**mains))
    three = {"code": {"no": {}, "yes": SHARED}, "rate": RATES, "steps": {"few": {}, "many": {"training.save_steps": 6}}}
    text = problems(project.write_attribution(factors=three, design="half"))
    assert "code with rate × steps" in text
    alone = {"factors": three, "design": "half", "terms": ["code", "rate", "steps"]}
    assert len(load_attribution(project.write_attribution(**alone)).cells) == 4
    compare = [{"from": {}, "to": {"code": "yes", "rate": "high"}}]
    text = problems(project.write_attribution(**alone, compare=compare))
    assert "cannot tell apart: " in text
    assert "code × rate" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factors": None}, "effects.yaml:1: give one of factors (effects) and transfer"),
        ({"factors": {"code": {"with": SHARED}}}, "factor code needs two different levels at least"),
        ({"rest": None}, "shares are taken from one source: name it, such as rest: ja"),
        ({"rest": "jp"}, "the recipe has no source jp (it has code, en, ja)"),
        ({"rest": "code"}, "code is the rest, which shares are taken from"),
        ({"rest": "en", "factors": {"code": {"no": {}, "yes": {"shares": {"code": 31}}}}}, "en would have the weight -1:"),
        ({"factors": {"a": RATES, "b": RATES}}, "b, high: training.learning_rate is set by a, too"),
        ({"factors": {"a": {"x": {"seed": 3}, "y": {}}}}, "a, x: seed: no trial may change this"),
        ({"factors": {"a": {"x": {"shares": 3}, "y": {}}}}, "a, x: shares gives sources weights, such as {sums: 10}"),
        (
            {"factors": {"a": {"no": {}, "yes": SHARED}, "b": {"no": {}, "yes": {"data.sources.ja.weight": 3}}}},
            "data.sources.ja.weight is changed by shares and set by b",
        ),
        ({"factors": {"a": {"x": {"training.learning_rat": 3}, "y": {}}}}, "unknown key; did you mean learning_rate?"),
        ({"terms": ["cod"]}, "terms: there is no factor cod among code, learning rate; did you mean code?"),
        ({"compare": [{"from": {}, "to": {"rate": "high"}}]}, "there is no factor rate among"),
        ({"compare": [{"from": {}, "to": {"code": "yes"}}]}, "compare[0].to.code: there is no level yes among without, with"),
        ({"compare": [{"from": {}, "too": {"code": "with"}}]}, "compare[0].too: unknown key; did you mean to?"),
        ({"metrics": ["bits_per_byte:jp"]}, "metrics: bits_per_byte:jp is not measured by this recipe; did you mean"),
        ({"correlate": [["bits_per_byte:ja", "x"]]}, "correlate: there is no metric x among bits_per_byte:ja"),
        ({"factors": {"a": {"x" * 150: {}, "y": RATES["high"]}}}, "give shorter ones"),
        ({"factors": {"a": {"x y": {}, "x-y": RATES["high"]}}}, "two cells have the name a-x-y"),
        (
            {"factors": None, "transfer": {"sources": {"code": 1, "ja": 2}}, "terms": ["code"]},
            "terms asks about factors; a transfer has sources",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(project, changes, words):
    assert words in problems(project.write_attribution(**changes))


EVERY_NAME = """\
recipe: recipe.yaml
factors:
  source:
    without: {}
    with:
      shares: {code: 10}
  rate:
    low: {}
    high:
      training:
        learning_rate: 1e-2
      training.min_lr: 1e-3
rest: ja
terms:
  - source
  - [source, rate]
compare:
  - from: {source: without}
    to:
      source: with
      rate: high
    parts:
      data: [source]
metrics:
  - bits_per_byte:ja
  - bits_per_byte:en
correlate:
  - [bits_per_byte:ja, bits_per_byte:en]
"""


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("{code: 10}", "{cod: 10}", "source cod (it has code, en, ja); did you mean code? If not, give it one"),
        ("shares:", "share:", "source, with: share: unknown key; did you mean shares?"),
        ("learning_rate: 1e-2", "learning_rat: 1e-2", "rate, high: training.learning_rat: unknown key; did you mean learning_rate?"),
        ("learning_rate: 1e-2", "learning_rate: fast", "rate, high: training.learning_rate: must be a number"),
        ("training.min_lr", "training.min_lrr", "rate, high: training.min_lrr: unknown key; did you mean min_lr?"),
        ("training.min_lr: 1e-3", "seed: 1", "rate, high: seed: no trial may change this"),
        ("rest: ja", "rest: jp", "rest: the recipe has no source jp (it has code, en, ja)"),
        ("  - source\n", "  - sourc\n", "terms: there is no factor sourc among source, rate; did you mean source?"),
        ("[source, rate]", "[source, raet]", "terms: there is no factor raet among source, rate; did you mean rate?"),
        ("{source: without}", "{sourec: without}", "compare[0].from: there is no factor sourec among source, rate; did you mean source?"),
        ("      source: with\n", "      source: whit\n", "compare[0].to.source: there is no level whit among without, with"),
        ("rate: high", "raet: high", "compare[0].to: there is no factor raet among source, rate; did you mean rate?"),
        ("[source]", "[sourec]", "compare[0].parts: there is no factor sourec among source, rate; did you mean source?"),
        ("- bits_per_byte:en", "- bits_per_byte:eng", "metrics: bits_per_byte:eng is not measured by this recipe; did you mean bits_per_byte:en?"),
        ("- [bits_per_byte:ja, bits_per_byte:en]", "- [bits_per_byte:ja, bits_per_byte:e]", "correlate: there is no metric bits_per_byte:e among"),
    ],
)  # fmt: skip
def test_a_misspelt_name_is_one_problem_with_its_own_line_and_the_nearest_name(project, right, wrong, words):
    project.write_attribution()
    content = EVERY_NAME.replace(right, wrong)
    line = next(
        n for n, (a, b) in enumerate(zip(content.split("\n"), EVERY_NAME.split("\n"), strict=True), 1) if a != b
    )
    path = project.folder / "names.yaml"
    path.write_text(EVERY_NAME)
    resolve(expand(load_attribution(path)), known_tasks)
    path.write_text(content)
    (problem,) = problems(path).splitlines()
    assert problem.startswith(f"{path}:{line}: "), problem
    assert words in problem


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("{code: 10, en: 5}", "{cod: 10, en: 5}", "source cod (it has code, en, ja); did you mean code?"),
        ("  en: [b", "  eng: [b", "transfer.domains: there is no source eng among code, en; did you mean en?"),
        ("[bits_per_byte:en]}", "[bits_per_byte:e]}", "transfer.domains.en: there is no metric bits_per_byte:e among"),
    ],
)
def test_so_is_one_of_a_transfer(project, right, wrong, words):
    project.write_attribution()
    right_text = (
        "recipe: recipe.yaml\nrest: ja\ntransfer:\n  sources: {code: 10, en: 5}\n  domains: {code: [bits_per_byte:ja],\n"
        "    en: [bits_per_byte:en]}\nmetrics: [bits_per_byte:ja, bits_per_byte:en]\n"
    )
    path = project.folder / "names.yaml"
    path.write_text(right_text)
    resolve(expand(load_attribution(path)), known_tasks)
    path.write_text(right_text.replace(right, wrong))
    (problem,) = problems(path).splitlines()
    assert problem.startswith(f"{path}:{right_text[: right_text.index(right)].count(chr(10)) + 1}: "), problem
    assert words in problem


def test_stages_of_the_mixture_are_not_overlooked(project):
    project.write_attribution()
    project.recipe["data"]["stages"] = [{"start_step": 8, "weights": {"ja": 1, "en": 1, "code": 0}}]
    assert "the recipe has data.stages, which shares do not move" in problems(project.write_attribution())
