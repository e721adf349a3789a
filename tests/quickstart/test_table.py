"""The table and its promises, from metrics as a run leaves them."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tsugiki.errors import TsugikiError
from tsugiki.quickstart.corpora import Corpus
from tsugiki.quickstart.table import Extension, broken_promises, draw, draw_extension, lesson, make_rows, pooled

CORPORA = [
    Corpus("japanese", ["x"], "ja", "target", 150, 180_000, 0.2),
    Corpus("english", ["y"], "en", "replay", 150, 180_000, 0.2),
]
YARDSTICKS = {"japanese": {"xz": 2.3, "unigram": 4.66}, "english": {"xz": 2.6, "unigram": 4.29}}


def metrics(path, *validations, tokens=(12_000, 9_000)):
    lines = [
        {"kind": "validation", "step": step, "sources": {
            name: {"bits_per_byte": value, "documents": 25, "bytes": 30_000, "tokens": count}
            for name, value, count in zip(("japanese", "english"), values, tokens, strict=True)
        }}
        for step, values in validations
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def rows(tmp_path):
    new = (7_500, 9_000)
    return make_rows(CORPORA, {
        "base": tmp_path / "nothing.jsonl",
        "continued": metrics(
            tmp_path / "a.jsonl", (0, (2.85, 2.26)), (50, (2.3, 2.3)), (100, (2.2, 2.24)), tokens=new
        ),
        "without-extension": metrics(tmp_path / "b.jsonl", (0, (2.95, 2.25)), (100, (2.41, 2.23))),
        "without-replay": metrics(tmp_path / "c.jsonl", (0, (2.85, 2.26)), (50, (2.37, 2.91)), tokens=new),
    }, YARDSTICKS)  # fmt: skip


def test_columns_are_before_the_first_step_and_after_the_last(rows):
    """Before: of the base as it was, which the run with its own vocabulary begins with."""
    assert [(row.before, row.after, row.without_replay) for row in rows] == [(2.95, 2.2, 2.37), (2.25, 2.24, 2.91)]
    assert broken_promises(rows) == []
    assert "japanese 2.95 -> 2.20" in lesson(rows)


def test_the_larger_vocabulary_is_compared_at_its_start_and_after_the_same_steps(rows):
    japanese, english = (row.extension for row in rows)
    assert (japanese.tokens_before, japanese.tokens_after) == (12_000, 7_500)
    assert (english.tokens_before, english.tokens_after) == (9_000, 9_000)
    assert [(e.untrained, e.without) for e in (japanese, english)] == [(2.85, 2.41), (2.26, 2.23)]
    # 7,500 of 12,000 tokens: 3/8 fewer, 8/5 of the text
    assert "japanese takes 38% fewer tokens, so the same steps read 1.60 times the text: 2.20" in lesson(rows)
    assert "with the old ones 2.41" in lesson(rows)


def test_without_an_extension_nothing_is_said_of_one(tmp_path):
    continued = metrics(tmp_path / "a.jsonl", (0, (2.95, 2.25)), (100, (2.2, 2.24)))
    without = metrics(tmp_path / "b.jsonl", (0, (2.95, 2.25)), (50, (2.37, 2.91)))
    rows = make_rows(CORPORA, {"continued": continued, "without-replay": without}, YARDSTICKS)
    assert [row.before for row in rows] == [2.95, 2.25]
    assert all(row.extension is None for row in rows)
    assert "Grafted" not in lesson(rows)
    assert broken_promises(rows) == []


@pytest.mark.parametrize("width", [80, 120])
def test_table_of_the_vocabulary_shows_every_figure(rows, width):
    stream = io.StringIO()
    Console(file=stream, width=width).print(draw_extension(rows))
    text = stream.getvalue()
    (line,) = [line for line in text.splitlines() if "japanese" in line]
    assert line.split() == ["japanese", "2.50", "4.00", "2.95", "2.85", "2.20", "2.41"]
    assert max(map(len, text.splitlines())) <= width


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
        (0, "after", 2.38, "the larger vocabulary brings the new language 0.030 bits per byte"),
        (0, "extension", Extension(10_000, 9_000, 2.9, 2.41), "takes 0.90 of its tokens with the larger vocabulary"),
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
        make_rows(CORPORA, {"continued": path, "without-replay": path}, YARDSTICKS)
