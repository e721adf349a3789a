"""What an evaluation of a model leaves behind: `scores.json` for tables, `records/TASK.jsonl` to dispute any number
(`tsugiki.evaluation_files` has their form).

The folder appears when all tasks are done, whole: what an evaluation that was stopped has answered stands in the
journal alone.

A folder belongs to one model and one way of asking. A later run there adds its tasks to those of an earlier one, unless
something moved meanwhile that moves numbers (the header says what that is): then it begins anew.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsugiki.errors import DataError, TsugikiError
from tsugiki.evaluation_files import (
    FORMAT,
    RECORDS,
    SCORES,
    MissingTask,
    ModelResult,
    TaskResult,
    read_results,
    records_file,
)
from tsugiki.files import write_atomically, write_json
from tsugiki.folders import made_anew, only_one
from tsugiki.statistics import score_interval

Record = Mapping[str, Any]
"""A line of the records: task, item, prompt_hash, prompt, output or choices ([{text, logprob, greedy}]), answer (as
parsed), gold, score (a number) or statistics (a list), prompt_tokens, output_tokens, truncated."""
Digest = Callable[[str], str | None]
"""The digest of a task by its name, as the task is now; None where it cannot be known."""


def write_results(
    folder: Path, result: ModelResult, records: Mapping[str, Iterable[Record]], digest: Digest = lambda name: None
) -> list[str]:
    """Make the folder with `scores.json` and the records of every task, in the place of a former one.

    What an earlier run scored in the same way stays, and nothing else; a task that `digest` knows to be another by now
    does not. Returns the titles of those. Raises ValueError if a task has no records or those of other items,
    StorageError when the disk refuses.
    """
    with only_one(folder), made_anew(folder) as work:
        result, earlier, changed = _with_earlier(folder, result, digest)
        scored = result.scored()
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in (SCORES, RECORDS):  # somebody's notes
                (shutil.copytree if path.is_dir() else shutil.copyfile)(path, work / path.name)
        (work / RECORDS).mkdir()
        for name, task in scored.items():
            if name in earlier:
                shutil.copyfile(records_file(folder, name), records_file(work, name))
                continue
            lines = list(records.get(name, ()))
            if [record["item"] for record in lines] != task.ids:
                raise ValueError(f"task {name}: its records are not those of its items")
            text = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in lines)
            write_atomically(records_file(work, name), text)
        write_json(work / SCORES, {
            "format": FORMAT, "name": result.name, "header": result.header,
            "tasks": {name: _summary(task) for name, task in result.tasks.items()},
            "items": {name: dict(zip(task.ids, _plain(task.values), strict=True)) for name, task in scored.items()},
        })  # fmt: skip
    return changed


def _with_earlier(folder: Path, result: ModelResult, digest: Digest) -> tuple[ModelResult, Collection[str], list[str]]:
    """A result with what an earlier run in its folder scored in the same way and this one has not; the names of those
    tasks; and the titles of those that are left out, being other tasks now."""
    try:
        earlier = read_results(folder)
    except TsugikiError:  # there is none, or none that can be read
        return result, (), []
    if _way(earlier.header) != _way(result.header):
        return result, (), []
    scored = result.scored()
    kept, changed = {}, []
    for name, task in earlier.scored().items():
        if name in scored or not records_file(folder, name).exists():
            continue
        if digest(name) in (None, task.digest):
            kept[name] = task
        else:
            changed.append(task.title)
    facts = {name: stated for name, stated in earlier.header.get("tasks", {}).items() if name in kept}
    header = {**result.header, **({"tasks": {**facts, **result.header.get("tasks", {})}} if facts else {})}
    tasks = {**kept, **{name: task for name, task in result.tasks.items() if name not in kept}}
    return replace(result, header=header, tasks=tasks), kept.keys(), changed


def _way(header: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for scores of two runs to stand under one header: all of it but the date, what is said of
    single tasks, and where and in which batches it was computed."""
    backend = {key: header.get("backend", {}).get(key) for key in ("name", "dtype")}
    return {**header, "date": None, "tasks": None, "backend": backend}


def require_one_suite(results: Iterable[ModelResult]) -> str:
    """The suite of all results. Raises DataError, with their names, if there are several, or if some were asked through
    a chat template and others were not."""
    ways = {(result.suite, result.form): result.name for result in results}
    if len(ways) > 1:
        found = "; ".join(
            f"{suite or 'none'}{f' ({form})' if form else ''} for {name}" for (suite, form), name in ways.items()
        )
        raise DataError(
            f"Results of several suites or forms cannot be compared: {found}. Evaluate all with the same --suite and "
            "--chat-template."
        )
    return next(iter(ways))[0]


def require_same_metric(one: TaskResult, other: TaskResult, names: tuple[str, str]) -> None:
    """Raises DataError, with the names of the models, if a task was measured in two ways."""
    if (one.metric, one.combine) != (other.metric, other.combine):
        raise DataError(
            f"task {one.task}: {one.metric} for {names[0]} and {other.metric} for {names[1]} cannot be compared. "
            "Evaluate both with the same version of the task."
        )


def _summary(task: TaskResult | MissingTask) -> dict[str, Any]:
    if isinstance(task, MissingTask):
        return {"title": task.title, "language": task.language, "missing": task.reason}
    score = score_interval(task.sample)
    return {
        "title": task.title, "language": task.language, "metric": task.metric, "combine": task.combine,
        "score": score.estimate, "interval": score.limits(), "items": len(task.ids), "total": task.total,
        "shots": task.shots, "chance": task.chance, "comparable": task.comparable, "notes": task.notes,
        "digest": task.digest,
    }  # fmt: skip


def _plain(values: NDArray[np.float64]) -> list[Any]:
    """A number an item, or a list where it has several."""
    return values[:, 0].tolist() if values.shape[1] == 1 else values.tolist()
