"""What an evaluation of a model leaves behind: `scores.json` for tables, `records/TASK.jsonl` to dispute any number.

`scores.json` holds the header, a summary of each task and the value of every item by its id; a table or a paired
comparison needs no other file. A line of `records/TASK.jsonl` is one item with its prompt, output, parsed answer and
gold. The folder appears when all tasks are done, whole: what an evaluation that was stopped has answered stands in the
journal alone.

A folder belongs to one model and one way of asking. A later run there adds its tasks to those of an earlier one, unless
something moved meanwhile that moves numbers (the header says what that is): then it begins anew.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Discriminator, Tag, with_config
from typing_extensions import TypedDict

from tsugiki.errors import DataError, StorageError, TsugikiError
from tsugiki.evaluation.combine import COMBINATIONS, LOWER_IS_BETTER
from tsugiki.files import explain_os_error, read_json, write_atomically, write_json
from tsugiki.folders import made_anew, only_one
from tsugiki.shapes import parse_json
from tsugiki.statistics import Sample, score_interval

SCORES = "scores.json"
RECORDS = "records"
FORMAT = 1
"""Of `scores.json`; another number is another layout."""

Record = Mapping[str, Any]
"""A line of the records: task, item, prompt_hash, prompt, output or choices ([{text, logprob, greedy}]), answer (as
parsed), gold, score (a number) or statistics (a list), prompt_tokens, output_tokens, truncated."""
Digest = Callable[[str], str | None]
"""The digest of a task by its name, as the task is now; None where it cannot be known."""


@dataclass(frozen=True, eq=False)
class TaskResult:
    """The scores of one model on the items of one task."""

    task: str
    title: str
    """A short heading for a column."""
    language: str
    """Its code: ja, en, ..."""
    metric: str
    combine: str
    """How items make the score: a key of `combine.COMBINATIONS`."""
    ids: list[str]
    values: NDArray[np.float64]
    """[items, k]: k = 1 for a mean of scores, sufficient statistics otherwise."""
    total: int
    """Items of the set before a limit took any away."""
    shots: int
    chance: float | None = None
    """The score of guessing, where there is such a thing."""
    comparable: bool = True
    """With published scores: same items, same choice of shots."""
    notes: list[str] = field(default_factory=list)
    digest: str = ""
    """Of all that was asked, before a limit took any away: the task's definition and its data."""

    def __post_init__(self) -> None:
        if self.combine not in COMBINATIONS:
            raise ValueError(f"task {self.task}: combine is {self.combine!r}, not one of {', '.join(COMBINATIONS)}")
        if self.values.ndim != 2 or len(self.values) != len(self.ids) or not self.ids:
            raise ValueError(f"task {self.task}: values {self.values.shape} for {len(self.ids)} items")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"task {self.task}: two items have the same id")
        if not np.isfinite(self.values).all():
            raise ValueError(f"task {self.task}: an item's value is not a finite number")

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score is a better one."""
        return self.combine not in LOWER_IS_BETTER

    @property
    def sample(self) -> Sample:
        """The items as `tsugiki.statistics` takes them; their order makes no difference there."""
        return Sample(self.values, COMBINATIONS[self.combine])

    def on(self, ids: Iterable[str]) -> Sample:
        """The same for some of the items, in the order given. Raises KeyError for one that is not there."""
        place = {item: index for index, item in enumerate(self.ids)}
        return Sample(self.values[[place[item] for item in ids]], COMBINATIONS[self.combine])


@dataclass(frozen=True)
class MissingTask:
    """A task that was asked for and has no score."""

    task: str
    title: str
    language: str
    reason: str


@dataclass(frozen=True, eq=False)
class ModelResult:
    """One model's evaluation; `tasks` in the order in which they were asked."""

    name: str
    header: dict[str, Any]
    """What it takes to reproduce the numbers (JSON values); `suite` names the suite."""
    tasks: dict[str, TaskResult | MissingTask]
    failures: list[TsugikiError] = field(default_factory=list)
    """What went wrong in this run besides data that is not there; not stored."""

    @property
    def suite(self) -> str:
        """Empty where the header names none."""
        return str(self.header.get("suite", ""))

    def scored(self) -> dict[str, TaskResult]:
        """The tasks that have a score."""
        return {name: task for name, task in self.tasks.items() if isinstance(task, TaskResult)}


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


def read_results(folder: Path) -> ModelResult:
    """What `write_results` wrote, without the records.

    Raises StorageError if there is no `scores.json` and DataError if it is damaged, both naming it.
    """
    path = Path(folder) / SCORES
    content = read_json(path, _Scores)
    if content["format"] != FORMAT:
        raise DataError(f"{path} has format {content['format']}, and this version of Tsugiki reads {FORMAT}.")
    try:
        tasks = {
            name: _task(name, summary, content["items"].get(name)) for name, summary in content["tasks"].items()
        }  # fmt: skip
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}). Evaluate the model again.") from None
    return ModelResult(content["name"], content["header"], tasks)


def read_records(folder: Path, task: str) -> Iterator[dict[str, Any]]:
    """The records of a task, one after another, in the order of its items.

    Raises StorageError if the file cannot be read and DataError, with the line, if one is no record.
    """
    path = records_file(Path(folder), task)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield dict(parse_json(line, _Item, f"{path}, line {number}"))
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error


def records_file(folder: Path, task: str) -> Path:
    """Where a task's records lie; a name that is no file name is written with % and digits."""
    return folder / RECORDS / f"{quote(task, safe='')}.jsonl"


def require_one_suite(results: Iterable[ModelResult]) -> str:
    """The suite of all results. Raises DataError, with their names, if there are several."""
    names = {result.suite: result.name for result in results}
    if len(names) > 1:
        found = "; ".join(f"{suite or 'none'} for {name}" for suite, name in names.items())
        raise DataError(f"Results of several suites cannot be compared: {found}. Evaluate all with the same --suite.")
    return next(iter(names))


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


@final
class _Missing(TypedDict):
    title: str
    language: str
    missing: str


@final
class _Scored(TypedDict):
    title: str
    language: str
    metric: str
    combine: str
    total: int
    shots: int
    chance: float | None
    comparable: bool
    notes: list[str]
    digest: NotRequired[str]


def _kind(summary: Any) -> str:
    return "missing" if isinstance(summary, dict) and "missing" in summary else "scored"


class _Scores(TypedDict):
    """What is read of `scores.json`."""

    format: int
    name: str
    header: dict[str, Any]
    tasks: dict[
        str, Annotated[Annotated[_Missing, Tag("missing")] | Annotated[_Scored, Tag("scored")], Discriminator(_kind)]
    ]
    items: dict[str, dict[str, float | list[float]]]


@with_config(ConfigDict(extra="allow"))
class _Item(TypedDict):
    """What is asked of every record."""

    item: str


def _task(name: str, summary: _Missing | _Scored, items: dict[str, Any] | None) -> TaskResult | MissingTask:
    if "missing" in summary:
        return MissingTask(name, summary["title"], summary["language"], summary["missing"])
    if items is None:
        raise ValueError(f"no items of task {name}")
    values = np.array(list(items.values()), dtype=np.float64).reshape(len(items), -1)
    return TaskResult(task=name, ids=list(items), values=values, **summary)


def _plain(values: NDArray[np.float64]) -> list[Any]:
    """A number an item, or a list where it has several."""
    return values[:, 0].tolist() if values.shape[1] == 1 else values.tolist()
