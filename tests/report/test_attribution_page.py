"""The page of an attribution as text: the answers first, and every table of what was found."""

import re
from dataclasses import replace

import pytest
from made_attributions import made_attribution, made_transfer, write_attribution
from page_texts import HOSTILE, rows_of, text_of

from tsugiki.errors import DataError, RecipeError
from tsugiki.estimates import Estimate
from tsugiki.pipeline import run_report
from tsugiki.report.write import write_attribution_report


def written(folder, result) -> tuple[str, str]:
    page, markdown = write_attribution_report(write_attribution(folder, result))
    return page.read_text(), markdown.read_text()


def test_the_answers_in_words_come_first(tmp_path):
    result = made_attribution()
    page, markdown = written(tmp_path, result)
    lead = text_of(page[: page.index("<nav")])
    title = "From code without, rate low to code with, rate high (at precision fp32):"
    assert title in lead
    assert title in markdown
    number = r"([+−]\d\.\d{4}) \[[+−]\d\.\d{4}, [+−]\d\.\d{4}\]"
    found = re.search(
        rf"sums \(more is better\): the whole change {number}: data alone {number}, rate alone {number}, only together "
        rf"{number}\.", lead,
    )  # fmt: skip
    (change,) = (one for one in result.attribution.decompositions if one.metric == "sums")
    values = [change.total.value, change.alone["data"].value, change.alone["rate"].value, change.rest.value]
    assert [float(one.replace("−", "-")) for one in found.groups()] == pytest.approx(values, abs=1e-4)
    assert "- bits\\_per\\_byte:en (less is better): the whole change +0.0" in markdown
    assert "Method: Ordinary least squares over 16 runs" in lead


def test_without_a_change_to_explain_the_effects_that_are_certain_are_the_answer(tmp_path):
    page, _ = written(tmp_path, made_attribution(compare=False))
    lead = text_of(page[: page.index("<nav")])
    assert "sums (more is better): code, with - without, +0.0500" in lead
    assert "bits_per_byte:en (less is better): rate, high - low, +0.04" in lead
    assert "precision" not in lead.partition("code without, with")[0]
    assert "The change in parts" not in page


def test_a_change_is_shown_in_its_parts_which_add_up(tmp_path):
    page, markdown = written(tmp_path, made_attribution())
    title, name = "From code without, rate low to code with, rate high (at precision fp32)", "sums (more is better)"
    assert f"## {title}" in markdown
    (row, other) = rows_of(page, "The change in parts")
    assert row[0] == name
    whole, *parts = [float(cell.split()[0].replace("−", "-")) for cell in row[1:]]
    assert whole == pytest.approx(sum(parts), abs=2e-4)
    assert whole == pytest.approx(-0.1, abs=0.01)
    assert parts == pytest.approx([0, -0.2, 0.1], abs=0.01)
    assert all(re.fullmatch(r"[+−]0\.\d{4} ±0\.\d{4}", cell) for cell in row[1:] + other[1:])
    figures = re.findall("<figcaption>(.*?)</figcaption>", page)
    assert figures[:2] == [name, "bits_per_byte:en (less is better)"]


def test_effects_are_marked_where_they_are_more_than_noise(tmp_path):
    result = made_attribution()
    page, _ = written(tmp_path, result)
    rows = rows_of(page, "Effects")
    effects = [row for row in rows if len(row) == 4]
    marked = {(row[0], place) for row in effects for place in (2, 3) if "*" in row[place]}
    assert marked == {("code", 2), ("rate", 2), ("code × rate", 2), ("rate", 3)}
    assert effects[3][:2] == ["code × rate", "(with - without) at high minus at low"]
    kinds = dict(re.findall(r'<span class="(gain|loss)">([+−][\d.]+) \*</span>', page))
    assert set(kinds) == {"gain", "loss"}  # +.1 sums is a gain, .05 more bits a byte a loss
    assert re.search(r'<span class="loss">\+0\.0\d+ \*', page)


def test_cells_stand_with_the_base_and_their_seeds(tmp_path):
    result = made_attribution(failed="loss was not finite")
    page, markdown = written(tmp_path, result)
    rows = rows_of(page, "Cells")
    assert rows[0] == ["base", "", "", "0.8000", "2.0000", ""]
    assert [row[-1] for row in rows[1:]] == ["2 of 2"] * 7 + ["1 of 2"]
    assert "| with | high | bf16 | 0.6" in markdown
    chart = page[page.index("Triangles: means") :]
    first = result.cells[0].runs
    seeds = ", ".join(f"{run.measured['sums']:.4f}" for run in first)
    assert f"code without, low, fp32 {result.cells[0].means['sums']:.4f} {seeds}" in text_of(chart)
    assert rows_of(page, "Runs and recipes") == [["cell-7, seed 1", "diverged", "loss was not finite", "12"]]


def test_spikes_are_counted_by_cell_and_correlations_shown_raw_and_adjusted(tmp_path):
    result = made_attribution()
    page, _ = written(tmp_path, result)
    spikes = rows_of(page, "Spikes")
    assert [row[-1] for row in spikes] == ["0", "0", "6", "6"] * 2
    assert spikes[2] == ["without", "high", "fp32", "3 at seed 1, 3 at seed 2", "6"]
    (pair,) = rows_of(page, "Do metrics move together?")
    found = result.correlations[0]
    assert pair[:2] == ["sums and bits_per_byte:en", "16"]
    assert pair[2] == f"{found.raw:.3f}".replace("-", "−")
    assert pair[3].startswith(f"{found.after:.3f} [".replace("-", "−"))
    uncounted = [
        replace(cell, runs=tuple(replace(run, spikes=None) for run in cell.runs)) for cell in result.cells
    ]  # fmt: skip
    page, _ = written(tmp_path, replace(result, cells=tuple(uncounted), correlations=()))
    assert "Spikes</h2>" not in page
    assert "move together" not in page


def test_a_transfer_is_a_matrix_of_each_unit_and_way(tmp_path):
    result = made_transfer()
    page, markdown = written(tmp_path, result)
    titles = re.findall("<figcaption>(.*?)</figcaption>", page)
    assert titles[:4] == [
        "What a source does added alone, in bits per byte (less is better)",
        "What a source does added alone, in score (more is better)",
        "What a source does beside all others, in bits per byte (less is better)",
        "What a source does beside all others, in score (more is better)",
    ]
    found = {(one.source, one.metric): one for one in result.transfer.cells}
    (sums, code) = rows_of(page, "What each source does")
    effect = found["sums", "bits_per_byte:code"].added
    assert f"{effect.value:.3f} [{effect.low:.3f}, {effect.high:.3f}] *".replace("-", "−") == sums[2]
    assert "*" not in code[1]
    assert all(words in text_of(page[: page.index("<nav")]) for words in result.transfer.words)
    assert "| source | bits\\_per\\_byte:sums, less is better, alone |" in markdown
    assert "none of the sources" in text_of(page)


def test_before_anything_has_ended_the_page_says_what_is_missing(tmp_path):
    result = made_attribution()
    waiting = [
        replace(cell, means={}, runs=tuple(replace(run, state="waiting", measured={}, spikes=None) for run in cell.runs))
        for cell in result.cells
    ]  # fmt: skip
    nothing = replace(
        result, cells=tuple(waiting), base={}, attribution=None, correlations=(), problem="no run has finished yet"
    )
    page, markdown = written(tmp_path, nothing)
    for text in (text_of(page), markdown):
        assert "16 of 16 runs have not ended" in text
        assert "othing can be estimated: no run has finished yet" in text
    assert "<figure" not in page


def test_without_intervals_nothing_claims_to_be_certain(tmp_path):
    result = made_attribution(compare=False)
    bare = [replace(one, estimate=Estimate(one.estimate.value), certain=None) for one in result.attribution.effects]
    page, markdown = written(tmp_path, replace(result, attribution=replace(result.attribution, effects=tuple(bare))))
    rows = [row for row in rows_of(page, "Effects") if len(row) == 4]
    assert len(rows) == 6
    assert all(re.fullmatch(r"[+−]0\.\d{4} no interval known", cell) for row in rows for cell in row[2:])
    assert "more than noise." not in text_of(page[: page.index("<nav")]) + markdown.partition("Method")[0]


def test_names_and_reasons_are_shown_as_text(tmp_path):
    for result in (made_attribution(hostile=HOSTILE, failed=HOSTILE), made_transfer(hostile=HOSTILE)):
        page, markdown = written(tmp_path, result)
        assert page.count("<script>") == 1
        assert HOSTILE in text_of(page).replace("&quot;", '"')
        for block in re.findall(r"(?m)(?:^\|.*\n)+", markdown):
            widths = {line.count("|") - line.count("\\|") for line in block.splitlines()}
            assert len(widths) == 1, block


def test_the_verb_takes_the_folder_of_an_attribution_alone(tmp_path):
    folder, said = write_attribution(tmp_path / "effects", made_attribution()), []
    run_report([folder], said.append)
    assert said == [f"report     {folder / 'report.html'}, report.md"]
    with pytest.raises(RecipeError, match="is an attribution, whose page holds all its runs: name it alone"):
        run_report([folder, tmp_path], said.append)


@pytest.mark.parametrize(("content", "error"), [("{}", DataError), ("other", RecipeError)])
def test_another_layout_is_refused_and_nothing_is_written(tmp_path, content, error):
    folder = write_attribution(tmp_path, replace(made_attribution(), format=2))
    if content == "{}":
        (folder / "attribution.json").write_text(content)
    with pytest.raises(error, match=r"attribution\.json"):
        write_attribution_report(folder)
    assert [path.name for path in folder.iterdir()] == ["attribution.json"]
