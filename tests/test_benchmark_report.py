"""The benchmark's figures: medians of interleaved rounds, ratios within a round, goals met and missed."""

import sys
from pathlib import Path

import pytest

CASE = "vocabulary 42,880, 8 x 512"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import training_report

    yield training_report
    sys.modules.pop("training_report")


def reading(rate: float, peak_gb: float = 1.0) -> dict:
    return {"tokens_per_second": rate, "tokens_per_cpu_second": rate / 2, "flops_per_token": 1e6, "peak_gb": peak_gb}


def test_ratios_are_taken_within_a_round_so_that_a_machine_that_slows_down_does_not_matter(report):
    figures = {
        "matmul": [{"flops": 4e8}, {"flops": 4e7}, {"flops": 4e6}],
        "ours": [reading(200), reading(20), reading(2)],
        "trainer": [reading(100), reading(10), reading(1)],
    }
    ours = next(row for row in report.summarise({CASE: figures}, None, cpu=True).rows if row.contestant == "ours")
    assert ours.ratio == pytest.approx(2.0)
    assert ours.tokens_per_second == 20
    assert ours.spread == (2, 200)
    assert ours.share_of_peak == pytest.approx(0.5)


def test_goals_are_met_or_missed_by_what_was_measured(report):
    figures = {
        "matmul": [{"flops": 4e8}],
        "ours": [reading(150, peak_gb=1.9)],
        "trainer": [reading(100, peak_gb=4.0)],
    }
    saving = {
        "saves": [{"begin": 0.5, "written": 2.0, "commit": 0.01}]
        + [{"begin": 0.01, "copy": 0.09, "written": 2.0, "commit": 0.01}] * 3,
        "data_wait": [0.0, 0.001],
    }
    goals = report.summarise({CASE: figures}, saving, cpu=True).goals
    verdicts = {goal.text: goal.met for goal in goals}
    assert verdicts == {
        "at least 1.6 times Trainer's tokens a second": False,
        "at most half of Trainer's peak memory": True,
        "at least 45 % of the matmul peak": False,
        "a checkpoint stalls training for at most 2 % of its writing": False,
        "waiting for data under 1 % of the time": True,
    }


def test_a_contestant_that_failed_leaves_the_others_standing(report, tmp_path):
    figures = {"matmul": [{"flops": 4e8}], "ours": [reading(150)], "trainer": [], "plain": [reading(90)]}
    summary = report.summarise({CASE: figures}, None, cpu=True)
    assert [row.contestant for row in summary.rows] == ["ours", "plain"]
    machine = {"gpu": None, "processor": "A", "threads": 2, "date": "-", "torch": "-", "bf16_flops": 1, "fp32_flops": 2}
    report.write_report(tmp_path / "page.md", machine, summary, {}, "1 round of 3 steps")
    assert "| plain | 90 |" in (tmp_path / "page.md").read_text(encoding="utf-8")
