"""Whole attributions of processes that leave what training and evaluation leave (`stub_tsugiki`)."""

import json

import pytest

from tsugiki.attribution_results import AttributionResult
from tsugiki.experiments.attribution_table import draw, remarks
from tsugiki.files import read_json

COMPARE = [{"from": {}, "to": {"code": "with", "learning rate": "high"}}]


def silent(_text: str) -> None:
    return


def test_every_cell_is_run_and_what_the_rate_makes_is_found(project, open_attribution):
    """The stub's models depend on the rate alone: at .01, English is .18 worse than at .001, Japanese .45 better."""
    path = project.write_attribution(
        seeds=2, compare=COMPARE, metrics=["bits_per_byte:ja", "bits_per_byte:en", "spikes"],
        correlate=[["bits_per_byte:ja", "bits_per_byte:en"]],
    )  # fmt: skip
    opened = open_attribution(path)
    opened.run_here(silent)
    for trial in opened.plan.trials[:2]:  # as training writes them; one of the two was made twice
        with (trial.folder / "metrics.jsonl").open("a") as file:
            for step in (3, 3, 5):
                file.write(json.dumps({"kind": "spike", "step": step, "action": "record"}) + "\n")
    result = opened.estimate()
    assert result.finished
    assert result.problem == ""
    assert read_json(project.folder / "runs/effects/attribution.json", AttributionResult) == result
    verbs = [call.split()[0] for call in project.calls("runs/effects")]
    assert {verb: verbs.count(verb) for verb in verbs} == {"prepare": 1, "run": 8, "evaluate": 9}
    effects = {(one.term, one.metric): one.estimate.value for one in result.attribution.effects}
    assert effects["learning rate", "bits_per_byte:ja"] == pytest.approx(-0.45)
    assert effects["learning rate", "bits_per_byte:en"] == pytest.approx(0.18)
    assert effects["code", "bits_per_byte:en"] == pytest.approx(0)
    assert effects["code", "spikes"] == pytest.approx(-1)
    counts = [run.spikes for cell in result.cells for run in cell.runs]
    assert counts == [2, 0, 2, 0, 0, 0, 0, 0]  # each step once
    change = result.attribution.decompositions[1]
    assert change.metric == "bits_per_byte:en"
    assert change.total.value == pytest.approx(0.18)
    assert {name: round(one.value, 9) for name, one in change.alone.items()} == {"code": 0, "learning rate": 0.18}
    assert result.correlations[0].raw == pytest.approx(-1, abs=1e-3)
    by_name = {cell.name: cell for cell in result.cells}
    assert by_name["code-with_learning-rate-high"].levels == {"code": "with", "learning rate": "high"}
    assert by_name["code-with_learning-rate-high"].means["bits_per_byte:en"] == pytest.approx(
        result.base["bits_per_byte:en"] + 0.2, abs=0.01
    )
    opened.run_here(silent)
    assert len(project.calls("runs/effects")) == 18
    assert len(list(draw(result))) == 2
    assert any(line.startswith("answer     bits_per_byte:en (less is better)") for line in remarks(result))


def test_what_runs_that_diverged_would_tell_is_named_and_the_rest_is_estimated(project, open_attribution):
    factors = {
        "code": {"without": {}, "with": {"shares": {"code": 10}}},
        "rate": {"low": {}, "bad": {"training.learning_rate": 0.5}},
        "save": {"often": {}, "seldom": {"training.save_steps": 6}},
    }
    opened = open_attribution(project.write_attribution(factors=factors, seeds=2, compare=[
        {"from": {}, "to": {"rate": "bad"}}, {"from": {}, "to": {"code": "with"}},
    ]))  # fmt: skip
    opened.run_here(silent)
    result = opened.estimate()
    assert result.finished
    found = result.attribution
    assert (found.runs, len(found.left_out)) == (8, 8)
    assert found.missing == tuple(
        f"code {code}, rate bad, save {save}" for code in ("without", "with") for save in ("often", "seldom")
    )
    assert found.untold == ("rate bad",)
    assert {one.term for one in found.effects} == {"code", "save", "code × save"}  # at the rate that went well
    rate, code = found.decompositions[0], found.decompositions[2]
    assert (rate.total, rate.alone) == (None, {})
    assert "what no run that finished tells" in rate.words
    assert code.total.value == pytest.approx(0)
    words = list(remarks(result))
    assert f"no run finished of {'; '.join(found.missing)}" in words
    assert any("seed 8: diverged at step 4: loss or gradient was not finite" in line for line in words)
    assert len(opened.again()) == 8


def test_what_has_ended_is_estimated_while_the_others_run(project, open_attribution):
    """With both cells of one factor at the other's first level, that factor is told, and the other is not."""
    opened = open_attribution(project.write_attribution(seeds=2, compare=COMPARE))
    opened.run_shared(silent)
    for number in (0, 1):
        opened.run_one(number, silent)
    result = opened.estimate()
    found = result.attribution
    assert (result.finished, result.problem, found.runs, len(found.left_out)) == (False, "", 2, 6)
    assert [(one.term, one.metric) for one in found.effects] == [
        ("learning rate", "bits_per_byte:ja"), ("learning rate", "bits_per_byte:en"),
    ]  # fmt: skip
    assert found.effects[0].estimate.value == pytest.approx(-0.45)
    assert all(one.certain is None for one in found.effects)
    assert (found.decompositions[0].total, list(found.decompositions[0].alone)) == (None, ["learning rate"])
    words = list(remarks(result))
    assert "6 of 8 runs have not ended: what is said is of the others" in words
    assert "not in means and effects: code with" in words
    opened.run_one(2, silent)
    found = opened.estimate().attribution
    assert found.effects == ()  # averages over the other factor need the fourth cell
    assert list(found.decompositions[0].alone) == ["code", "learning rate"]


def test_before_anything_is_told_the_remedy_is_named(project, open_attribution):
    opened = open_attribution(project.write_attribution())
    opened.run_shared(silent)
    opened.run_one(3, silent)
    result = opened.estimate()
    assert result.attribution is None
    assert result.problem == (
        "1 of 4 runs have ended, which do not answer what is asked yet; still to run: code-without_learning-rate-low, "
        "seed 7; code-without_learning-rate-high, seed 7 and others. tsugiki attribute effects.yaml goes on, and "
        "estimates at its end; tsugiki attribute status effects.yaml says where each run stands"
    )


def test_a_transfer_makes_a_matrix_and_is_answered_from_what_has_ended(project, open_attribution):
    path = project.write_attribution(
        factors=None, transfer={"sources": {"code": 10, "en": 10}, "domains": {"en": ["bits_per_byte:en"]}}, seeds=2
    )
    opened = open_attribution(path)
    for ended in (0, 1):
        problem = opened.estimate().problem
        assert problem.startswith(
            f"{ended} of 8 runs have ended, which do not answer what is asked yet; still to run: "
        )
        assert "tsugiki attribute effects.yaml goes on" in problem
        assert "all combinations" not in problem
        opened.run_shared(silent)
        opened.run_one(0, silent)
    for number in range(1, 8):
        opened.run_one(number, silent)
    result = opened.estimate()
    assert result.finished
    cells = {(cell.source, cell.metric): cell for cell in result.transfer.cells}
    assert cells["code", "bits_per_byte:en"].added.value == pytest.approx(0)
    assert len(list(draw(result))) == 2
    assert any(line.startswith("transfer   No more than noise") and "code on en" in line for line in remarks(result))
