"""Averages are over the same items for all rows, marks mean more than noise, and names are never markup."""

import json
import math

import numpy as np
import pytest
from evaluation_results import missing, model, scored
from rich.console import Console

from tsugiki.errors import DataError
from tsugiki.evaluation.published import COLUMNS, published_rows
from tsugiki.evaluation.table import make_table
from tsugiki.evaluation.table_forms import draw, to_json, to_markdown
from tsugiki.evaluation_files import TaskResult
from tsugiki.statistics import average_interval, difference_interval, score_interval

GENERATOR = np.random.default_rng(4)
BASE = (GENERATOR.random(400) < 0.5).astype(float)
BETTER = np.maximum(BASE, GENERATOR.random(400) < 0.2)
"""Right wherever BASE is, and on a fifth of the other items."""
GRADED = GENERATOR.beta(2, 2, 90)


def shown(table, width=120):
    console = Console(width=width, color_system=None, soft_wrap=True, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(draw(table, width))
    return capture.get()


def notes(table):
    return "\n".join(table.notes)


def full_suite(name, values=BASE, leave=()):
    tasks = [(task, language) for language, names in COLUMNS.items() for task in names]
    return model(name, *(
        missing(task, "no file test.csv", language) if task in leave
        else scored(task, values, language=language, title=task.removeprefix("swallow_")[:8])  # as short as they are
        for task, language in tasks
    ))  # fmt: skip


def test_a_block_a_language_japanese_first_and_columns_in_the_order_of_the_suite():
    table = make_table([
        model(
            "base", scored("gsm8k", BASE, language="en"), scored("jsquad", BASE), scored("piqa_de", BASE, language="de"),
            scored("niilc", BASE), scored("openbookqa", BASE, language="en"),
        )
    ])  # fmt: skip
    assert [(block.name, *block.titles) for block in table.blocks] == [
        ("Japanese", "jsquad", "niilc"), ("English", "gsm8k", "openbookqa"), ("de", "piqa_de")
    ]  # fmt: skip


def test_scores_and_averages_with_their_intervals():
    table = make_table([model("base", scored("jsquad", BASE), scored("niilc", GRADED))])
    cells, average = table.rows[0].cells, table.rows[0].averages["ja"]
    assert cells["jsquad"].score == score_interval(scored("jsquad", BASE).sample)
    assert average.score.estimate == pytest.approx((BASE.mean() + GRADED.mean()) / 2)
    assert average.score == average_interval([cells["jsquad"].score, cells["niilc"].score])
    text = shown(table)
    for figure in (BASE.mean(), GRADED.mean(), average.score.estimate, average.score.half_width):
        assert f"{figure:.3f}" in text
    assert "of 2" in text


def test_differences_to_the_baseline_are_paired_and_marked_only_beyond_noise():
    base = model("base", scored("jsquad", BASE), scored("niilc", GRADED))
    same = GRADED + np.repeat([-0.1, 0.104], 45)  # 0.002 better, by differences of 0.1
    tuned = model("tuned", scored("jsquad", BETTER), scored("niilc", same))
    table = make_table([base, tuned], baseline=base)
    first, second = table.rows
    assert all(cell.difference is None for cell in first.cells.values())
    expected = difference_interval(scored("jsquad", BETTER).sample, scored("jsquad", BASE).sample)
    assert second.cells["jsquad"].difference == expected
    assert expected.estimate == pytest.approx(BETTER.mean() - BASE.mean())
    assert second.averages["ja"].difference.estimate == pytest.approx((expected.estimate + 0.002) / 2)

    text, markdown = shown(table), to_markdown(table)
    assert f"{expected.estimate:+.3f}▲" in text
    assert f"**▲ {expected.estimate:+.3f}** ±{expected.half_width:.3f}" in markdown
    assert "+0.002 " in text
    assert "| +0.002 ±0.02" in markdown

    backwards = make_table([tuned, base], baseline=tuned)
    assert f"{-expected.estimate:+.3f}▼" in shown(backwards)


def test_pairs_are_found_by_id_whatever_the_order():
    shuffled = GENERATOR.permutation(90)
    base = model("base", scored("niilc", GRADED))
    tuned = model("tuned", scored("niilc", GRADED[shuffled] + 0.01, ids=[f"i{place}" for place in shuffled]))
    cell = make_table([base, tuned], baseline=base).rows[1].cells["niilc"]
    assert (cell.difference.low, cell.difference.high) == pytest.approx((0.01, 0.01))


def test_a_task_that_no_row_has_leaves_the_average_and_a_line_says_so():
    tasks = [scored("jsquad", BASE), missing("xlsum_ja", "no file test.csv"), scored("niilc", GRADED)]
    table = make_table([model("a", *tasks), model("b", *tasks)])
    assert table.rows[0].averages["ja"].score.estimate == pytest.approx((BASE.mean() + GRADED.mean()) / 2)
    assert "over 2 tasks, without xlsum_ja" in notes(table)
    assert "–  xlsum_ja: no file test.csv." in notes(table)
    row = next(line for line in to_markdown(table).splitlines() if line.startswith("| a "))
    assert row.split("|")[4].strip() == "–"  # name, average, jsquad, xlsum_ja
    assert "-1" not in shown(table)


def test_a_task_that_one_row_lacks_leaves_every_average_blank_and_names_it():
    whole = model("whole", scored("jsquad", BASE), scored("niilc", GRADED), scored("gsm8k", BASE, language="en"))
    part = model("part", scored("jsquad", BASE), missing("niilc"), scored("gsm8k", BASE, language="en"))
    table = make_table([whole, part], baseline=whole)
    assert [row.averages["ja"].score for row in table.rows] == [None, None]
    assert [row.averages["en"].score is None for row in table.rows] == [False, False]
    assert "No average for Japanese: niilc is missing in part." in notes(table)
    assert "–  niilc: no file (part)." in notes(table)
    assert table.rows[1].cells["jsquad"].difference is not None


def test_other_items_leave_the_average_blank_and_pair_what_both_have():
    whole = model("whole", scored("jsquad", BASE))
    few = model("few", scored("jsquad", BETTER[:50], total=400))
    table = make_table([whole, few], baseline=whole)
    assert [row.averages["ja"].score for row in table.rows] == [None, None]
    assert "jsquad has other items from row to row (400 in whole, 50 in few)" in notes(table)
    assert table.rows[1].cells["jsquad"].difference.estimate == pytest.approx(BETTER[:50].mean() - BASE[:50].mean())
    assert "jsquad: the difference is on the 50 items that both have (few)." in notes(table)
    apart = model("apart", scored("jsquad", BASE, ids=[f"x{number}" for number in range(400)]))
    assert make_table([whole, apart], baseline=whole).rows[1].cells["jsquad"].difference is None


def test_limits_shots_chance_and_notes_stand_below_the_table():
    table = make_table([
        model(
            "base", scored("jcom", BASE, total=1119, chance=0.2), scored("jsquad", BASE, notes=["3 prompts were cut"]),
            scored("xlsum", GRADED, shots=1),
        )
    ])  # fmt: skip
    assert "Items: jcom 400 of 1,119." in notes(table)
    assert "Shots: 4, but xlsum 1." in notes(table)
    assert "jsquad: 3 prompts were cut." in notes(table)
    assert "Guessing gets: jcom 0.200." in notes(table)


def test_what_is_not_comparable_with_published_scores_has_a_dagger():
    tasks = [scored("jsquad", BASE, comparable=False), scored("niilc", GRADED)]
    table = make_table([model("base", *tasks)])
    assert f"{BASE.mean():.3f}†" in shown(table)
    assert f"{GRADED.mean():.3f}†" not in shown(table)
    assert table.rows[0].averages["ja"].dagger
    assert "†  Not comparable with published scores: jsquad." in notes(table)
    assert to_json(table)["rows"][0]["tasks"]["jsquad"]["comparable"] is False


@pytest.mark.parametrize(("suite", "marked"), [("swallow", True), ("default", False)])
def test_some_of_the_items_are_not_what_was_published(suite, marked):
    table = make_table([model("base", scored("jsquad", BASE, total=4442), suite=suite)])
    assert table.rows[0].cells["jsquad"].dagger is marked


def test_published_rows_below_ones_own():
    table = make_table([full_suite("mine")], published=published_rows("swallow"))
    swallow = next(row for row in table.rows if row.name == "Swallow-MS-7b")
    assert swallow.averages["ja"].score.estimate == 0.4524
    assert swallow.cells["swallow_niilc"].score.estimate == 0.5519
    text, markdown = shown(table), to_markdown(table)
    assert text.index("mine") < text.index("published:") < text.index("Swallow-MS-7b")
    assert "| Swallow-MS-7b (published) | 0.452 | 0.857 |" in markdown
    assert markdown.count("calm2-7b (published)") == 1  # it has no English scores
    assert "Zenn" in notes(table)
    assert "nan" not in text + markdown


def test_published_averages_are_blank_beside_averages_over_other_tasks():
    table = make_table([full_suite("mine", leave=["swallow_xlsum_ja"])], published=published_rows("swallow"))
    mine, swallow = (next(row for row in table.rows if row.name == name) for name in ("mine", "Swallow-MS-7b"))
    assert mine.averages["ja"].score is not None
    assert swallow.averages["ja"].score is None
    assert swallow.averages["en"].score is not None
    assert swallow.cells["swallow_xlsum_ja"].score is not None
    assert "Published averages for Japanese are over 8 tasks, other ones than here, and left blank." in notes(table)


NASTY = "[bold]m\x1b[31mo|del\u202e*_`<b>\n`"


def test_names_and_reasons_are_data():
    table = make_table([model(NASTY, scored("jsquad", BASE), missing("niilc", "no [file] a|b\n\x07"))])
    text, markdown = shown(table), to_markdown(table)
    assert "[bold]m" in text.replace("\n", "")
    for form in (text, markdown):
        assert "\x1b" not in form
        assert "\x07" not in form
        assert "\u202e" not in form
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {5}
    assert r"\<b\>" in markdown


def test_a_column_is_as_wide_as_a_long_name_asks_for():
    text = shown(
        make_table([model("m", scored("t", BASE, title="novels-2.jsonl"), scored("u", BASE, title="a b"))]), 60
    )
    assert "novels-2.jsonl" in text


def test_one_task_has_no_average_beside_it_and_bits_say_which_way_is_better():
    bits = scored("text", [[100.0, 90.0], [80.0, 70.0]], combine="bits_per_byte", language="ja: bits per byte")
    table = make_table([model("m", bits, scored("sums", BASE, language="math"))])
    assert [block.name for block in table.blocks] == ["Mathematics", "Japanese: bits per byte"]
    for text in (shown(table, 80), to_markdown(table)):
        assert "average" not in text
        assert "Bits per byte: fewer are better." in text


@pytest.mark.parametrize("width", [40, 80, 100, 120, 250])
def test_a_terminal_of_any_width_shows_every_figure(width):
    base, tuned = full_suite("a-rather-long-organisation/and-a-rather-long-model-name-7b"), full_suite("tuned", BETTER)
    text = shown(make_table([base, tuned], baseline=base), width)
    assert text.count(f"{BETTER.mean():.3f}") == 14 + 2
    assert text.count(f"{BETTER.mean() - BASE.mean():+.3f}▲") == 14 + 2
    tables = text[: text.index("±: half")]
    assert max(len(line.rstrip()) for line in tables.splitlines()) <= width
    assert text.count("Japanese, suite swallow") == {40: 9, 80: 2, 100: 2}.get(width, 1)


def test_json_has_full_figures_and_both_limits():
    base, tuned = model("base", scored("jsquad", BASE), missing("niilc")), model("tuned", scored("jsquad", BETTER))
    content = json.loads(json.dumps(to_json(make_table([base, tuned], baseline=base)), allow_nan=False))
    cell = content["rows"][1]["tasks"]["jsquad"]
    expected = score_interval(scored("jsquad", BETTER).sample)
    assert (cell["score"], cell["interval"]) == (expected.estimate, [expected.low, expected.high])
    assert cell["difference"]["outside_zero"] is True
    assert content["rows"][0]["tasks"]["niilc"] == {"score": None, "missing": "no file"}
    assert content["languages"][0]["averaged"] == ["jsquad"]
    assert content["baseline"] == "base"
    with_published = to_json(make_table([full_suite("mine")], published=published_rows("swallow")))
    assert with_published["rows"][-1]["tasks"]["swallow_niilc"] == {"score": 0.5066, "interval": None}
    json.dumps(with_published, allow_nan=False)


def test_one_item_shows_its_score_without_an_interval():
    table = make_table(
        [base := model("base", scored("jsquad", [0.25])), model("tuned", scored("jsquad", [0.5]))], baseline=base
    )
    assert math.isnan(table.rows[1].cells["jsquad"].difference.low)
    assert "nan" not in shown(table) + to_markdown(table) + json.dumps(to_json(table), allow_nan=False)
    assert "+0.250" in shown(table)


def test_results_of_two_suites_or_metrics_are_no_table():
    one = model("one", scored("jsquad", BASE))
    with pytest.raises(DataError, match=r"swallow for one; default for two.*--suite"):
        make_table([one, model("two", scored("jsquad", BASE), suite="default")])
    with pytest.raises(DataError, match="f1 for two and acc for one"):
        make_table([one, model("two", scored("jsquad", BASE, metric="f1"))], baseline=one)
    with pytest.raises(ValueError):
        make_table([one], baseline=model("two", scored("jsquad", BASE)))


def test_fewer_bits_per_byte_are_an_improvement_in_cells_and_average():
    nats, sizes = GENERATOR.uniform(80, 120, 60), np.full(60, 100.0)

    def text(factor):
        return TaskResult(
            "text_ja", "novels", "ja: bits per byte", "bits per byte", "bits_per_byte", [str(n) for n in range(60)],
            np.stack([nats * factor, sizes], axis=1), 60, 0,
        )  # fmt: skip

    base, better = model("base", text(1.0)), model("better", text(0.9))
    table = make_table([base, better], baseline=base)
    cell, average = table.rows[1].cells["text_ja"], table.rows[1].averages["ja: bits per byte"]
    assert cell.score.estimate == pytest.approx(nats.sum() * 0.9 / np.log(2) / sizes.sum())
    for found in (cell, average):
        assert found.difference.outside_zero
        assert found.difference.estimate < 0
        assert not found.higher_is_better
    console = Console(width=120, color_system="truecolor", force_terminal=True)
    with console.capture() as capture:
        console.print(draw(table, 120))
    assert "32m" in capture.get()  # green
    assert "31m" not in capture.get()
