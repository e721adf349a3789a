"""The picture of a run: read from metrics.jsonl, written as a PNG."""

import json
import struct

import pytest

from tsugiki.errors import DataError
from tsugiki.metrics_file import read_metrics
from tsugiki.plots import plot_runs


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [
        {"kind": "validation", "step": 0, "sources": {"ja": {"bits_per_byte": 3.5}, "en": {"bits_per_byte": 2.5}}}
    ]
    for step in (10, 20, 30):
        losses = {"ja": 4 - step / 20} | ({"en": 3.0} if step != 20 else {})  # a source may miss an interval
        records.append({"kind": "step", "step": step, "loss_by_source": losses, "learning_rate": 1e-3})
    records.append(
        {"kind": "validation", "step": 30, "sources": {"ja": {"bits_per_byte": 2.9}, "en": {"bits_per_byte": 2.5}}}
    )
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"kind": "st', encoding="utf-8")
    return path


def test_png_of_two_runs_side_by_side(metrics, tmp_path):
    one = plot_runs({"run": metrics}, tmp_path / "plots" / "one.png").read_bytes()
    two = plot_runs({"run": metrics, "again": metrics}, tmp_path / "two.png").read_bytes()
    assert one.startswith(b"\x89PNG")
    width_of_one, width_of_two = (struct.unpack(">I", png[16:20])[0] for png in (one, two))
    assert width_of_two > width_of_one


def test_half_written_last_line_is_left_out(metrics):
    found = read_metrics(metrics)
    assert [step["step"] for step in found.steps] == [10, 20, 30]
    assert [validation["step"] for validation in found.validations] == [0, 30]


def test_missing_or_empty_metrics_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.jsonl"):
        plot_runs({"run": tmp_path / "nothing.jsonl"}, tmp_path / "plot.png")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no metrics"):
        plot_runs({"run": tmp_path / "empty.jsonl"}, tmp_path / "plot.png")


def test_no_display_and_no_global_figure_is_used(metrics, tmp_path):
    import matplotlib

    before = matplotlib.get_backend(auto_select=False)
    plot_runs({"run": metrics}, tmp_path / "plot.png")
    assert matplotlib.get_backend(auto_select=False) == before
