"""Task files loaded and run as lm-eval does it, on a folder of data."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from tsugiki.evaluation.suites import SUITES
from tsugiki.evaluation.tasks import FOLDER

logging.getLogger("lm_eval").setLevel(logging.ERROR)


def task_name(profile: str, name: str) -> str:
    return f"{SUITES[profile].prefix}{name}"


@cache
def manager(folder: Path) -> TaskManager:
    return TaskManager(include_path=str(FOLDER), include_defaults=False, metadata={"data_dir": str(folder)})


@cache
def load_task(name: str, folder: Path) -> Any:
    """The task called `name` on the data in `folder`, shared between tests: change nothing in it."""
    return manager(folder).load([name])["tasks"][name]


def requests(task: Any, place: int, k: int | None = None) -> list[tuple[str, Any]]:
    """(prompt, continuation or generation settings) of each request for the item at `place`, with k shots."""
    item = task.eval_docs[place]
    context = task.fewshot_context(item, task.config.num_fewshot if k is None else k)
    made = task.construct_requests(item, context)
    return [instance.args for instance in (made if isinstance(made, list) else [made])]
