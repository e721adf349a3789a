"""The tasks whose answers are run: `code` (functions of our own), `humaneval` and `jhumaneval` (the user's files)."""

from pathlib import Path

import numpy as np

from tsugiki.errors import DataError
from tsugiki.evaluation.code.functions import own_problems
from tsugiki.evaluation.code.judge import Complete, judge_code
from tsugiki.evaluation.code.problems import CodeProblem, read_problems
from tsugiki.evaluation.journal import digest_of
from tsugiki.evaluation.results import Record, TaskResult

TITLES = {"code": "functions", "humaneval": "HumanEval", "jhumaneval": "JHumanEval"}
FILES = {
    "humaneval": ("humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl"),
    "jhumaneval": ("jhumaneval/JHumanEval.jsonl", "jhumaneval/JHumanEval.jsonl.gz", "jhumaneval/data.jsonl"),
}
"""Where the user puts them in the data folder; neither is fetched."""


def problems_of(name: str, data_dir: Path | None) -> list[CodeProblem]:
    """The problems of a task. Raises DataError when its file is not there or cannot be read."""
    if name == "code":
        return own_problems()
    folder = data_dir or Path()
    found = next((folder / file for file in FILES[name] if (folder / file).exists()), None)
    if found is None:
        raise DataError(
            f"{name}: put the file of its authors at {folder / FILES[name][0]} (or {', '.join(FILES[name][1:])}); it "
            "is not fetched"
        )
    return read_problems(found)


def run_code(
    name: str, problems: list[CodeProblem], complete: Complete, *, limit: int | None, allow_code_execution: bool
) -> tuple[TaskResult, list[Record]]:
    """pass@1 of the greedy completions. Raises RecipeError where running them is not allowed."""
    asked = problems[:limit]
    found = judge_code(asked, complete, allow_code_execution=allow_code_execution)
    records: list[Record] = [
        {"task": name, "prompt_hash": digest_of(problem.prompt), "gold": problem.solution, **record}
        for problem, record in zip(asked, found.records, strict=True)
    ]
    result = TaskResult(
        task=name, title=TITLES[name], language="code", metric="pass@1", combine="mean", ids=found.ids,
        values=np.asarray(found.passed, np.float64)[:, None], total=len(problems), shots=0,
    )  # fmt: skip
    return result, records
