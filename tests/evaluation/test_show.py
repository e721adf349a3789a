"""The table of real evaluations: scores, differences to a baseline, what was published, and which items changed."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Quiet
from rich.console import Console

from tsugiki.errors import DataError, ModelError, RecipeError
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings
from tsugiki.evaluation.show import evaluate_and_show, show_diff, without_score
from tsugiki.evaluation.table_forms import AGAINST

TASKS = ["openbookqa", "hellaswag"]


def shown(names, output, settings, **options):
    """Results, what was said and drawn, and table.json."""
    said: list[str] = []
    console = Console(width=160, color_system=None)
    models = [find_model(str(name)) for name in names]
    if "baseline" in options:
        options["baseline"] = find_model(str(options["baseline"]))
    with console.capture() as drawn:
        results = evaluate_and_show(models, settings, output, said.append, Quiet(), console, **options)
    return results, "\n".join(said) + drawn.get(), json.loads((output / "table.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def compared(language_model, official_data, tmp_path_factory):
    """Two models, one of them named again as the baseline."""
    output = tmp_path_factory.mktemp("shown")
    settings = Settings(tasks=TASKS, data_dir=official_data, shots=1)
    models = [language_model(), language_model("qwen3")]
    return output, *shown(models, output, settings, baseline=models[0])


def test_scores_and_differences_are_those_of_the_items(compared):
    output, results, text, table = compared
    base, other = results
    assert [row["name"] for row in table["rows"]] == [base.name, other.name] == ["mistral", "qwen3"]
    assert table["baseline"] == "mistral"
    for name in base.tasks:
        cells = [row["tasks"][name] for row in table["rows"]]
        values = [result.scored()[name].values[:, 0] for result in results]
        assert [cell["score"] for cell in cells] == pytest.approx([each.mean() for each in values])
        assert "difference" not in cells[0]
        assert cells[1]["difference"]["estimate"] == pytest.approx((values[1] - values[0]).mean())
        assert np.shape(cells[1]["interval"]) == (2,)
        assert f"{values[1].mean():.3f}" in text
    average = np.mean([result.scored()[name].values.mean() for name in base.tasks for result in results[1:]])
    assert table["rows"][1]["averages"]["en"]["score"] == pytest.approx(average)
    markdown = (output / "table.md").read_text("utf-8")
    assert "| qwen3 |" in markdown
    assert f"| {AGAINST}mistral |" in markdown
    assert without_score(results) == []
    assert "no score" not in text


def test_the_items_that_changed_are_those_whose_scores_differ(compared):
    output, results, _, _ = compared
    folders = [next(output.glob(f"{result.name}-*/default-1-shots")) for result in results]
    expected = {
        (name, item)
        for name in results[0].tasks
        for item, one, other in zip(
            results[0].tasks[name].ids, results[0].tasks[name].values, results[1].tasks[name].values, strict=True
        )
        if one != other
    }
    assert expected
    console = Console(width=100, color_system=None)
    with console.capture() as lines:
        show_diff(*folders, console, tasks=[], limit=5, json_lines=True)
    changes = [json.loads(line) for line in lines.get().splitlines()]
    assert {(change["task"], change["item"]) for change in changes} == expected
    for change in changes:
        one, other = change["records"]
        assert (one["score"], other["score"]) == (change["before"], change["after"])
        assert one["prompt"] == other["prompt"]
    with console.capture() as drawn:
        show_diff(*folders, console, tasks=["tsugiki_openbookqa"], limit=5, json_lines=False)
    assert "OBQA" in drawn.get()
    assert "HellaS" not in drawn.get()
    with pytest.raises(DataError, match="no common score for tsugiki_nothing"):
        show_diff(*folders, console, tasks=["tsugiki_nothing"], limit=5, json_lines=False)


def test_a_model_that_cannot_be_used_ends_itself_alone(language_model, official_data, diverged, tmp_path):
    settings = Settings(tasks=["openbookqa"], data_dir=official_data, limit=2)
    with pytest.raises(ModelError, match="not finite"):
        shown([diverged, language_model()], tmp_path, settings)
    table = json.loads((tmp_path / "table.json").read_text("utf-8"))
    scores = {row["name"]: row["tasks"]["tsugiki_openbookqa"]["score"] for row in table["rows"]}
    assert scores["model"] is None
    assert scores["mistral"] is not None
    averages = {row["name"]: row["averages"]["en"]["score"] for row in table["rows"]}
    assert averages == {"model": None, "mistral": scores["mistral"]}
    assert any(note.startswith("–  ended early: ") and note.endswith("(model).") for note in table["notes"])


def test_published_rows_stand_beside_ones_own_under_the_published_suite(language_model, official_data, tmp_path):
    settings = Settings(suite="swallow", tasks=["jcommonsenseqa"], data_dir=official_data, limit=2)
    _, text, table = shown([language_model()], tmp_path, settings, published=True)
    rows = {row["name"]: row for row in table["rows"]}
    published = next(row for name, row in rows.items() if name.lower() == "mistral-7b-v0.1")
    assert published["published"]
    assert published["tasks"]["swallow_jcommonsenseqa"]["score"] == 0.7301
    own = rows["mistral"]
    assert not own["published"]
    assert own["tasks"]["swallow_jcommonsenseqa"]["comparable"] is False  # twelve made-up items
    assert "†" in text


@pytest.mark.parametrize("suite", ["default", "quick"])
def test_published_scores_are_refused_beside_another_suite(suite, language_model, tmp_path):
    with pytest.raises(RecipeError, match="published scores are those of the suite swallow: add --suite swallow"):
        shown([language_model()], tmp_path, Settings(suite=suite), published=True)
    assert not list(tmp_path.iterdir())


def test_a_task_without_data_is_a_dash_and_leaves_the_average(language_model, official_data, tmp_path):
    data = shutil.copytree(official_data, tmp_path / "data")
    shutil.rmtree(data / "hellaswag")
    settings = Settings(tasks=TASKS, data_dir=data, limit=2, shots=0)
    results, text, table = shown([language_model()], tmp_path / "out", settings)
    assert without_score(results) == ["HellaS"]
    assert "no score   HellaS: see above" in text
    (row,) = table["rows"]
    assert row["tasks"]["tsugiki_hellaswag"]["score"] is None
    assert "tsugiki data fetch hellaswag" in row["tasks"]["tsugiki_hellaswag"]["missing"]
    assert row["averages"]["en"]["score"] == row["tasks"]["tsugiki_openbookqa"]["score"]
    assert "–" in (tmp_path / "out/table.md").read_text("utf-8")
