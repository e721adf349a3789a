"""The tasks whose answers are run: `code` (functions of our own), `humaneval` and `jhumaneval` (the user's files)."""

from pathlib import Path

import numpy as np

from tsugiki.errors import DataError
from tsugiki.evaluation.code.guard import require_permission
from tsugiki.evaluation.code.judge import Complete, why_wrong
from tsugiki.evaluation.code.problems import CodeProblem, cut_body, own_problems, read_problems
from tsugiki.evaluation.data.authors import authors_file
from tsugiki.evaluation.journal import digest_of
from tsugiki.evaluation.results import Record
from tsugiki.evaluation_files import TaskResult

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
    return read_problems(authors_file(name, FILES[name], data_dir))


def code_digest(name: str, data_dir: Path | None) -> str | None:
    """The digest of a task's problems; None for another task, or where they cannot be read."""
    try:
        return digest_of(repr(problems_of(name, data_dir))) if name in TITLES else None
    except DataError:
        return None


def run_code(
    name: str, problems: list[CodeProblem], complete: Complete, *, limit: int | None, allow_code_execution: bool
) -> tuple[TaskResult, list[Record]]:
    """Let `complete` write each function, and run it: pass@1. Raises RecipeError, before anything is written, unless
    `allow_code_execution` says that what a model writes may run here."""
    require_permission(allow_code_execution)
    asked = problems[:limit]
    records: list[Record] = []
    for problem, output in zip(asked, complete([problem.prompt for problem in asked]), strict=True):
        body = cut_body(output)
        error = why_wrong(problem, body, allow_code_execution=allow_code_execution)
        records.append({
            "task": name, "item": problem.id, "prompt_hash": digest_of(problem.prompt), "prompt": problem.prompt,
            "output": output, "answer": body, "gold": problem.solution, "score": float(error is None), "error": error,
        })  # fmt: skip
    passed = np.array([[record["score"]] for record in records], np.float64)
    result = TaskResult(
        task=name, title=TITLES[name], language="code", metric="pass@1", combine="mean",
        ids=[problem.id for problem in asked], values=passed, total=len(problems), shots=0,
        digest=digest_of(repr(problems)),
    )  # fmt: skip
    return result, records
