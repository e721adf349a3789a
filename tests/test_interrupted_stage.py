"""Ctrl-C in the stage `evaluate` of a recipe: the folder of the run is named, and the exit code says "go on"."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from tsugiki import cli_evaluation, pipeline
from tsugiki.errors import RESUMABLE


def test_an_interrupted_stage_names_the_folder_of_its_run(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_evaluation", interrupted)
    with pytest.raises(typer.Exit) as caught:
        cli_evaluation.evaluate_recipe(SimpleNamespace(run_dir=Path("runs/one")))
    assert caught.value.exit_code == RESUMABLE
    assert "stopped: what was answered is kept in runs/one/evaluation;" in capsys.readouterr().out
