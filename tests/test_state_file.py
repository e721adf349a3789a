"""What the state file tells a script, and what is read from one that is not there or damaged."""

import json

from tsugiki.state_file import reached_step, write_state


def test_the_state_file_says_where_the_run_stands(tmp_path):
    write_state(tmp_path, "resumable", 12, "SIGUSR2")
    found = json.loads((tmp_path / "state.json").read_text())
    assert {key: found[key] for key in ("status", "step", "detail")} == {
        "status": "resumable", "step": 12, "detail": "SIGUSR2",
    }  # fmt: skip
    assert reached_step(tmp_path) == 12
    write_state(tmp_path, "failed", 12, "GET https://someone:password@mirror.example/api: 404")
    assert "password" not in (tmp_path / "state.json").read_text()


def test_without_a_state_file_that_can_be_read_no_step_was_reached(tmp_path):
    assert reached_step(tmp_path) == 0
    for damaged in ("", "[]", '{"step": null}', '{"step": "x"}'):
        (tmp_path / "state.json").write_text(damaged)
        assert reached_step(tmp_path) == 0
