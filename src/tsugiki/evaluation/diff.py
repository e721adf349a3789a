"""Two evaluations item by item: which answers became right or wrong, with the prompt's end, both outputs, gold.

Scores come from `scores.json`; of the records only those of changed items are kept: long prompts cost no memory.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tsugiki.errors import DataError
from tsugiki.evaluation.results import require_one_suite, require_same_metric
from tsugiki.evaluation_files import TaskResult, read_records, read_results
from tsugiki.printable import printable
from tsugiki.score_combinations import COMBINATIONS
from tsugiki.statistics import Interval, difference_interval

TAIL = 200
"""Characters shown of the end of a prompt and of the start of an output."""


@dataclass(frozen=True)
class Change:
    """An item whose score differs."""

    item: str
    before: float
    after: float
    """The item's own score, of a corpus metric that of the item alone."""
    same_prompt: bool
    records: tuple[Mapping[str, Any], Mapping[str, Any]]


@dataclass(frozen=True)
class TaskDiff:
    """One task in both evaluations."""

    task: str
    title: str
    metric: str
    higher_is_better: bool
    shared: int
    """Items that both have; the others are left aside."""
    only: tuple[int, int]
    """Items of the first and of the second alone."""
    other_prompts: int
    """Shared items that were asked in other words."""
    scores: tuple[float, float]
    """On the shared items."""
    difference: Interval
    changes: Sequence[Change]
    """Falls first, then rises, the largest first."""
    other_task: bool = False
    """Whether the two asked by another definition, or of other data."""

    @property
    def falls(self) -> int:
        """Items whose score fell: with right and wrong alone, from right to wrong; in bits per byte the better ones."""
        return sum(change.after < change.before for change in self.changes)

    def first(self, limit: int) -> list[Change]:
        """The first `limit` falls and as many rises."""
        return [*self.changes[: self.falls][:limit], *self.changes[self.falls :][:limit]]


@dataclass(frozen=True)
class Diff:
    """Two evaluations of models, the first being the one compared against."""

    names: tuple[str, str]
    tasks: Sequence[TaskDiff]


def compare(before: Path, after: Path, tasks: Collection[str] = ()) -> Diff:
    """Compare the tasks (all if none is named) that both folders of results have a score for.

    Raises StorageError or DataError if one cannot be read, DataError if there is nothing to compare or if the two were
    not measured the same way.
    """
    results = (read_results(before), read_results(after))
    names = (results[0].name, results[1].name)
    require_one_suite(results)
    first, second = (result.scored() for result in results)
    shared = [
        name for name in first if name in second and (not tasks or name in tasks or _short_name(name) in tasks)
    ]  # fmt: skip
    unknown = [name for name in tasks if name not in shared and name not in map(_short_name, shared)]
    if unknown or not shared:
        raise DataError(
            f"{before} and {after} have no common score for {', '.join(unknown) or 'any task'}. The first has "
            f"{', '.join(first) or 'none'}; the second {', '.join(second) or 'none'}."
        )
    found = []
    for name in shared:
        require_same_metric(second[name], first[name], (names[1], names[0]))
        found.append(_compare_task((before, after), first[name], second[name]))
    return Diff(names, found)


def _short_name(task: str) -> str:
    """The name of a suite's task without the suite's prefix, as `tsugiki evaluate --tasks` takes it."""
    return task.partition("_")[2]


def _compare_task(folders: tuple[Path, Path], first: TaskResult, second: TaskResult) -> TaskDiff:
    both = set(second.ids)
    shared = [item for item in first.ids if item in both]
    if not shared:
        raise DataError(f"{folders[0]} and {folders[1]}: task {first.task} has no common item.")
    one, other = first.on(shared), second.on(shared)
    combine = COMBINATIONS[first.combine]
    values = zip(shared, combine(one.rows, 1).tolist(), combine(other.rows, 1).tolist(), strict=True)
    moved = {item: (low, high) for item, low, high in values if low != high}
    (prompts, records), (other_prompts, other_records) = (
        _records(folder, first.task, set(shared), moved.keys()) for folder in folders
    )
    same = {item: prompts[item] == other_prompts[item] for item in shared}
    changes = [
        Change(item, low, high, same[item], (records[item], other_records[item]))
        for item, (low, high) in moved.items()
    ]  # fmt: skip
    changes.sort(key=lambda change: (change.after > change.before, -abs(change.after - change.before)))
    return TaskDiff(
        first.task, first.title, first.metric, first.higher_is_better, len(shared),
        (len(first.ids) - len(shared), len(second.ids) - len(shared)),
        len(shared) - sum(same.values()), (one.score, other.score), difference_interval(other, one), changes,
        "" != first.digest != second.digest != "",
    )  # fmt: skip


def _records(
    folder: Path, task: str, items: Collection[str], kept: Collection[str]
) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """The prompt hashes of the items, and the records of those that are kept. Raises DataError if one has none."""
    hashes: dict[str, Any] = {}
    records: dict[str, Mapping[str, Any]] = {}
    for record in read_records(folder, task):
        item = record["item"]
        if item in items:
            hashes[item] = record.get("prompt_hash")
        if item in kept:
            records[item] = record
    missing = next((item for item in items if item not in hashes), None)
    if missing is not None:
        raise DataError(f"{folder}: no record of item {missing} of task {task}. Evaluate the model again.")
    return hashes, records


def draw(diff: Diff, limit: int = 10) -> Group:
    """The comparison as a terminal shows it, with the first `limit` falls and rises of a task."""
    before, after = (_plain(name) for name in diff.names)
    parts: list[RenderableType] = [Text(f"before: {before}\nafter:  {after}")]
    for task in diff.tasks:
        parts += [Text(""), *map(Text, _summary(task))]
        listed = task.first(limit)
        for change in listed:
            parts += [Text(""), _drawn(change)]
        if more := len(task.changes) - len(listed):
            parts += [Text(""), Text(f"… and {more:,} more of {_plain(task.title)}", style="dim")]
    return Group(*parts)


def _summary(task: TaskDiff) -> Iterator[str]:
    rises = len(task.changes) - task.falls
    difference = task.difference
    reach = "" if difference.limits() is None else f" ±{difference.half_width:.3f}"
    noise = "more than noise" if difference.outside_zero else "within noise"
    yield (
        f"{_plain(task.title)}, {_plain(task.metric)}: {task.scores[0]:.3f} -> {task.scores[1]:.3f} "
        f"({difference.estimate:+z.3f}{reach}, {noise}). Of {task.shared:,} items {task.falls:,} fell, {rises:,} rose"
        + ("." if task.higher_is_better else "; fewer are better.")
    )
    if task.other_task:
        yield (
            "The task's definition or data was another in each: this compares tasks as well as models. Evaluate both "
            "with the same files."
        )
    if any(task.only):
        yield f"Not compared: {task.only[0]:,} items of the first alone, {task.only[1]:,} of the second alone."
    if task.other_prompts:
        yield (
            f"{task.other_prompts:,} of {task.shared:,} items had another prompt: this compares ways of asking as well "
            "as models."
        )


def _drawn(change: Change) -> Text:
    fell = change.after < change.before
    before, after = change.records
    text = Text(f"{'▼' if fell else '▲'} {_plain(change.item)}  {change.before:.3f} -> {change.after:.3f}")
    text.stylize("bold", 0, 1)
    lines = [("prompt", _tail(before)), ("gold", _short(before.get("gold"))), *_answers(before, after)]
    if "answer" not in before:  # a text, of which each token is scored and none is an answer
        lines = [("prompt", _tail(before))] * bool(before.get("prompt")) + [("text", _short(before.get("gold")))]
    if not change.same_prompt:
        lines.insert(1, ("after's", _tail(after)))
    for label, content in lines:
        text.append(f"\n  {label:8}", style="dim").append(content)
    return text


def _answers(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for label, record in (("before", before), ("after", after)):
        output = _output(record)
        answer = _short(record.get("answer"))
        yield label, answer if answer == output else f"{answer}   from {output}"


def _output(record: Mapping[str, Any]) -> str:
    """The text that was generated, or the choice that was likeliest with its log-probability where there is one."""
    choices = [choice for choice in record.get("choices") or () if "logprob" in choice]
    if choices:
        best = max(choices, key=lambda choice: choice["logprob"])
        return f"{_short(best['text'])} ({best['logprob']:.2f})"
    if "output" not in record:
        return _short(record.get("answer"))
    return _short(record["output"])


def _tail(record: Mapping[str, Any]) -> str:
    prompt = str(record.get("prompt", ""))
    return ("…" if len(prompt) > TAIL else "") + _plain(prompt[-TAIL:])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _plain(text[:TAIL]) + ("…" if len(text) > TAIL else "")


def to_json_lines(diff: Diff) -> Iterator[str]:
    """A line an item whose score changed, with both records whole."""
    for task in diff.tasks:
        for change in task.changes:
            yield json.dumps(
                {
                    "task": task.task, "item": change.item, "before": change.before, "after": change.after,
                    "same_prompt": change.same_prompt, "records": list(change.records),
                },
                ensure_ascii=False,
            )  # fmt: skip


def _plain(text: str) -> str:
    """Text on one line: its line ends and control characters made visible."""
    return printable(text, {"\n": "⏎"})
