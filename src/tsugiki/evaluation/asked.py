"""A model that is being asked: what it takes to ask it, and what comes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, RecipeError
from tsugiki.evaluation.backends import LazyBackend
from tsugiki.evaluation.conversations import Chat, NoChat
from tsugiki.evaluation.encoding import ContextTooShort
from tsugiki.evaluation.journal import Journal
from tsugiki.evaluation.models import NamedModel
from tsugiki.evaluation.results import Record
from tsugiki.evaluation_files import MissingTask, ModelResult, TaskResult
from tsugiki.statistics import score_interval

Say = Callable[[str], None]
Scored = tuple[TaskResult, list[Record]]
"""A task's scores, and its records."""


class Progress(Protocol):
    """Told how far the work is."""

    def begin(self, what: str, requests: int, tokens: int) -> None: ...
    def advance(self, tokens: int) -> None: ...


@dataclass
class Asked:
    """A model that is being asked, and where its answers go."""

    model: NamedModel
    backend: LazyBackend
    tokenizer: TextTokenizer
    add_bos: bool
    journal: Journal
    scratch: Path
    result: ModelResult
    say: Say
    progress: Progress
    open_chat: Callable[[], Chat]
    """The model's chat template; raises NoChat where it cannot be asked through one."""
    records: dict[str, list[Record]] = field(default_factory=dict)

    @cached_property
    def _chat(self) -> Chat | NoChat:
        try:
            return self.open_chat()
        except NoChat as error:  # told for every task, found out once
            return error

    @property
    def chat(self) -> Chat:
        """See `open_chat`."""
        if isinstance(self._chat, NoChat):
            raise self._chat
        return self._chat

    def score(self, name: str, title: str, language: str, work: Callable[[], list[Scored]]) -> None:
        """Put what `work` gives into the result; where data is not there, the model's positions do not suffice, it has
        no chat template that is needed, or the task is in error, a `MissingTask`."""
        started = time.monotonic()
        try:
            found = work()
        except (DataError, ContextTooShort, NoChat, RecipeError) as error:
            if isinstance(error, RecipeError):
                self.result.failures.append(error)
            self.miss(name, title, language, str(error))
            return
        for scored, records in found:
            self.keep(scored, records, f", {time.monotonic() - started:,.0f} s")

    def miss(self, name: str, title: str, language: str, reason: str) -> None:
        """Put into the result that a task has no score, and say so."""
        self.result.tasks[name] = MissingTask(name, title, language, reason)
        self.say(f"missing    {title}: {reason}")

    def keep(self, scored: TaskResult, records: list[Record], took: str = "") -> None:
        """Put a task's scores into the result, with its records, and say so."""
        self.result.tasks[scored.task] = scored
        self.records[scored.task] = records
        score, items = score_interval(scored.sample), len(scored.ids)
        reach = f" ({score.low:.4f} to {score.high:.4f})" if score.limits() else ""  # one item may say nothing of it
        self.say(
            f"scored     {scored.title}: {score.estimate:.4f}{reach}, {scored.metric}, "
            f"{items:,} item{'s' * (items != 1)}{took}"
        )
