"""The page as text: what it must hold, what it must not, and that several runs stand side by side."""

import json
import re
from html import unescape

import pytest
from report_runs import make_run, step_line, write_lines

from tsugiki.errors import StorageError
from tsugiki.report.page import make_page
from tsugiki.report.provenance import differences
from tsugiki.report.run_directory import read_run
from tsugiki.report.words import summary
from tsugiki.report.write import CARD, FIGURES, PAGE, with_names, write_report

SECTIONS = [
    "Gained and lost", "Gained and forgotten over steps", "Training", "Data", "Vocabulary", "Speed and memory",
    "Texts before and after", "Recipe, versions, data", "Do it again",
]  # fmt: skip
EXTENDED = {"vocabulary": {"add": 1536, "language": "ja"}}


def text_of(page: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>", "", page)))


@pytest.fixture
def page(tmp_path):
    return make_page([read_run(make_run(tmp_path / "first", **EXTENDED))])


def test_every_section_stands_in_the_page_and_in_its_contents(page):
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    assert re.findall(r'<li><a href="#[^"]*">(.*?)</a>', page) == SECTIONS


@pytest.mark.parametrize(
    "said",
    ["owner/base-7b was continued for 40 steps on 7.68k tokens (novels 75%, replay 25%)", "from 3,072 to 4,608 pieces",
     "Of 3 tasks 1 rose and 1 fell by more than the noise", "● gain", "● loss", "○ noise", "+0.200 [+0.100, +0.300]",
     "NVIDIA H100", "2 × NVIDIA H100", "peak 989 TFLOP/s", "25.0%", "1h 30m, 2 starts", "2.3 kWh (rank 0's GPU × 2)",  "rewound, loss , to step 20, stepping over samples 300 to 305", "9.000 (limit 4.500)", "samples 150 to 155",
     "▼ spike   ▲ checkpoint", "given up", "(published)", "max_steps: 40", "n" * 32, "novels.jsonl 12,345 bytes", "The ids were made by fastokens 0.3.5 (",
     "1 of 2 warned or failed", "2026-03-11 10:30 +0900", "ある日", "torchrun --nproc-per-node 2", "3.00", "pip install -e . 'torch==2.13.0'"],
)  # fmt: skip
def test_what_a_reader_looks_for_is_there(page, said):
    assert " ".join(said.split()) in " ".join(text_of(page).split())


def test_no_package_is_named_that_nobody_has_published(page):
    assert "tsugiki==" not in page


def test_every_chart_has_its_values_as_a_table(page):
    charts = re.findall(r'<figure class="chart">.*?</figure>', page, re.S)
    assert len(charts) >= 10
    for chart in charts:
        assert "<details><summary>values</summary>" in chart
        assert chart.count("<svg") == 2
        assert len(re.findall("<tr>", chart)) > 1


def test_a_run_of_25_000_steps_is_under_five_megabytes_and_keeps_its_spike(tmp_path):
    folder = make_run(tmp_path / "long", training__max_steps=25_000)
    write_lines(
        folder / "metrics.jsonl",
        [step_line(s, seconds_left=0, loss=40.0 if s == 17_123 else 2.0) for s in range(1, 25_001)],
    )
    page = make_page([read_run(folder)])
    assert len(page.encode()) < 5e6
    assert "2.000 to 40.000" in page


def test_several_runs_stand_side_by_side_with_what_their_recipes_ask_differently(tmp_path):
    first = make_run(tmp_path / "a" / "run")
    second = make_run(tmp_path / "b" / "run", training__learning_rate=2e-3, data__sources__code__weight=1)
    runs = with_names([read_run(first), read_run(second)])
    assert [run.name for run in runs] == ["a-run", "b-run"]
    assert differences(runs) == [
        ("data.prepared_dir", [str(first / "data"), str(second / "data")]), ("data.sources.code.weight", ["0.0", "1.0"]),
        ("training.learning_rate", ["0.001", "0.002"]),
    ]  # fmt: skip
    page = text_of(make_page(runs))
    for said in ("Runs compared: a-run, b-run", "Recipes compared", "training.learning_rate", "Held-out text: novels"):
        assert said in page


def test_a_run_that_a_probe_stopped_says_so(tmp_path):
    """As the trials of a sweep: no base of their own, and stopped before the schedule's end."""
    folder = make_run(tmp_path / "trial", training__max_steps=100, training__stop_after_steps=40)
    state = {"status": "resumable", "step": 40, "detail": "training.stop_after_steps", "time": ""}
    (folder / "state.json").write_text(json.dumps(state))
    table = json.loads((folder / "evaluation/table.json").read_text())
    rows = [row for row in table["rows"] if row["name"] == "final"]
    for cell in (*rows[0]["tasks"].values(), *rows[0]["averages"].values()):
        cell.pop("difference", None)
    (folder / "evaluation/table.json").write_text(json.dumps({**table, "baseline": None, "rows": rows}))
    page = text_of(make_page([read_run(folder)]))
    for said in ("stopped after 40 steps, as training.stop_after_steps asks", "40 of 100", "for 40 of 100 steps"):
        assert said in page


def test_losses_of_different_tokenizers_share_no_axis_and_spikes_have_the_colour_of_their_run(tmp_path):
    folders = [make_run(tmp_path / name) for name in ("first", "second", "third")]
    for path in (folders[2] / "checkpoints").glob("*/state.json"):
        path.write_text(path.read_text().replace("t" * 32, "u" * 32))
    page = make_page([read_run(folder) for folder in folders])
    titles = re.findall(r"<figcaption[^>]*>(Training loss.*?)</figcaption>", page)
    assert titles == ["Training loss of first, second", "Training loss of third"]
    assert "A chart for each tokenizer" in text_of(page)
    losses, other, norms = (
        re.search(rf"<figcaption[^>]*>{title}</figcaption>.*?</figure>", page, re.S).group(0)
        for title in (*titles, "Gradient norm")
    )
    for chart, colours in ((losses, {"0", "1"}), (other, {"2"}), (norms, {"0", "1", "2"})):
        assert set(re.findall(r'<polygon[^>]* class="spike s(\d)"', chart)) == colours
    assert "second, step 26: rewound" in losses
    assert "checkpoint" not in losses

    alike = make_page([read_run(folder) for folder in folders[:2]])
    assert re.findall(r"<figcaption[^>]*>(Training loss.*?)</figcaption>", alike) == ["Training loss"]


def test_the_summary_names_few_sources_and_says_how_far_a_run_is(tmp_path):
    folder = make_run(tmp_path / "run", training__max_steps=100)
    assert "for 40 of 100 steps" in summary(read_run(folder))


def test_a_failed_run_says_so_first(tmp_path):
    folder = make_run(tmp_path / "run")
    (folder / "state.json").write_text(
        json.dumps({"status": "failed", "step": 26, "detail": "loss is not finite", "time": ""})
    )
    assert "The run failed at step 26: loss is not finite" in text_of(make_page([read_run(folder)]))


def test_a_report_is_a_page_a_card_and_figures(tmp_path):
    folder = make_run(tmp_path / "run")
    files = write_report([folder])
    assert [path.name for path in files] == [PAGE, CARD, FIGURES]
    assert all(path.parent == folder / "report" for path in files)
    figures = json.loads(files[2].read_text())
    (run,) = figures["runs"]
    assert run["gains"][0]["difference"] == 0.2
    assert run["curves"]["loss"][0] == [2, 2, pytest.approx(3.8187, abs=1e-4), pytest.approx(3.8187, abs=1e-4)]
    assert run["recipe"]["training"]["max_steps"] == 40


def test_what_looks_like_a_credential_is_hidden_wherever_it_came_from(tmp_path):
    secret = "hf_" + "a1B2c3D4e5F6g7H8i9J0k1"
    folder = make_run(tmp_path / "run")
    (folder / "state.json").write_text(
        json.dumps({"status": "failed", "step": 1, "detail": f"GET https://user:pass@host/ {secret}", "time": ""})
    )
    (folder / "recipe.yaml").write_text((folder / "recipe.yaml").read_text() + "# " + secret)
    for path in write_report([folder]):
        text = path.read_text()
        assert secret not in text
        assert "user:pass@" not in text
    assert "hidden" in (folder / "report" / PAGE).read_text()


def test_a_report_can_go_elsewhere_and_several_runs_have_a_card_each(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    names = [path.name for path in write_report(runs, tmp_path / "out" / "both")]
    assert names == [PAGE, "model-card-a.md", "model-card-b.md", FIGURES]


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda text: text.replace('"step": 4,', '"step": four,', 1), "metrics.jsonl, line 3 "),
     (lambda text: "", "metrics.jsonl is empty"), (lambda text: None, "metrics.jsonl is not there"),
     (lambda text: "\n".join(text.splitlines()[:5]) + "\n", "ends at step 8")],
)  # fmt: skip
def test_a_damaged_log_leaves_the_old_report_and_is_named(tmp_path, damage, said):
    folder = make_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in write_report([folder])}
    metrics = folder / "metrics.jsonl"
    text = damage(metrics.read_text(encoding="utf-8"))
    if text is None:
        metrics.unlink()
    else:
        metrics.write_text(text, encoding="utf-8")
    with pytest.raises(StorageError, match=said):
        write_report([folder])
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_asks_for_validation_is_not_advised_to(tmp_path):
    for asked, advice in ((20, "Nothing to compare yet"), (None, "training.eval_steps")):
        folder = make_run(tmp_path / f"run{asked}", training__eval_steps=asked)
        (folder / "evaluation/table.json").unlink()
        write_lines(folder / "metrics.jsonl", [step_line(step) for step in range(2, 41, 2)])
        assert advice in text_of(make_page([read_run(folder)]))
