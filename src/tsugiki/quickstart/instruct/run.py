"""The quickstart's second half: its continued model taught to answer, in a minute or two.

    <directory>/instruct-data/               the sample of instructions as JSON Lines
    <directory>/instruct.yaml, instruct/     instruction tuning of `continued/export`, all weights; its report
    <directory>/instruct-results.json        the table and every answer

Run again, it skips what is done and continues what was interrupted. A folder without a finished quickstart gets one
first.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tsugiki.errors import FINISHED, RESUMABLE, RecipeError
from tsugiki.files import write_atomically, write_json
from tsugiki.printable import one_line
from tsugiki.quickstart.instruct.answers import Answer, Score, ask, scores
from tsugiki.quickstart.instruct.recipe import TEMPLATE, recipe_text
from tsugiki.quickstart.instruct.sample import write_sample
from tsugiki.quickstart.run import NOT_SHOWN, is_finished, run_quickstart, run_recipe, write_page
from tsugiki.recipe_file import load_recipe
from tsugiki.statistics import Interval
from tsugiki.terminal import plain

LEAST_STOPPING = 0.9
"""Of the held-out conversations, the share whose answer must end by itself afterwards."""
SHOWN = (0, 3, 30, 35, 60, 64, 67)
"""Which held-out conversations are shown: some written, some generated, in both languages. Fixed, so that nobody has
chosen the prettiest."""
LESSON = """What so small a model learns is the form: to answer when it is asked, in the language of the question, in a
sentence of the right kind, and to stop. What it cannot learn from three thousand conversations are facts and
sums, and mostly not even to repeat a word: that takes far more parameters and text. For a model that can, the
recipe is the same."""


def run_instruct(directory: Path, console: Console) -> int:
    """Do it in `directory`; returns the exit code: 0, RESUMABLE, or NOT_SHOWN where too few answers end by themselves.
    Raises TsugikiError for what the user can mend."""
    started = time.perf_counter()

    def say(text: str) -> None:
        console.print(plain(text))

    continued = directory / "continued.yaml"
    if not (continued.exists() and is_finished(load_recipe(continued))):
        say(f"{directory} has no finished quickstart: it is run first")
        if run_quickstart(directory, console) == RESUMABLE:
            return RESUMABLE
    sample = write_sample(directory / "instruct-data")
    path = _write_recipe(directory, recipe_text(directory, sample.sources, sample.watched))
    console.rule(f"instruction tuning   ({path})", align="left")
    if not run_recipe(path, console, show_data=True):
        say(f"stopped; the same command continues here: {path}")
        return RESUMABLE
    write_page(path)
    run_dir, held_out = directory / "instruct", [*sample.held_out_written, *sample.held_out_generated]
    say(f"asking     {len(held_out)} conversations that it was not trained on, before and after")
    before = ask(run_dir / "template_tokens" / "model", TEMPLATE, held_out)
    after = ask(run_dir / "export", TEMPLATE, held_out)
    found = scores(before, after)
    results = directory / "instruct-results.json"
    write_json(results, {"scores": [asdict(score) for score in found], "answers": _answers(before, after)})
    console.rule("results", align="left")
    console.print(_draw(found))
    for number in SHOWN:
        for line in _show(before[number], after[number]):
            say(line)
    say(LESSON)
    say("")
    say(
        f"report     {run_dir / 'report' / 'report.html'} (opens in a browser, offline)\n"
        f"model      {run_dir / 'export'}\n"
        f"results    {results} (every answer)\n"
        f"recipe     {path}\n"
        f"next       tsugiki chat {run_dir}"
    )
    say(f"took {(time.perf_counter() - started) / 60:.1f} minutes")
    stopping = found[0].after.estimate
    if stopping < LEAST_STOPPING:
        say(f"NOT AS PROMISED: {stopping:.0%} of the answers end by themselves, at least {LEAST_STOPPING:.0%} should")
        return NOT_SHOWN
    return FINISHED


def _write_recipe(directory: Path, text: str) -> Path:
    path = directory / "instruct.yaml"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise RecipeError(
            f"{path} is not what this quickstart writes: it was edited, or another version wrote it. Run yours with "
            f"`tsugiki run`; for a new one remove it and {directory / 'instruct'}"
        )
    write_atomically(path, text)
    return path


def _draw(found: Sequence[Score]) -> Table:
    table = Table(title="Answers to held-out conversations, per cent", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for heading in ("answers", "before", "after", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for score in found:
        table.add_row(
            score.name, str(score.answers), _cell(score.before), _cell(score.after), _cell(score.gain, sign="+")
        )
    table.caption = (
        "in brackets: 95 % intervals. Language: where the right answer has letters; exactly right: of the "
        "generated exercises. The difference is over the same questions"
    )
    table.caption_justify = "left"
    return table


def _cell(interval: Interval, sign: str = "") -> str:
    """In per cent, so that the table fits 80 columns."""
    estimate, low, high = (f"{100 * value:{sign}.0f}" for value in (interval.estimate, interval.low, interval.high))
    return f"{estimate} \\[{low}, {high}]"


def _show(before: Answer, after: Answer) -> list[str]:
    question = before.example.messages[-2][1]
    return [
        f"asked      {one_line(question, 90)}",
        f"  before   {_said(before)}",
        f"  after    {_said(after)}",
        f"  right    {one_line(before.example.answer(), 90)}",
        "",
    ]


def _said(answer: Answer) -> str:
    return one_line(answer.text, 90) + ("" if answer.stopped else "   (does not end)")


def _answers(before: Sequence[Answer], after: Sequence[Answer]) -> list[dict[str, Any]]:
    return [
        {
            "kind": first.example.kind, "language": first.example.language, "messages": list(first.example.prompt()),
            "right": first.example.answer(),
            "before": {"text": first.text, "ends": first.stopped}, "after": {"text": last.text, "ends": last.stopped},
        }
        for first, last in zip(before, after, strict=True)
    ]  # fmt: skip
