"""The page in a real browser, from the file system: no request, no error, every chart, and nothing of others' text runs.

Needs Chromium and the package playwright; where `TSUGIKI_REQUIRE_BROWSER` is set (as continuous integration does) their
absence is a failure.
"""

import functools
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_attributions import made_attribution, made_transfer, write_attribution
from made_sweeps import made_sweep, write_sweep
from report_runs import make_run, step_line, write_lines

from tsugiki.pages import markup
from tsugiki.report.write import PAGE, write_attribution_report, write_report, write_sweep_report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--process-per-site",
]  # fmt: skip
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1100, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1100, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "has_touch": True},
}
HOSTILE = (
    "</title></style></script></textarea></svg>\"'><script>window.hostile=1</script><img src=x onerror=window.hostile=1>"
    "<svg onload=window.hostile=1><a href=javascript:window.hostile=1>x</a> --></pre>{{7*7}}"
)
EXTENDED = {"vocabulary": {"add": 1536, "language": "ja", "sources": ["novels"]}}


class Tab:
    """A tab of the browser: the page that is open in it, and what went wrong there."""

    def __init__(self, context: Any):
        self.page = context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> "Tab":
        self.page.emulate_media(media="screen")
        self.page.mouse.move(0, 0)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.goto(path.as_uri())
        return self

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture(scope="module")
def see() -> Iterator[Any]:
    """see(path, "phone"): the page opened offline in the tab of that view, in place of the one before. (A tab for each
    page would start a process for each.)"""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    missing = None if CHROMIUM else "no Chromium here (Debian: apt install chromium fonts-noto-cjk)"
    missing = missing if sync_playwright else "the package playwright is not installed"
    if missing or sync_playwright is None:
        assert not os.environ.get("TSUGIKI_REQUIRE_BROWSER"), missing
        pytest.skip(missing or "")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        tab = functools.cache(lambda view: Tab(browser.new_context(offline=True, **VIEWS[view])))
        yield lambda path, view="light": tab(view).open(path)
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("browser") / "run", **EXTENDED)
    return write_report([folder])[0]


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    runs = [make_run(folder / name, **EXTENDED) for name in ("one", "two")]
    return write_report(runs, folder / "report")[0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    result = made_sweep(called={"middle": HOSTILE}, failed={f"{HOSTILE} too": HOSTILE})
    return write_sweep_report(write_sweep(tmp_path_factory.mktemp("sweep"), result))[0]


@pytest.fixture(scope="module")
def attribution(tmp_path_factory) -> Path:
    result = made_attribution(hostile=HOSTILE, failed=HOSTILE)
    return write_attribution_report(write_attribution(tmp_path_factory.mktemp("attribution"), result))[0]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory) -> Path:
    result = made_transfer(hostile=HOSTILE)
    return write_attribution_report(write_attribution(tmp_path_factory.mktemp("matrix"), result))[0]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("which", "least"), [("report", 10), ("compared", 10), ("sweep", 4), ("attribution", 4), ("matrix", 7)]
)
def test_the_page_opens_offline_with_every_chart_and_without_an_error(see, request, which, least, view):
    path = request.getfixturevalue(which)
    seen = see(path, view)
    charts = seen.ask("""[...document.querySelectorAll("figure.chart")].map((figure) => ({
        drawn: [...figure.querySelectorAll("svg")].filter((svg) => svg.getBoundingClientRect().width > 200).length,
        outside: [...figure.querySelectorAll("svg text")].filter((text) => {
            const box = text.getBoundingClientRect(), edge = document.documentElement.clientWidth;
            return box.width > 0 && (box.left < 0 || box.right > edge + 1);
        }).map((text) => text.textContent),
        rows: figure.querySelectorAll("details tbody tr").length,
    }))""")
    assert len(charts) == path.read_text().count("<figure")
    assert len(charts) >= least
    assert all(chart["drawn"] == 1 and chart["rows"] > 0 and chart["outside"] == [] for chart in charts), charts
    assert seen.requests == [path.as_uri()]
    assert seen.errors == []
    assert seen.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_dark_and_light_differ_and_both_can_be_read(see, report):
    for view in ("light", "dark"):
        seen = see(report, view)
        colours = seen.ask("""[document.body, document.querySelector(".note"), document.querySelector(".gain")].map((node) =>
            [getComputedStyle(node).color, getComputedStyle(document.body).backgroundColor])""")
        paper = [luminance(back) for _, back in colours]
        assert (paper[0] > 0.5) == (view == "light")
        for ink, back in colours:
            light, dark = sorted((luminance(ink), luminance(back)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1) of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_values_are_read_off_by_pointer_and_by_keys(see, report):
    seen = see(report)
    plot = seen.page.locator("figure.chart", has_text="Held-out text by source").locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    seen.page.mouse.move(box["x"] + 64, box["y"] + box["height"] / 2)
    tip = plot.locator(".tip")
    assert tip.inner_text().splitlines()[0] == "step 0"
    assert "novels 2.506" in tip.inner_text()
    assert plot.locator(".spot").count() == 3
    seen.page.mouse.move(0, 0)
    assert tip.count() == 0
    plot.focus()
    seen.page.keyboard.press("End")
    assert tip.inner_text().splitlines()[0] == "step 40"
    seen.page.keyboard.press("ArrowLeft")
    assert tip.inner_text().splitlines()[0] == "step 20"
    seen.page.keyboard.press("Escape")
    assert tip.count() == 0
    assert seen.errors == []


def test_every_chart_and_link_is_reached_by_the_tab_key(see, report):
    seen = see(report)
    seen.ask("reached = new Set(); document.addEventListener('focusin', () => reached.add(document.activeElement))")
    for _ in range(seen.ask("document.querySelectorAll('[tabindex], a, summary').length") + 5):
        seen.page.keyboard.press("Tab")
    there = "[...document.querySelectorAll('.plot, nav a, summary')]"
    assert seen.ask(f"{there}.filter((one) => !reached.has(one)).map((one) => one.textContent)") == []
    assert seen.ask(f"{there}.length") > 10


def test_the_page_prints_light_whole_and_without_what_is_for_the_screen(see, report, tmp_path):
    seen = see(report, "dark")
    pdf = seen.page.pdf(path=str(tmp_path / "page.pdf"), prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000
    seen.page.emulate_media(media="print")
    assert luminance(seen.ask("getComputedStyle(document.body).backgroundColor")) > 0.9
    assert seen.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert seen.ask("[...document.querySelectorAll('svg.wide')].every((svg) => svg.getBoundingClientRect().width > 0)")


@pytest.fixture
def hostile(tmp_path) -> Path:
    folder = make_run(tmp_path / "<img src=x onerror=window.hostile=1>", HOSTILE, **EXTENDED)
    (folder / "state.json").write_text(json.dumps({"status": "failed", "step": 26, "detail": HOSTILE}))
    return folder


def ran(seen: Tab) -> bool:
    """Whether anything of the text has run, after every chart has been pointed at and every table opened."""
    seen.ask("for (const each of document.querySelectorAll('details')) each.open = true")
    for plot in seen.page.locator(".plot").all():
        plot.focus()
        seen.page.keyboard.press("ArrowRight")
    seen.page.wait_for_timeout(50)
    return seen.ask("window.hostile === 1")


def test_nothing_that_corpora_models_or_names_say_is_executed(see, hostile):
    path = write_report([hostile])[0]
    seen = see(path)
    assert not ran(seen)
    assert seen.errors == []
    assert seen.requests == [path.as_uri()]
    assert seen.ask("document.querySelectorAll('script').length") == 1
    assert "<img src=x onerror=window.hostile=1>" in seen.ask("document.body.innerText")


@pytest.mark.parametrize("which", ["sweep", "attribution", "matrix"])
def test_nothing_that_trials_say_is_executed(see, request, which):
    page = request.getfixturevalue(which)
    for path in (page, without_policy(page)):
        seen = see(path)
        assert not ran(seen)
        assert seen.errors == []
        assert HOSTILE in seen.ask("document.body.innerText")


@pytest.mark.parametrize("view", ["light", "dark"])
def test_every_value_of_a_matrix_can_be_read_on_its_colour(see, matrix, view):
    seen = see(matrix, view)
    pairs = seen.ask("""[...document.querySelectorAll("svg.wide rect.cell")].map((cell) =>
        [getComputedStyle(cell).fill, getComputedStyle(cell.nextElementSibling).fill])""")
    assert len(pairs) == 12
    for pair in pairs:
        light, dark = sorted(map(luminance, pair), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, pair  # WCAG 2.1, level AA


def test_the_colours_of_a_matrix_can_all_be_read(see, matrix):
    """Also those that this matrix does not have."""
    for view in ("light", "dark"):
        colours = see(matrix, view).ask("""Array.from({length: 6}, (_, depth) => ["h", "l"].map((side) => {
            const cell = document.querySelector("svg.wide rect.cell");
            cell.setAttribute("class", `cell ${side}${depth}`);
            const text = document.querySelector(depth > 3 ? "svg text.deep" : "svg text.value:not(.deep)");
            return [side, depth, ...[cell, text].map((one) => getComputedStyle(one).fill)];
        })).flat()""")
        assert len({fill for *_, fill, _ in colours}) > 10
        for side, depth, *fills in colours:
            light, dark = sorted(map(luminance, fills), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (view, side, depth)


def test_a_matrix_is_read_off_by_keys_and_prints_its_values(see, matrix):
    seen = see(matrix)
    plot = seen.page.locator("figure.chart").first.locator(".plot")
    plot.focus()
    seen.page.keyboard.press("End")
    assert plot.locator(".tip").inner_text().splitlines()[0] == "code → code"
    assert re.search(r"−0\.\d{3} \[−0\.\d{3}, −0\.\d{3}\] \*", plot.locator(".tip").inner_text())
    seen.page.emulate_media(media="print")
    assert "−0.303*" in [one.text_content() for one in plot.locator("svg.wide text.value").all()]
    assert seen.ask("[...document.querySelectorAll('svg.wide')].every((svg) => svg.getBoundingClientRect().width > 0)")


def without_policy(path: Path) -> Path:
    """The same page without its content security policy."""
    text, found = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text())
    assert found == 1
    bare = path.with_name("bare.html")
    bare.write_text(text)
    return bare


def test_escaping_alone_is_enough(see, hostile):
    assert not ran(see(without_policy(write_report([hostile])[0])))


def test_the_test_can_fail_and_the_policy_alone_is_enough(see, hostile, monkeypatch):
    """Without escaping the text does run, and where the policy stands it does not."""
    monkeypatch.setattr(markup, "escape", markup.Markup)
    path = write_report([hostile])[0]
    assert ran(see(without_policy(path)))
    guarded = see(path)
    assert not ran(guarded)
    assert any("Content Security Policy" in error for error in guarded.errors)


def test_a_long_run_opens_quickly_and_shows_its_spike(see, tmp_path):
    folder = make_run(tmp_path / "long", training__max_steps=25_000)
    write_lines(
        folder / "metrics.jsonl", [step_line(step, loss=40.0 if step == 17_123 else 2.0) for step in range(1, 25_001)]
    )
    seen = see(write_report([folder])[0])
    plot = seen.page.locator("figure.chart", has_text="Training loss").first.locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    left, _, width, _, whole, _ = map(float, plot.locator("svg.wide").get_attribute("data-box").split())
    place = (left + width * 17_123 / 25_000) * box["width"] / whole
    seen.page.mouse.move(box["x"] + place, box["y"] + 50)
    assert "2.000 to 40.000" in plot.locator(".tip").inner_text()
    assert PAGE in seen.page.url


def test_no_table_of_a_comparison_is_cut_where_the_window_has_room(see, tmp_path):
    folders = [make_run(tmp_path / name) for name in ("first", "second", "third-with-a-long-name")]
    write_report(folders, tmp_path / "compared")
    seen = see(tmp_path / "compared" / PAGE)
    cut = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth + 1)"
    assert seen.ask(f"{cut}.map(each => each.innerText.slice(0, 80))") == []
    assert seen.ask("document.documentElement.scrollWidth <= window.innerWidth")
