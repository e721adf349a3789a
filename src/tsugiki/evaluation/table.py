"""Several models' scores side by side: a block of columns a language, the averages, what is more than noise.

An average is printed only over the same items of the same tasks for every row. A task that no row could run leaves the
average (which says over how many it is); one that some rows could not run leaves it blank for all.
`table_forms` shows the table in a terminal, as Markdown and as JSON.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tsugiki.errors import ModelError
from tsugiki.evaluation.published import COLUMNS, SOURCES, SUITE, PublishedRow
from tsugiki.evaluation.results import require_one_suite, require_same_metric
from tsugiki.evaluation_files import MissingTask, ModelResult, TaskResult
from tsugiki.statistics import Interval, average_interval, difference_interval, score_interval

LANGUAGES = {"ja": "Japanese", "en": "English"}
"""That come first, in this order; others follow, and after all scores what is measured in bits per byte."""
NAMES = LANGUAGES | {"math": "Mathematics", "code": "Code", "other": "Other"}
"""Of what a task or text is in; others go by their codes."""

INSTRUCTIONS = ": instructions"
"""Of instruction checks, which are no part of any average: behind the code of their language."""


@dataclass(frozen=True)
class Cell:
    """What a row has in a column."""

    score: Interval | None = None
    """None where there is no score; without limits where it was published."""
    difference: Interval | None = None
    """Against the baseline, on the items that both have."""
    dagger: bool = False
    """Not comparable with published scores."""
    task: TaskResult | MissingTask | None = None
    """What the score comes from, in a row of one's own."""
    higher_is_better: bool = True


NOTHING = Cell()


@dataclass(frozen=True)
class Row:
    """A model."""

    name: str
    cells: Mapping[str, Cell]
    """By task."""
    averages: Mapping[str, Cell]
    """By language."""
    published: bool = False


@dataclass(frozen=True)
class Block:
    """The columns of one language."""

    language: str
    name: str
    titles: Mapping[str, str]
    """By task, in the order of the suite."""
    averaged: Sequence[str]
    """The tasks that the average is over; empty where there is none."""

    @property
    def has_average(self) -> bool:
        """Whether a column is kept for it: not beside one task, nor beside several scores of the same answers."""
        return len(self.titles) > 1 and not self.language.endswith(INSTRUCTIONS)


@dataclass(frozen=True)
class ScoreTable:
    """All that the forms of the table show."""

    suite: str
    form: str
    """In what form the suite's tasks were asked: see `ModelResult.form`."""
    blocks: Sequence[Block]
    rows: Sequence[Row]
    baseline: str | None
    notes: Sequence[str]


def make_table(
    results: Sequence[ModelResult],
    *,
    baseline: ModelResult | None = None,
    published: Sequence[PublishedRow] = (),
) -> ScoreTable:
    """The table of one result or several, in the order given; `baseline` is one of them.

    Raises DataError if they were not measured the same way, ValueError without results or if the baseline is none.
    """
    if not results or (baseline is not None and baseline not in results):
        raise ValueError("a table needs results, and its baseline among them")
    suite = require_one_suite(results)
    blocks, on_averages = [], []
    for block in _columns(results):
        averaged, problems = _averaged(block, [result for result in results if result.tasks])  # asked anything at all
        blocks.append(Block(block.language, block.name, block.titles, averaged))
        on_averages += problems
    rows = [_row(result, blocks, baseline) for result in results]
    rows += [_published_row(row, blocks) for row in published]
    if published:
        on_averages += _blank_published(blocks)
    notes = [
        *_legend(results, baseline),
        *_notes(results, baseline),
        *on_averages,
        *(_sources(blocks) if published else ()),
    ]
    return ScoreTable(suite, results[0].form, blocks, rows, baseline.name if baseline else None, notes)


def _columns(results: Sequence[ModelResult]) -> list[Block]:
    """Tasks that any row was asked for, by language."""
    titles: dict[str, dict[str, str]] = {}
    for result in results:
        for name, task in result.tasks.items():
            titles.setdefault(task.language, {}).setdefault(name, task.title)
    blocks = []
    for language in titles:
        code, mark, measure = language.partition(": ")  # as in "ja: bits per byte"
        place = list(LANGUAGES).index(code) if code in LANGUAGES else len(LANGUAGES)
        name = NAMES.get(code, code) + mark + measure
        blocks.append(((measure, place), Block(language, name, titles[language], ())))
    return [block for _, block in sorted(blocks, key=lambda one: one[0])]


def _averaged(block: Block, results: Sequence[ModelResult]) -> tuple[list[str], list[str]]:
    """The tasks to average over, none where rows differ; and in words what is left out and why."""
    if block.language.endswith(INSTRUCTIONS):
        return [], []
    tasks = {name: [result.scored().get(name) for result in results] for name in block.titles}
    nowhere = [name for name, scores in tasks.items() if not any(scores)]
    problems = []
    for name in (name for name in tasks if name not in nowhere):
        lacking = [result.name for result, task in zip(results, tasks[name], strict=True) if task is None]
        items = {result.name: task.ids for result, task in zip(results, tasks[name], strict=True) if task is not None}
        if lacking:
            problems.append(f"{block.titles[name]} is missing in {', '.join(lacking)}")
        elif len({frozenset(ids) for ids in items.values()}) > 1:
            counts = ", ".join(f"{len(ids):,} in {model}" for model, ids in items.items())
            problems.append(f"{block.titles[name]} has other items from row to row ({counts})")
    if problems:
        missed = f"No average for {block.name}: " if len(tasks) > 1 else ""  # one task has none to be missed
        return [], [f"{missed}{'; '.join(problems)}."]
    averaged = [name for name in tasks if name not in nowhere]
    if averaged and nowhere:
        without = ", ".join(block.titles[name] for name in nowhere)
        tasks_left = f"{len(averaged)} task" + "s" * (len(averaged) > 1)
        return averaged, [f"The average for {block.name} is over {tasks_left}, without {without}."]
    return averaged, []


def _row(result: ModelResult, blocks: Sequence[Block], baseline: ModelResult | None) -> Row:
    base = {} if baseline is None or baseline is result else baseline.scored()
    names = (result.name, baseline.name if baseline else "")
    cells, averages = {}, {}
    for block in blocks:
        for name in block.titles:
            cells[name] = _cell(result.tasks.get(name), base.get(name), names, result.suite)
        averages[block.language] = _average([cells[name] for name in block.averaged])
    return Row(result.name, cells, averages)


def _cell(task: TaskResult | MissingTask | None, base: TaskResult | None, names: tuple[str, str], suite: str) -> Cell:
    if not isinstance(task, TaskResult):
        return Cell(task=task)
    difference = None
    if base is not None:
        require_same_metric(task, base, names)
        shared = _shared(task, base)
        difference = difference_interval(task.on(shared), base.on(shared)) if shared else None
    return Cell(score_interval(task.sample), difference, _is_off(task, suite), task, task.higher_is_better)


def _average(cells: Sequence[Cell]) -> Cell:
    scores = [cell.score for cell in cells if cell.score]
    differences = [cell.difference for cell in cells if cell.difference]
    if not scores:
        return NOTHING
    return Cell(
        average_interval(scores), average_interval(differences) if differences else None,
        any(cell.dagger for cell in cells), higher_is_better=all(cell.higher_is_better for cell in cells),
    )  # fmt: skip


def _shared(task: TaskResult, base: TaskResult) -> list[str]:
    both = set(base.ids)
    return [item for item in task.ids if item in both]


def _is_off(task: TaskResult, suite: str) -> bool:
    """In the suite that measures as published: other items or shots, or not all items."""
    return suite == SUITE and (not task.comparable or len(task.ids) < task.total)


def _published_row(row: PublishedRow, blocks: Sequence[Block]) -> Row:
    def cell(score: float | None) -> Cell:
        return NOTHING if score is None else Cell(Interval(score, math.nan, math.nan))

    names = [name for block in blocks for name in block.titles]
    averages = {
        block.language: cell(row.averages.get(block.language) if _all_published(block) else None) for block in blocks
    }
    return Row(row.name, {name: cell(row.scores.get(name)) for name in names}, averages, published=True)


def _all_published(block: Block) -> bool:
    return set(block.averaged) == set(COLUMNS.get(block.language, ()))


def _blank_published(blocks: Sequence[Block]) -> list[str]:
    return [
        f"Published averages for {block.name} are over {len(COLUMNS[block.language])} tasks, other ones than here, and "
        "left blank."
        for block in blocks
        if block.language in COLUMNS and len(block.titles) > 1 and not _all_published(block)
    ]  # fmt: skip


def _sources(blocks: Sequence[Block]) -> list[str]:
    return [
        f"Published rows, {block.name}: {SOURCES[block.language]}." for block in blocks if block.language in SOURCES
    ]


def _legend(results: Sequence[ModelResult], baseline: ModelResult | None) -> list[str]:
    notes = ["±: half the width of the 95 % interval, for items drawn anew."]
    if any(not task.higher_is_better for result in results for task in result.scored().values()):
        notes.append("Bits per byte: fewer are better.")
    if baseline is not None:
        notes.append(
            f"▲ ▼: the difference to {baseline.name} on the same items is more than noise (zero is outside its 95 % "
            "interval). Where nothing has changed, one mark in twenty cells is to be expected."
        )
    return notes


def _notes(results: Sequence[ModelResult], baseline: ModelResult | None) -> list[str]:
    """What is missing, limited or not comparable, and what the tasks have to say: each line once, with the rows that it
    holds for unless it holds for all."""
    rows: dict[str, list[str]] = {}
    guesses: dict[str, float] = {}
    for result in results:
        base = {} if baseline is None or baseline is result else baseline.scored()
        for line in _lines(result, base):
            rows.setdefault(line.rstrip("."), []).append(result.name)
        guesses |= {task.title: task.chance for task in result.scored().values() if task.chance is not None}
    lines = [
        line + ("." if len(names) == len(results) else f" ({', '.join(names)}).") for line, names in rows.items()
    ]  # fmt: skip
    if guesses:
        lines.append("Guessing gets: " + ", ".join(f"{title} {chance:.3f}" for title, chance in guesses.items()) + ".")
    return lines


def _lines(result: ModelResult, base: Mapping[str, TaskResult]) -> Iterator[str]:
    """What there is to say of one row."""
    for task in result.tasks.values():
        if isinstance(task, MissingTask):
            yield f"–  {task.title}: {task.reason}"
    yield from (f"–  ended early: {failure}" for failure in result.failures if isinstance(failure, ModelError))
    if result.form:
        yield f"Asked {result.form}"
    scored = result.scored().values()
    off = [task.title for task in scored if _is_off(task, result.suite)]
    if result.suite != SUITE and not all(task.comparable for task in scored):
        yield f"Not comparable with published scores: the suite {result.suite} measures in a way of its own"
    if off:
        yield f"†  Not comparable with published scores: {', '.join(off)}"
    limited: dict[str, str] = {}  # several scores may be of the same items
    for task in scored:
        if len(task.ids) < task.total:
            limited.setdefault(task.digest or task.task, f"{task.title} {len(task.ids):,} of {task.total:,}")
    if limited:
        yield f"Items: {', '.join(limited.values())}"
    if scored:
        yield _shots(list(scored))
    for task in scored:
        yield from (f"{task.title}: {note}" for note in task.notes)
        if task.task in base and set(task.ids) != set(base[task.task].ids):
            shared = len(_shared(task, base[task.task]))
            yield f"{task.title}: the difference is on the {shared:,} items that both have"


def _shots(tasks: Sequence[TaskResult]) -> str:
    usual = Counter(task.shots for task in tasks).most_common(1)[0][0]
    others = [f"{task.title} {task.shots}" for task in tasks if task.shots != usual]
    return f"Shots: {usual}" + (f", but {', '.join(others)}" if others else "")
