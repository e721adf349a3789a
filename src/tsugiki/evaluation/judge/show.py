"""From two sides to the table: what `tsugiki evaluate judge` does."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tsugiki.errors import DataError
from tsugiki.evaluation.asked import Progress, Say
from tsugiki.evaluation.journal import Journal, digest_of
from tsugiki.evaluation.judge.answers import Answers, Prompts, answers_of_file, answers_of_model
from tsugiki.evaluation.judge.compare import Judged, Pair, Tally, judge_pairs, tally
from tsugiki.evaluation.judge.endpoint import Endpoint
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings, versions
from tsugiki.files import write_atomically, write_json
from tsugiki.printable import markdown, markdown_table, one_line

RULE = (
    "Each pair was judged in both orders. An answer wins where both verdicts say so; all else, a verdict that flips "
    "with the order too, is a tie. The score counts a tie half. ±: half the width of its 95 % interval, for prompts "
    "drawn anew."
)
HEADINGS = ("prompts", "pairs", "wins", "ties", "losses", "score of A", "flipped", "first preferred")


def judge_and_show(
    sides: tuple[str, str],
    asked_for: Sequence[Prompts],
    settings: Settings,
    endpoint: Endpoint,
    output: Path,
    say: Say,
    progress: Progress,
    console: Console,
    *,
    parallel: int,
    limit: int | None,
) -> dict[str, Tally]:
    """Have the two sides' answers to `asked_for` compared (to what both answer, where both are files); print the table
    and write result.json, verdicts.jsonl and table.md into a folder of `<output>/judged`. The tallies by title.

    Raises TsugikiError: DataError where the sides have no prompt in common, or no verdict could be read.
    """
    if sides[0] == sides[1]:
        raise DataError(f"{sides[0]} is compared with itself: name two models, or files of answers")
    files = {name: answers_of_file(Path(name)) for name in sides if name.endswith(".jsonl")}
    if len(files) == 2:
        asked_for = files[sides[0]][1]
    for answered, _ in files.values():
        asked_for = [
            _of(one, [item for item, text in one.texts.items() if text in answered.texts]) for one in asked_for
        ]
    asked_for = [_of(one, list(one.texts)[:limit]) for one in asked_for if one.texts]
    if not asked_for:
        raise DataError(f"{sides[0]} and {sides[1]} have no prompt in common, word for word")
    answers = [
        files[name][0] if name in files
        else answers_of_model(find_model(name), asked_for, settings, output, say, progress)
        for name in sides
    ]  # fmt: skip
    pairs = [
        Pair(one.name, item, text, answers[0].texts[text], answers[1].texts[text])
        for one in asked_for
        for item, text in one.texts.items()
    ]
    decided = digest_of([side.identity for side in answers], endpoint.url, endpoint.model, dict(endpoint.options))
    folder = output / "judged" / f"{answers[0].label}-against-{answers[1].label}-{decided[:8]}"
    say(f"judge      {endpoint.model} at {endpoint.url}: {len(pairs):,} pairs, in both orders")
    with Journal(folder / "journal.jsonl") as journal:
        judged = judge_pairs(
            endpoint, pairs, journal, parallel=parallel, advance=progress.advance,
            begin=lambda requests, units: progress.begin("verdicts", requests, units),
        )  # fmt: skip
        tallies = {
            one.title: tally([judge for judge in judged if judge.pair.name == one.name]) for one in asked_for
        } | ({"all": tally(judged)} if len(asked_for) > 1 else {})
        _write(folder, sides, answers, endpoint, judged, tallies)
    console.print()
    console.print(_draw(tallies, sides))
    console.print(Text(RULE))
    say(f"verdicts   {folder}")
    unread = sum(judge.outcome is None for judge in judged)
    if unread:
        say(f"unread     {unread:,} of {len(judged):,} pairs: no verdict; the judge's words are in verdicts.jsonl")
    if unread == len(judged):
        raise DataError(f"{endpoint.model} gave no verdict on any pair: see {folder / 'verdicts.jsonl'}")
    return tallies


def _of(asked: Prompts, items: Sequence[str]) -> Prompts:
    """Some of the prompts."""
    return Prompts(asked.name, asked.title, {item: asked.texts[item] for item in items}, asked.budget)


def _write(
    folder: Path, sides: Sequence[str], answers: Sequence[Answers], endpoint: Endpoint, judged: Sequence[Judged],
    tallies: Mapping[str, Tally],
) -> None:  # fmt: skip
    lines = [json.dumps(_line(one), ensure_ascii=False) + "\n" for one in judged]
    write_atomically(folder / "verdicts.jsonl", "".join(lines))
    write_atomically(folder / "table.md", _to_markdown(tallies, sides, endpoint))
    write_json(folder / "result.json", {
        "a": {"name": answers[0].label, "source": sides[0], "digest": answers[0].identity},
        "b": {"name": answers[1].label, "source": sides[1], "digest": answers[1].identity},
        "judge": {"url": endpoint.url, "model": endpoint.model, "options": dict(endpoint.options)},
        "rule": RULE, "tallies": {title: _json(one) for title, one in tallies.items()}, "versions": versions(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    })  # fmt: skip


def _json(one: Tally) -> dict[str, Any]:
    score = one.score
    return asdict(one) | {"score": score and score.estimate, "interval": score and score.limits()}


def _line(one: Judged) -> dict[str, Any]:
    pair = one.pair
    return {
        "task": pair.name, "item": pair.item, "prompt": pair.prompt, "a": pair.a, "b": pair.b, "outcome": one.outcome,
        "verdicts": list(one.verdicts), "said": list(one.said),
    }  # fmt: skip


def _cells(title: str, one: Tally) -> list[str]:
    score = "–"
    if one.score is not None:
        reach = f" ±{one.score.half_width:.3f}" if one.score.limits() else ""
        score = f"{one.score.estimate:.3f}{reach}"
    pairs = one.won + one.tied + one.lost
    first = f"{one.first:,} of {one.named:,}"
    return [title, f"{pairs:,}", f"{one.won:,}", f"{one.tied:,}", f"{one.lost:,}", score, f"{one.flipped:,}", first]


def _caption(sides: Sequence[str]) -> str:
    return f"A: {sides[0]}; B: {sides[1]}"


def _draw(tallies: Mapping[str, Tally], sides: Sequence[str]) -> Table:
    table = Table(title=Text(one_line(_caption(sides))), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for title, one in tallies.items():
        table.add_row(*(Text(one_line(cell)) for cell in _cells(title, one)))
    return table


def _to_markdown(tallies: Mapping[str, Tally], sides: Sequence[str], endpoint: Endpoint) -> str:
    rows = [[markdown(cell) for cell in _cells(title, one)] for title, one in tallies.items()]
    table = markdown_table(HEADINGS, rows, texts=1)
    judge = markdown(f"{endpoint.model} at {endpoint.url}")
    return f"{markdown(_caption(sides))}; judge: {judge}\n\n{table}\n\n{RULE}\n"
