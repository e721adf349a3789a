"""The page of a sweep as text: what it must hold for every way that a sweep ends."""

import re
from dataclasses import replace

import pytest
from made_sweeps import made_sweep, write_sweep
from page_texts import HOSTILE, rows_of, text_of

from tsugiki.errors import DataError, RecipeError
from tsugiki.pages.scatter import Point, pareto
from tsugiki.pipeline import run_report
from tsugiki.report.write import write_sweep_report


def written(folder, result) -> tuple[str, str]:
    page, markdown = write_sweep_report(write_sweep(folder, result))
    return page.read_text(), markdown.read_text()


def test_where_loss_and_evaluation_disagree_the_page_says_so_first(tmp_path):
    page, markdown = written(tmp_path, made_sweep())
    assert "Training loss and evaluation disagree" in page[: page.index("<nav")]
    lead = text_of(page[: page.index("<nav")])
    assert "middle is recommended." in lead
    assert "Rule: The rule." in lead
    assert "By the rule high fails: suite:en is 0.1100 worse than the base's, where 0.05 is allowed." in lead
    assert rows_of(page, "What training loss alone would have chosen") == [
        ["suite:en", "−0.0900 [−0.1100, −0.0700]", "worse"]
    ]
    assert "**Training loss and evaluation disagree.**" in markdown
    assert "| suite:en | −0.0900 ±0.0200 | worse |" in markdown


def test_where_they_agree_nothing_is_marked(tmp_path):
    page, markdown = written(tmp_path, made_sweep(recommended="high"))
    assert "disagree" not in page + markdown
    assert "Training loss alone would have chosen high." in text_of(page)


def test_a_choice_among_trials_of_other_data_than_the_judges_is_no_disagreement(tmp_path):
    result = made_sweep()
    (choice,) = result.loss_choices
    others = tuple(trial for trial in choice.trials if trial.trial != "middle")
    page, _ = written(tmp_path, replace(result, loss_choices=(replace(choice, trials=others),)))
    assert "disagree" not in page
    none = replace(choice, against=None, costs=())
    assert "disagree" in written(tmp_path, replace(result, loss_choices=(none,)))[0]


def test_the_table_begins_with_the_base_and_marks_each_difference(tmp_path):
    page, markdown = written(tmp_path, made_sweep())
    assert rows_of(page, "Trials against the base") == [
        ["base", "3.0000", "0.5000", ""],
        ["low", "2.9000 ✓ −0.1000 ±0.0200", "0.5100 ✓ +0.0100 ±0.0200", "5.0000"],
        ["middle recommended", "2.5000 ✓ −0.5000 ±0.0200", "0.4800 ✓ −0.0200 ±0.0200", "4.5000"],
        ["high lowest loss", "2.4000 ✓ −0.6000 ±0.0200", "0.3900 ✗ −0.1100 ±0.0200", "4.4000"],
    ]
    assert "| middle (recommended) | 2.5000 ✓ −0.5000 ±0.0200 | 0.4800 ✓ −0.0200 ±0.0200 | 4.5000 |" in markdown
    assert "40 of them (40%) in warm-up, in which a rate has not been tried yet" in text_of(page)


def test_charts_gain_against_loss_and_each_metric_against_the_rate(tmp_path):
    result = made_sweep()
    page, _ = written(tmp_path, result)
    titles = re.findall("<figcaption>(.*?)</figcaption>", page)
    assert titles == [
        "bits_per_byte:ja gained against suite:en lost", "Training loss at the end (less is better)",
        "bits_per_byte:ja (less is better)", "suite:en (more is better)",
    ]  # fmt: skip
    values = text_of(page[page.index("<figure") : page.index("</figure>")])
    # turned so that up is gained and right is lost, with the intervals turned alike
    assert "low other trials −0.0100 [−0.0300, +0.0100] +0.1000 [+0.0800, +0.1200] yes" in values
    assert "high (lowest loss) lowest training loss +0.1100 [+0.0900, +0.1300] +0.6000 [+0.5800, +0.6200] yes" in values
    assert result.judgement is not None
    points = [Point(one.name, one.keep[0].fall, -one.gain[0].fall) for one in result.judgement.trials]
    assert {point.name for point in pareto(points, ("lower", "higher"))} == set(result.judgement.fronts["suite:en"])
    assert page.count("learning rate (logarithmic)") == 2 * 3
    small = page[page.index("multiples") :]
    assert "2.4800, 2.5200" in text_of(small)  # the interval of the difference, around the value


def test_trials_of_one_rate_have_no_chart_against_it_and_a_recipe_gives_the_rate_that_no_trial_changes(tmp_path):
    result = made_sweep()
    same = [replace(trial, changes={"training.warmup_steps": place}) for place, trial in enumerate(result.trials)]
    result = replace(result, trials=tuple(same))
    assert "Against the learning rate" not in written(tmp_path, result)[0]
    for trial, rate in zip(result.trials, ("1e-4", "1.0e-3", "1e-2"), strict=True):
        (tmp_path / f"{trial.name}-seed-1.yaml").write_text(f"training: {{learning_rate: {rate}}}\n")
    assert "Against the learning rate" in written(tmp_path, result)[0]


def test_without_intervals_nothing_claims_to_be_certain(tmp_path):
    page, _ = written(tmp_path, made_sweep(half=None))
    assert rows_of(page, "Trials against the base")[1] == ["low", "2.9000 (✓) −0.1000", "0.5100 (✓) +0.0100", "5.0000"]
    assert "95 % intervals of the difference to the base on the same items." not in text_of(page)
    assert "worse; no interval known" in text_of(page)


def test_one_trial_is_a_page(tmp_path):
    page, markdown = written(tmp_path, made_sweep(names=("middle",)))
    assert "middle is recommended." in text_of(page)
    assert "What training loss alone" not in page
    assert "| middle (recommended) |" in markdown


def test_failed_trials_stand_with_their_reasons(tmp_path):
    page, markdown = written(tmp_path, made_sweep(failed={"huge": "loss was not finite"}))
    assert rows_of(page, "Runs and recipes") == [["huge, seed 1", "diverged", "12", "loss was not finite"]]
    assert ["huge not considered did not finish", "", "", ""] in rows_of(page, "Trials against the base")
    assert "huge, seed 1: diverged at step 12: loss was not finite" in markdown


def test_before_anything_has_ended_there_is_a_page_too(tmp_path):
    result = made_sweep(judge=False)
    waiting = [replace(one, runs=tuple(replace(run, state="waiting") for run in one.runs)) for one in result.trials]
    page, markdown = written(tmp_path, replace(result, trials=tuple(waiting), base={}))
    for text in (text_of(page), markdown):
        assert "Nothing to judge yet" in text
        assert "3 of 3 runs have not ended" in text
    assert "<figure" not in page


def test_no_trial_finished_leaves_a_page_of_reasons(tmp_path):
    result = made_sweep(names=("low",), failed={"huge": "killed"}, recommended=None)
    assert result.judgement is not None
    judgement = replace(result.judgement, trials=result.judgement.trials[1:], fronts={})
    page, _ = written(tmp_path, replace(result, judgement=judgement))
    assert "No trial gains." in text_of(page)
    assert "<figure" not in page


def test_without_a_metric_to_keep_gains_are_drawn_alone(tmp_path):
    result = made_sweep()
    assert result.judgement is not None
    trials = tuple(replace(one, keep=()) for one in result.judgement.trials)
    judgement = replace(result.judgement, trials=trials, keep=(), base={"bits_per_byte:ja": 3.0})
    page, _ = written(tmp_path, replace(result, judgement=judgement, metrics=result.metrics[:1]))
    assert "bits_per_byte:ja: difference to the base" in text_of(page)


def test_names_and_reasons_are_shown_as_text(tmp_path):
    page, markdown = written(tmp_path, made_sweep(called={"middle": HOSTILE}, failed={HOSTILE + "2": HOSTILE}))
    assert page.count("<script>") == 1
    assert HOSTILE in text_of(page).replace("&quot;", '"')
    assert all(line.count("|") - line.count("\\|") in (0, 3, 4, 5) for line in markdown.splitlines())
    assert r"\<script\>" in markdown


def test_reports_and_recipes_are_linked_where_they_lie_from_wherever_the_page_lies(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", made_sweep())
    report = sweep / "low-seed-1/report/report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    (sweep / "middle-seed-1.yaml").write_text("seed: 1 # hf_abcdefghijklmnopqrstuvwxyz\n")
    here, there = (write_sweep_report(sweep, output)[0] for output in (None, tmp_path / "other/place"))
    for page in (here, there):
        links = re.findall(r'href="(\./[^"]*)"', page.read_text())
        assert [(page.parent / link).resolve() for link in links] == [report, sweep / "middle-seed-1.yaml"]
    assert "the whole recipe of middle, seed 1" in here.read_text()
    assert "hf_abc" not in here.read_text()


def test_the_verb_takes_the_folder_of_a_sweep_alone(tmp_path):
    sweep, said = write_sweep(tmp_path / "sweep", made_sweep()), []
    run_report([sweep], said.append)
    assert said == [f"report     {sweep / 'report.html'}, report.md"]
    with pytest.raises(RecipeError, match="name it alone"):
        run_report([sweep, tmp_path], said.append)


@pytest.mark.parametrize(("content", "error"), [("{}", DataError), ("other", RecipeError)])
def test_another_layout_is_refused_and_nothing_is_written(tmp_path, content, error):
    sweep = write_sweep(tmp_path, replace(made_sweep(), format=2))
    if content == "{}":
        (sweep / "sweep.json").write_text(content)
    with pytest.raises(error, match=r"sweep\.json"):
        write_sweep_report(sweep)
    assert [path.name for path in sweep.iterdir()] == ["sweep.json"]
