"""The command line of experiments: options before and after the file, and messages that name what people type."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tsugiki import cli


def run_cli(monkeypatch, capsys, *arguments: str) -> tuple[Any, str]:
    monkeypatch.setattr(sys, "argv", ["tsugiki", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code, out + err


@pytest.mark.parametrize("verb", ["sweep", "attribute"])
def test_options_stand_before_or_after_the_file(monkeypatch, capsys, verb):
    conclude = {"sweep": "--judge", "attribute": "--estimate"}[verb]
    for options in (["--plan"], ["--trial", "3"], ["--shared"], [conclude], ["--again", "--plan"]):
        for words in ([*options, "nowhere.yaml"], ["nowhere.yaml", *options]):
            assert run_cli(monkeypatch, capsys, verb, *words) == (2, "error: nowhere.yaml: no such file\n")
    assert run_cli(monkeypatch, capsys, verb, "status", "nowhere.yaml") == (2, "error: nowhere.yaml: no such file\n")


@pytest.mark.parametrize(
    ("verb", "hidden"), [("sweep", "trials"), ("attribute", "runs"), ("vocabulary", "extend"), ("evaluate", "models")]
)
def test_no_message_names_a_command_that_nobody_types(monkeypatch, capsys, verb, hidden):
    for words in (["--bogus"], ["x", "--bogus"], ["--bogus", "x"], ["--plan"], ["x", "y", "--trial", "z"]):
        code, said = run_cli(monkeypatch, capsys, verb, *words)
        assert code == 2
        assert f"tsugiki {verb} [" in said.splitlines()[0], said
        assert f"tsugiki {verb} --help' for help." in said
        assert f"{verb} {hidden}" not in said


@pytest.mark.parametrize(
    ("verb", "file", "words"),
    [("run", "small-cpu-sweep", "this is a sweep, not a recipe: tsugiki sweep"),
     ("validate", "small-cpu-attribution", "this is an attribution, not a recipe: tsugiki attribute"),
     ("sweep", "small-cpu", "this is a recipe, not a sweep: tsugiki run"),
     ("sweep", "small-cpu-attribution", "this is an attribution, not a sweep: tsugiki attribute"),
     ("attribute", "small-cpu-sweep", "this is a sweep, not an attribution: tsugiki sweep")],
)  # fmt: skip
def test_a_file_of_another_kind_is_one_problem_with_the_verb_that_takes_it(monkeypatch, capsys, verb, file, words):
    path = Path(__file__).parents[1] / f"recipes/{file}.yaml"
    assert run_cli(monkeypatch, capsys, verb, str(path)) == (2, f"error: {path}: {words} {path}\n")


def test_help_is_of_the_group_and_of_each_command(monkeypatch, capsys):
    for words in (["sweep"], ["sweep", "--help"]):
        _, said = run_cli(monkeypatch, capsys, *words)
        assert "SWEEP | status SWEEP" in said
        assert "--judge" in said
    _, said = run_cli(monkeypatch, capsys, "sweep", "status", "--help")
    assert "tsugiki sweep status [OPTIONS]" in said.splitlines()[0]
