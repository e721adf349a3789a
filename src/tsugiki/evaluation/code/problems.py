"""Functions to complete: our own, and files in the formats of HumanEval and JHumanEval.

A line of HumanEval's file (.jsonl, or .jsonl.gz as published) is {task_id, prompt, entry_point, canonical_solution,
test}: `prompt` ends after the function's docstring, `test` defines check(candidate). JHumanEval has the same keys with
a prompt in Japanese, under `prompt` or, beside an English one, under `prompt_ja`.
"""

import ast
import copy
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tsugiki.errors import DataError
from tsugiki.evaluation.code.child import encode
from tsugiki.evaluation.code.functions import MADE_BY, Inputs
from tsugiki.evaluation.data.rows import read_text

DEDENT = re.compile(r"^(?=\S)", re.MULTILINE)
CASES = 12
"""Inputs that each of our functions is tried on."""
KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


@dataclass(frozen=True)
class Case:
    """Arguments, and what the function returns for them, encoded as `child.encode` does."""

    arguments: tuple[Any, ...]
    value: list[Any]


@dataclass(frozen=True)
class CodeProblem:
    """A function that ends after its docstring; judged by its values in `cases`, or by `test` where there is one."""

    id: str
    prompt: str
    entry_point: str
    solution: str
    """A body that is right."""
    cases: tuple[Case, ...] = ()
    test: str | None = None


def own_problems() -> list[CodeProblem]:
    """The functions of `functions.py`: what a model gets is the source down to the docstring's end, the solution the
    body."""
    return [_own(function, inputs) for function, inputs in MADE_BY.items()]


def _own(function: Callable[..., Any], inputs: Inputs) -> CodeProblem:
    lines = inspect.getsource(function).splitlines(keepends=True)
    lines = lines[next(number for number, line in enumerate(lines) if line.startswith("def ")) :]
    definition = ast.parse("".join(lines)).body[0]
    assert isinstance(definition, ast.FunctionDef)
    end = definition.body[0].end_lineno  # of the docstring
    cases = []
    for number in range(CASES):
        arguments = inputs(Random(f"code/{function.__name__}/{number}"))
        cases.append(Case(arguments, encode(function(*copy.deepcopy(arguments)))))
    return CodeProblem(function.__name__, "".join(lines[:end]), function.__name__, "".join(lines[end:]), tuple(cases))


def read_problems(path: Path) -> list[CodeProblem]:
    """Problems of a file of HumanEval or JHumanEval. Raises DataError with the line of what is wrong."""
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    problems = [_problem(line, f"{path}, line {number}") for number, line in lines]
    if not problems:
        raise DataError(f"{path}: no problem in it")
    return problems


def _problem(line: str, place: str) -> CodeProblem:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise DataError(f"{place}: not a JSON object")
    values = {**values, "prompt": values.get("prompt_ja", values.get("prompt"))}
    wrong = [key for key in KEYS if not isinstance(values.get(key), str)]
    if wrong:
        raise DataError(f"{place}: no text under {', '.join(wrong)}; HumanEval has {', '.join(KEYS)}")
    return CodeProblem(
        values["task_id"], values["prompt"], values["entry_point"], values["canonical_solution"], test=values["test"]
    )


def cut_body(text: str) -> str:
    """A function's body at the beginning of what a model wrote: up to the first line that is not indented."""
    dedent = DEDENT.search(text)
    return (text[: dedent.start()] if dedent else text).rstrip() + "\n"


def body_is_over(text: str) -> bool:
    """Whether what was written so far holds more than a function's body."""
    return DEDENT.search(text) is not None
