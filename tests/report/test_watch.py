"""Watching: from before the run until it ends, on a terminal and without one, whatever lies in the files."""

import io
import json
import os
import platform
import signal

import pytest
from report_runs import STEPS, make_run, metrics, step_line, validation, write, write_lines
from rich.console import Console

from tsugiki import cli_report
from tsugiki.errors import DataError, RecipeError, StorageError
from tsugiki.report import watch as watch_module
from tsugiki.report.plot_in_text import plot
from tsugiki.report.watch import Watched, view, watch
from tsugiki.training.signals import Interrupted


def watched(folder, happen, *, terminal=False, width=100) -> str:
    """What is shown while `happen` is called at each sleep, which must end the run before it is out of events."""
    stream = io.StringIO()
    events = iter(happen)
    watch(
        folder,
        Console(file=stream, force_terminal=terminal, width=width, soft_wrap=True),
        sleep=lambda _: next(events)(),
    )
    return stream.getvalue()


def test_a_run_is_followed_from_before_its_start_to_its_end(tmp_path):
    folder, other = tmp_path / "run", make_run(tmp_path / "other")

    (folder / "data").mkdir(parents=True)  # as long as its corpora are prepared

    def starts():
        write(folder / "state.json", {"status": "running", "step": 0, "detail": "", "time": ""})
        (folder / "recipe.yaml").write_text((other / "recipe.yaml").read_text())

    def steps():
        write_lines(folder / "metrics.jsonl", [validation(0, 2.5), step_line(2)])

    def goes_on():
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(step_line(4)) + "\n" + '{"kind": "step", "st')  # half a line

    def ends():
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('ep": 6, "loss": 2.0, "tokens_per_second": 5.0}\n' + json.dumps(validation(6, 2.0)) + "\n")
        write(folder / "state.json", {"status": "finished", "step": 6, "detail": "", "time": ""})

    lines = watched(folder, [lambda: None, starts, steps, goes_on, ends]).splitlines()
    assert lines[0] == f"{folder}: waiting for its first step"
    assert [line.split("  ")[0] for line in lines[1:-1]] == [
        "step 0/40",
        "step 2/40",
        "step 4/40",
        "step 6/40",
        "step 6/40",
    ]
    assert "novels 2.5" in lines[1]
    assert "96 tok/s  1m 16s left" in lines[2]
    assert lines[-1] == f"{folder}: finished"


def test_a_finished_run_is_shown_once(tmp_path):
    lines = watched(make_run(tmp_path / "run"), []).splitlines()
    assert lines[-1].endswith("run: finished")
    assert sum(line.startswith("step") for line in lines) == len([m for m in metrics() if m["kind"] != "spike"])


@pytest.mark.parametrize(
    ("state", "words"),
    [({"status": "resumable", "step": 4, "detail": "SIGTERM", "time": ""}, "stopped; the same command continues it: SIGTERM"),
     ({"status": "failed", "step": 4, "detail": "loss is\nnot finite", "time": ""}, "failed: loss is\nnot finite")],
)  # fmt: skip
def test_the_ending_is_told_with_its_reason(tmp_path, state, words):
    folder = make_run(tmp_path / "run")
    write(folder / "state.json", state)
    assert words in watched(folder, [])


def test_a_killed_run_is_noticed_where_its_process_was_here(tmp_path):
    folder = make_run(tmp_path / "run")
    write(folder / "state.json", {"status": "running", "step": 4, "detail": "", "time": ""})
    run = Watched(folder)
    for owner, ended in (
        ({"pid": os.getpid(), "host": platform.node()}, False), ({"pid": 2**22 + 5, "host": "another"}, False),
        ({"pid": 2**22 + 5, "host": platform.node()}, True),
    ):  # fmt: skip
        write(folder / ".lock", owner)
        run.look()
        assert (run.ending is not None) == ended, owner


def test_a_run_that_begins_anew_is_read_anew(tmp_path):
    folder = make_run(tmp_path / "run")
    run = Watched(folder)
    run.look()
    assert run.metrics.steps[-1]["step"] == STEPS
    (folder / "metrics.jsonl").unlink()
    write_lines(folder / "metrics.jsonl", [step_line(2)])
    run.look()
    assert [line["step"] for line in run.metrics.steps] == [2]


def test_the_picture_has_curve_rate_time_and_scores(tmp_path):
    text = "[red]x[/red]\x1b[31m:smile:"
    folder = make_run(tmp_path / "run", text)
    run = Watched(folder)
    run.look()
    console = Console(file=io.StringIO(), width=90)
    console.print(view(run, 90))
    shown = console.file.getvalue()
    for said in (
        "step 40 of 40 (100%)",
        "96 tokens/s",
        "25% MFU",
        "1 spikes",
        "step 0",
        "-0.5",
        "novels",
        "50%",
    ):
        assert said in shown, said
    assert "[red]x[/red]\\x1b[31m:smile:" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 90
    assert any(0x2801 <= ord(letter) <= 0x28FF for letter in shown)
    console = Console(file=io.StringIO(), width=90)
    console.print(view(run, 90, ascii_only=True))
    assert "*" in console.file.getvalue()


def test_on_a_terminal_the_picture_is_drawn_in_place(tmp_path):
    folder = make_run(tmp_path / "run")
    write(folder / "state.json", {"status": "running", "step": 4, "detail": "", "time": ""})

    def end():
        write(folder / "state.json", {"status": "finished", "step": 4, "detail": "", "time": ""})

    shown = watched(folder, [lambda: None, end], terminal=True)
    assert shown.count("training loss") >= 2
    assert "\x1b[1A" in shown
    assert shown.rstrip().endswith("finished")


def test_what_is_no_run_is_not_waited_for(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    runs = [make_run(tmp_path / "runs" / name) for name in ("first", "second")]
    (tmp_path / "runs/data").mkdir()  # as the quickstart's runs share
    for name, said in (
        ("file", "is a file"), ("typo", "no such folder"), ("empty", "it has no recipe.yaml"),
        ("runs", f"the runs in it: {runs[0]} {runs[1]}$"),
        ("runs/first/checkpoints/step_00000020", f"is a checkpoint; name its run directory, {runs[0]}"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            watched(tmp_path / name, [])


def test_leaving_says_that_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def stopped(*_arguments, **_named):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(watch_module, "watch", stopped)
    cli_report.watch(tmp_path / "run")
    assert (
        capsys.readouterr().out == f"{tmp_path}/run: not watched any more (SIGTERM); the run itself was not touched\n"
    )


def test_a_damaged_log_and_a_lost_one_end_the_watching_with_a_word(tmp_path):
    folder = make_run(tmp_path / "run")
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"step": 4,', '"step": four,', 1), encoding="utf-8")
    with pytest.raises(StorageError, match="line 3 "):
        watched(folder, [])
    path.unlink()
    with pytest.raises(StorageError, match="is not there"):
        watched(folder, [])
    (folder / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state\.json"):
        watched(folder, [])


def test_the_plot_has_the_largest_value_above_and_every_column_filled():
    lines = plot([(step, float(abs(step - 50))) for step in range(101)], 60, 8).splitlines()
    assert len(lines) == 9
    assert lines[0].split()[0] == "50"
    assert lines[7].split()[0] == "0"
    drawn = [line[4:] for line in lines[:8]]
    assert drawn[0].strip("\u2800 ")[0] != "\u2800"
    columns = list(zip(*[line.ljust(60) for line in drawn], strict=True))
    assert all(any(letter not in " \u2800" for letter in column) for column in columns[2:50])
    assert lines[8].split() == ["0", "100"]
    assert plot([(1, 2.0), (2, 2.0)], 40, 3)
