"""The published rows are those of the source, and belong to one suite."""

import numpy as np
import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.published import COLUMNS, SOURCES, published_rows

ROWS = {row.name: row for row in published_rows("swallow")}


def test_fourteen_models_with_eight_japanese_scores_each():
    assert len(published_rows("swallow")) == len(ROWS) == 14
    assert [len(COLUMNS[language]) for language in ("ja", "en")] == [8, 6]
    assert SOURCES.keys() == COLUMNS.keys()
    for row in ROWS.values():
        assert set(COLUMNS["ja"]) <= row.scores.keys()


@pytest.mark.parametrize("name", ROWS)
def test_printed_averages_are_the_means_of_their_columns(name):
    """A figure that was copied wrongly, or into another row, would show here."""
    for language, printed in ROWS[name].averages.items():
        scores = [ROWS[name].scores[task] for task in COLUMNS[language]]
        assert np.mean(scores) == pytest.approx(printed, abs=1.01e-4)


def test_english_is_there_for_two_models_and_absent_elsewhere():
    assert [name for name, row in ROWS.items() if "en" in row.averages] == ["Mistral-7B-v0.1", "Swallow-MS-7b"]
    assert ROWS["Swallow-MS-7b"].scores["swallow_gsm8k"] == 0.2623
    assert not set(COLUMNS["en"]) & ROWS["calm2-7b"].scores.keys()


def test_other_suites_have_none():
    with pytest.raises(RecipeError, match="--suite swallow"):
        published_rows("default")
