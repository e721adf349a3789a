"""Made-up results of evaluations, as the runner leaves them."""

import numpy as np

from tsugiki.evaluation_files import MissingTask, ModelResult, TaskResult


def scored(task, values, *, ids=None, **changes):
    """A task of the Swallow suite; `values` a number an item, or its sufficient statistics."""
    array = np.array(values, dtype=float)
    array = array.reshape(len(array), -1)
    kept = {
        "title": task.removeprefix("swallow_"), "language": "ja", "metric": "acc", "combine": "mean",
        "total": len(array), "shots": 4,
    }  # fmt: skip
    ids = [f"i{number}" for number in range(len(array))] if ids is None else list(ids)
    return TaskResult(task, ids=ids, values=array, **{**kept, **changes})


def missing(task, reason="no file", language="ja"):
    return MissingTask(task, task.removeprefix("swallow_"), language, reason)


def model(name, *tasks, suite="swallow"):
    return ModelResult(name, {"suite": suite}, {each.task: each for each in tasks})
