"""Charts: every value stands in the table, places are those of the scales, nothing of a name is markup."""

import json
import re
from html import unescape
from itertools import combinations

import pytest

from tsugiki.pages.axes import Axis
from tsugiki.pages.canvas import text_width
from tsugiki.pages.document import document, section
from tsugiki.pages.dot_chart import Dot, dot_chart, verdict
from tsugiki.pages.heat_map import Cell, heat_map, shade_of
from tsugiki.pages.line_chart import Line, Mark, line_chart
from tsugiki.pages.scatter import Level, Point, pareto, scatter

STEP, LOSS = Axis("step", digits=",.0f"), Axis("loss", digits=".2f")


def cells(markup: str) -> list[str]:
    return [unescape(re.sub(r"<.*?>", "", cell)) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", markup)]


def stops(markup: str) -> dict:
    return json.loads(unescape(re.search(r'data-stops="(.*?)"', markup)[1]))


def wide(markup: str) -> str:
    return re.search(r'<svg[^>]*class="wide".*?</svg>', markup, re.S)[0]


def test_a_curve_is_drawn_where_its_values_are():
    chart = line_chart("c", [Line("a", [0, 5, 10], [1.0, 3.0, 2.0])], Axis("step"), Axis("loss", low=0.0, high=4.0))
    left, top, width, height = map(float, re.search(r'data-box="(.*?)"', wide(chart))[1].split()[:4])
    path = re.search(r'<path d="(.*?)" class="line s0"', wide(chart))[1]
    points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", path)[1:]]
    expected = [(left + width * x / 10, top + height * (1 - y / 4)) for x, y in ((0, 1), (5, 3), (10, 2))]
    assert points == [pytest.approx(point, abs=0.11) for point in expected]
    assert stops(chart)["x"] == [0, 0.5, 1]
    assert stops(chart)["s"][0]["y"] == [0.25, 0.75, 0.5]


def test_a_curve_is_broken_where_a_value_is_no_number_and_not_where_a_source_has_no_point():
    lines = [Line("a", [1, 2, 3, 4], [1.0, None, 1.0, 1.0]), Line("b", [1, 3, 4], [2.0, 2.0, 2.0])]
    chart = line_chart("c", lines, STEP, LOSS)
    a, b = (re.search(rf'<path d="([^"]*)" class="line s{n}"', wide(chart))[1] for n in (0, 1))
    assert a.count("M") == 2
    assert b.count("M") == 1
    assert "not finite" in cells(chart)


def test_long_curves_are_small_and_their_table_says_from_where_to_where():
    chart = line_chart("c", [Line("a", range(25_000), [2.0 + (s == 17_123) * 40 for s in range(25_000)])], STEP, LOSS)
    assert len(re.search(r'<path d="([^"]*)" class="line s0"', wide(chart))[1]) < 20_000
    assert len(chart) < 150_000
    row = cells(chart).index("17,083 to 17,124")
    assert cells(chart)[row + 1] == "2.00 to 42.00"


def test_marks_are_drawn_explained_and_listed():
    marks = [Mark(2, "step 2, loss 9", "spike"), Mark(4, "step_00000004", "checkpoint")]
    chart = line_chart("c", [Line("a", [1, 2, 3], [1.0, 9.0, 1.0])], STEP, LOSS, marks=marks)
    assert wide(chart).count('<polygon points="') + wide(chart).count("<polygon ") >= 2
    assert "▼ spike   ▲ checkpoint" in chart
    assert cells(chart)[-2:] == ["4", "step_00000004"]


def test_several_curves_are_named_at_their_ends_and_one_is_not():
    two = line_chart("c", [Line("ja & en", [1, 2], [1.0, 2.0]), Line("en", [1, 2], [1.0, 2.0])], STEP, LOSS)
    assert ">ja &amp; en</text>" in wide(two)
    one = line_chart("c", [Line("alone", [1, 2], [1.0, 2.0])], STEP, LOSS)
    assert "alone" not in re.sub(r"<details>.*", "", wide(one))


def test_the_front_is_what_no_other_point_beats():
    points = [Point("a", 1, 5), Point("b", 2, 4), Point("c", 1, 4), Point("d", 3, 1), Point("e", 2, 4)]
    assert [p.name for p in pareto(points, ("higher", "higher"))] == ["a", "b", "e", "d"]
    assert [p.name for p in pareto(points, ("lower", "higher"))] == ["a"]
    chart = scatter("s", points, Axis("gain"), Axis("loss"), front=("higher", "higher"), zero=True)
    assert cells(chart)[:4] == ["", "gain", "loss", "front"]
    assert cells(chart).count("yes") == 4


def test_names_of_points_do_not_lie_on_each_other():
    points = [Point(f"a long name, number {n}", 1.0 + 0.001 * n, 1.0 + 0.002 * n) for n in range(6)]
    drawn = wide(scatter("s", points, Axis("x", low=0.0, high=2.0), Axis("y", low=0.0, high=2.0)))
    places = re.findall(r'<text x="([\d.-]+)" y="([\d.-]+)"[^>]*>a long name', drawn)
    boxes = [(float(x), float(y)) for x, y in places]
    assert len(boxes) == 6
    width = 6.7 * len("a long name, number 0")
    assert not [(a, b) for a, b in combinations(boxes, 2) if abs(a[0] - b[0]) < width and abs(a[1] - b[1]) < 13]


def test_a_name_without_a_place_of_its_own_is_left_to_the_table():
    points = [Point(f"name {n}", 1.0, 1.0, strong=n == 19) for n in range(20)]
    chart = scatter("s", points, Axis("x", low=0.5, high=1.5), Axis("y", low=0.5, high=1.5))
    drawn = wide(chart)
    left, top, width, height, *_ = map(float, re.findall(r'data-box="([^"]*)"', drawn)[0].split())
    places = [(float(x), float(y)) for x, y in re.findall(r'<text x="([\d.-]+)" y="([\d.-]+)"[^>]*>name', drawn)]
    assert 4 <= len(places) < 20
    assert "name 19</text>" in drawn  # the one to look at comes first
    assert not [(a, b) for a, b in combinations(places, 2) if abs(a[0] - b[0]) < 46 and abs(a[1] - b[1]) < 13]
    assert all(left <= x <= left + width - 46 and top + 10 <= y <= top + height for x, y in places)
    assert [name for name in (point.name for point in points) if name not in chart] == []


def test_names_of_levels_that_lie_close_are_moved_apart():
    levels = [Level(1.0, "base"), Level(1.02, "allowed", limit=True)]
    drawn = wide(scatter("s", [Point("a", 1.0, 9.0), Point("b", 2.0, 1.0)], Axis("x"), Axis("y"), levels=levels))
    base, allowed = (float(re.findall(rf'y="([\d.]+)"[^>]*>{name}<', drawn)[0]) for name in ("base", "allowed"))
    assert base - allowed >= 12.9


def test_the_name_of_a_point_does_not_lie_on_that_of_a_level():
    points = [Point("the one to look at, with a long name", 1.0, 9.0, strong=True), Point("b", 3.0, 1.0)]
    drawn = wide(scatter("s", points, Axis("x"), Axis("y"), levels=[Level(1.4, "allowed", "x", limit=True)]))
    name = re.search(r'<text x="([\d.-]+)" y="([\d.-]+)"[^>]*>the one', drawn)
    level = re.search(r'<text x="([\d.-]+)" y="([\d.-]+)"[^>]*>allowed', drawn)  # its x is where the name ends
    assert name
    assert level
    beside = float(level[1]) - text_width("allowed") > float(name[1]) + text_width(
        "the one to look at, with a long name"
    )
    assert beside or float(name[1]) > float(level[1]) or abs(float(name[2]) - float(level[2])) >= 13


def test_points_with_limits_have_them_in_the_table_and_inside_the_axes():
    chart = scatter("s", [Point("a", 1.0, 2.0, x_limits=(0.5, 9.0), strong=True)], Axis("x"), Axis("y"))
    assert "1 [0.5, 9]" in cells(chart)
    assert 0 < stops(chart)["x"][0] < 0.3


def test_levels_stay_in_sight_beyond_all_points_and_joined_points_are_one_line():
    points = [Point("a", 1.0, 2.0), Point("b", 10.0, 3.0), Point("c", 100.0, 2.0)]
    levels = [Level(9.0, "base"), Level(1000.0, "allowed", "x", limit=True)]
    drawn = wide(scatter("s", points, Axis("x", log=True), Axis("y"), joined=[points[:2], points[2:]], levels=levels))
    left, top, width, height, *_ = map(float, re.findall(r'data-box="([^"]*)"', drawn)[0].split())
    found = re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="level', drawn)
    (x1, y1, x2, y2), (left_of, _, right_of, _) = (tuple(map(float, each)) for each in found)
    assert (x1, x2) == pytest.approx((left, left + width), abs=0.1)
    assert top <= y1 == y2 < top + 0.2 * height
    assert left + 0.8 * width < left_of == right_of <= left + width
    (line,) = re.findall(r'<polyline points="([^"]*)" class="joined"', drawn)
    assert len(line.split()) == 2  # a point alone has no line


@pytest.mark.parametrize(
    ("value", "limits", "better", "found"),
    [(0.1, (0.05, 0.2), "higher", "gain"), (0.1, (0.05, 0.2), "lower", "loss"), (-0.1, (-0.2, -0.05), "lower", "gain"),
     (-0.1, (-0.2, -0.05), "higher", "loss"), (0.1, (-0.1, 0.2), "higher", "noise"), (0.1, None, "higher", "noise")],
)  # fmt: skip
def test_gain_loss_or_noise(value, limits, better, found):
    assert verdict(value, limits, better) == found


def test_dots_say_their_verdict_in_words_too():
    dots = [
        Dot("sums", 0.1, (0.05, 0.2), better="higher", group="math"),
        Dot("text", 0.2, None, better="lower"),
        Dot("x", None),
    ]
    chart = dot_chart("d", dots, Axis("difference", digits="+.3f"))
    assert "gain" in cells(chart)
    assert "no interval known" in cells(chart)
    assert "not measured" in wide(chart)


def test_a_heat_map_shades_by_size_or_by_gain_and_loss():
    assert [shade_of(v, [0, 10], None) for v in (0, 5, 10, None)] == ["h0", "h2", "h5", "none"]
    assert [shade_of(v, [-1, 0.5], "lower") for v in (-1, -0.5, 0, 0.5)] == ["h5", "h3", "h0", "l3"]
    assert [shade_of(v, [-1, 0.5], "lower") for v in (-1e-17, 1e-17)] == ["h0", "h0"]  # what sums leave of 0
    assert "−0.000" not in heat_map("h", ["math"], ["ja"], [[Cell(-1e-17)]], better="lower")
    row = [Cell(-0.12345, (-0.2, -0.05), "*"), Cell(None)]
    chart = heat_map("h", ["math"], ["ja", "en"], [row], better="lower", row_title="source")
    assert cells(chart) == ["source", "ja", "en", "math", "−0.123 [−0.200, −0.050] *", "–"]
    assert stops(chart)["t"] == ["math → ja", "math → en"]
    assert stops(chart)["s"][0]["v"] == ["−0.123 [−0.200, −0.050] *", "–"]
    assert ">−0.123*</text>" in wide(chart)


def test_a_cell_of_a_heat_map_shows_as_many_digits_as_it_holds():
    many = [f"column {n}" for n in range(7)]
    chart = heat_map("h", ["math"], many, [[Cell(-0.1234, None, "*")] * 7], better="higher")
    assert wide(chart).count(">−0.123*</text>") == 7
    assert chart.count(">−0.12*</text>") + chart.count(">−0.1*</text>") == 7  # on a phone
    assert cells(chart)[8:] == ["math", *["−0.123 *"] * 7]


def test_dots_show_what_they_are_the_mean_of():
    chart = dot_chart("d", [Dot("low", 0.2, group="code", points=(0.1, 0.3)), Dot("high", 0.2)], Axis("x"), zero=False)
    assert wide(chart).count('class="part"') == 2
    assert cells(chart) == ["", "x", "mean of", "code, low", "0.2", "0.1, 0.3", "high", "0.2", ""]
    assert stops(chart)["s"][0]["v"] == ["0.2 (0.1, 0.3)", "0.2"]


def test_names_are_text_everywhere():
    name = "</svg><script>alert(1)</script>\"'"
    axis = Axis(name)
    charts = [
        line_chart(name, [Line(name, [1, 2], [1.0, 2.0]), Line(name, [1], [1.0])], axis, axis, marks=[Mark(1, name, kind) for kind in ("spike", "checkpoint", "note")], note=name),
        scatter(name, [Point(name, 1, 1, group=name), Point("b", 1, 1)], axis, axis, levels=[Level(1, name)], note=name),
        dot_chart(name, [Dot(name, 1.0, group=name)], axis, note=name),
        heat_map(name, [name], [name], [[Cell(1.0, None, name)]], row_title=name, column_title=name, note=name),
    ]  # fmt: skip
    page = document(name, [section(name, *charts)], lead=name, foot=name)
    assert page.count("<script>") == page.count("</script>") == 1
    assert "alert(1)</script>" not in page


def test_charts_without_values_do_not_fail():
    for chart in (
        line_chart("c", [], STEP, LOSS),
        line_chart("c", [Line("a", [], [])], STEP, LOSS),
        dot_chart("d", [], LOSS),
    ):
        assert "<svg" in chart


def test_a_page_allows_its_own_style_and_script_alone():
    import base64
    import hashlib

    page = document("t", [section("a", "x"), section("b", "y")])
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)[1])
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)[1]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert " style=" not in page
    assert '<a href="#b">b</a>' in page
