"""An evaluation as it is stored: what was scored, the value of every item, and the files that hold it.

Evaluation writes them (`evaluation/results.py`); tables, comparisons, sweeps and reports read them. `scores.json` holds
the header, a summary of each task and the value of every item by its id: a table or a paired comparison needs no other
file. A line of `records/TASK.jsonl` is one item with its prompt, output, parsed answer and gold.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Discriminator, Tag, with_config
from typing_extensions import TypedDict

from tsugiki.errors import DataError, StorageError, TsugikiError
from tsugiki.files import explain_os_error, read_json
from tsugiki.printable import one_line
from tsugiki.score_combinations import COMBINATIONS, LOWER_IS_BETTER
from tsugiki.shapes import parse_json
from tsugiki.statistics import Sample

SCORES = "scores.json"
RECORDS = "records"
FORMAT = 1
"""Of `scores.json`; another number is another layout."""


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
    """How items make the score: a key of `score_combinations.COMBINATIONS`."""
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
class KnownTask:
    """A task that an evaluation will score."""

    task: str
    """As in `TaskResult`."""
    name: str
    """As a recipe names it."""
    language: str
    higher_is_better: bool = True


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

    @property
    def form(self) -> str:
        """In what form the suite's tasks were asked: in words, empty for plain text."""
        chat = self.header.get("chat_template")
        if not isinstance(chat, dict):
            return ""
        shots = "as turns" if chat.get("fewshot_as_multiturn") else "in one turn"
        return f"through the chat template, solved examples {shots}"

    def scored(self) -> dict[str, TaskResult]:
        """The tasks that have a score."""
        return {name: task for name, task in self.tasks.items() if isinstance(task, TaskResult)}


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
        raise DataError(f"{path} is damaged ({one_line(error, 300)}). Evaluate the model again.") from None
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
