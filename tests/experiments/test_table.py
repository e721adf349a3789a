"""The table of a sweep on the terminal says what its page says."""

import io
from dataclasses import replace

from made_sweeps import made_sweep
from rich.console import Console

from tsugiki.experiments.table import draw, remarks
from tsugiki.sweep_results import MARKS, NOTHING


def shown(result) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(draw(result))
    return console.file.getvalue()


def test_beside_a_trial_stands_what_the_page_says_of_it():
    result = made_sweep(failed={"huge": "diverged at step 12"})
    text = " ".join(shown(result).split())
    for trial in result.judgement.trials:
        for note in result.notes_on(trial):
            assert note in text
    assert result.notes_on(result.judgement.trials[1]) == ["recommended"]
    assert result.notes_on(result.judgement.trials[2]) == ["lowest loss"]


def test_below_the_table_stands_what_is_missing_of_it():
    result = made_sweep()
    trials = [replace(one, runs=tuple(replace(run, state="running") for run in one.runs)) for one in result.trials[:1]]
    metric = replace(result.metrics[0], left_out={"xlsum": "the base has no score: not asked"})
    result = replace(result, trials=(*trials, *result.trials[1:]), metrics=(metric, *result.metrics[1:]))
    lines = list(remarks(result))
    assert MARKS in lines[0]
    assert "1 of 3 runs have not ended: what is said is of the others." in lines
    assert f"{metric.name}: the base has no score: not asked; left out for all." in lines
    assert list(remarks(made_sweep(judge=False))) == [NOTHING]
