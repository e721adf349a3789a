"""The table and its promises, from metrics as a run leaves them."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tsugiki.errors import TsugikiError
from tsugiki.quickstart.corpora import Corpus
from tsugiki.quickstart.table import broken_promises, draw, lesson, make_rows, pooled

CORPORA = [
    Corpus("japanese", ["x"], "ja", "target", 150, 180_000, 0.2),
    Corpus("english", ["y"], "en", "replay", 150, 180_000, 0.2),
]
YARDSTICKS = {"japanese": {"xz": 2.3, "unigram": 4.66}, "english": {"xz": 2.6, "unigram": 4.29}}


def metrics(path, *validations):
    lines = [
        {"kind": "validation", "step": step, "sources": {
            name: {"bits_per_byte": value, "documents": 25, "bytes": 30_000}
            for name, value in zip(("japanese", "english"), values, strict=True)
        }}
        for step, values in validations
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def rows(tmp_path):
    continued = metrics(tmp_path / "a.jsonl", (0, (2.95, 2.25)), (50, (2.3, 2.3)), (100, (2.2, 2.24)))
    without = metrics(tmp_path / "b.jsonl", (0, (2.95, 2.25)), (50, (2.37, 2.91)))
    return make_rows(CORPORA, continued, without, YARDSTICKS)


def test_columns_are_before_the_first_step_and_after_the_last(rows):
    assert [(row.before, row.after, row.without_replay) for row in rows] == [(2.95, 2.2, 2.37), (2.25, 2.24, 2.91)]
    assert broken_promises(rows) == []
    assert "japanese 2.95 -> 2.20" in lesson(rows)


@pytest.mark.parametrize("width", [80, 120])
def test_table_shows_every_figure(rows, width):
    stream = io.StringIO()
    Console(file=stream, width=width).print(draw(rows))
    text = stream.getvalue()
    for piece in ("japanese", "2.95", "2.20  -0.75", "2.37  -0.58", "2.91  +0.66", "2.30", "4.66", "30 kB"):
        assert piece in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("source", "figure", "value", "words"),
    [
        (0, "after", 2.5, "the new language fell by 0.450"),
        (1, "after", 2.31, "English rose by 0.060"),
        (1, "without_replay", 2.3, "without replay English is only 0.060"),
        (0, "after", float("nan"), "the new language fell by nan"),
    ],
)
def test_each_broken_promise_is_named(rows, source, figure, value, words):
    rows[source] = replace(rows[source], **{figure: value})
    assert any(words in problem for problem in broken_promises(rows))


def test_pooling_weighs_sources_by_bytes(rows):
    rows.append(replace(rows[0], name="more", size=rows[0].size * 3, before=1.0))
    assert pooled(rows, "target", "before") == pytest.approx((2.95 + 3 * 1.0) / 4)


def test_a_run_without_its_first_validation_is_refused(tmp_path):
    path = metrics(tmp_path / "a.jsonl", (50, (2, 2)), (100, (2, 2)))
    with pytest.raises(TsugikiError, match=r"a\.jsonl: no validation before the first step"):
        make_rows(CORPORA, path, path, YARDSTICKS)
