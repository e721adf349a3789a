"""The `code` probe: a model completes small functions, which are run and compared by what they return.

One greedy completion a problem (pass@1 at temperature 0). How well code reads to the model, without running any, is
bits per byte of held-out code: `probes.score.probe_model(texts={"code": …})`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.code.guard import Limits, require_permission, run_candidate, same
from tsugiki.evaluation.code.problems import CodeProblem, cut_body
from tsugiki.model.generate import generate, stop_ids

Complete = Callable[[str], str]
"""From a prompt to what a model writes after it."""


@dataclass(frozen=True, eq=False)
class CodeResult:
    """A model on a set of problems."""

    ids: list[str]
    passed: NDArray[np.float64]
    """[problems]: 1 where the function is right."""
    records: list[dict[str, Any]]
    """By problem: item, prompt, output, answer (the body that was run), score, error (None, or why it is wrong)."""


def judge_code(
    problems: Sequence[CodeProblem],
    complete: Complete,
    *,
    allow_code_execution: bool = False,
    limits: Limits | None = None,
) -> CodeResult:
    """Let `complete` write each function, and run it. Raises RecipeError, before anything is written, unless
    `allow_code_execution` says that what a model writes may run here."""
    require_permission(allow_code_execution)
    records = []
    for problem in problems:
        output = complete(problem.prompt)
        body = cut_body(output)
        error = why_wrong(problem, body, allow_code_execution=allow_code_execution, limits=limits)
        records.append(
            {
                "item": problem.id, "prompt": problem.prompt, "output": output, "answer": body,
                "score": float(error is None), "error": error,
            }
        )  # fmt: skip
    passed = np.array([record["score"] for record in records], np.float64)
    return CodeResult([problem.id for problem in problems], passed, records)


def why_wrong(
    problem: CodeProblem, body: str, *, allow_code_execution: bool, limits: Limits | None = None
) -> str | None:
    """None where a body is right, else what was wrong first."""
    outcome = run_candidate(
        problem.prompt + body,
        problem.entry_point,
        [case.arguments for case in problem.cases],
        test=problem.test,
        limits=limits,
        allow_code_execution=allow_code_execution,
    )
    if outcome.error is not None:
        return outcome.error
    for case, value in zip(problem.cases, outcome.values, strict=True):
        if not same(value, case.value):
            arguments = ", ".join(map(repr, case.arguments))
            return f"{problem.entry_point}({arguments}) gave {value!r:.200}, not {case.value!r:.200}"
    return None


def greedy(model: PreTrainedModel, tokenizer: TextTokenizer, max_new_tokens: int = 256) -> Complete:
    """Completion by a model on its own, the likeliest token each time."""

    def complete(prompt: str) -> str:
        ids = tokenizer.encode(prompt)
        if tokenizer.default_add_bos and tokenizer.bos_id is not None:
            ids = [tokenizer.bos_id, *ids]
        new = generate(model, ids, max_new_tokens=max_new_tokens, stop_ids=stop_ids(model, tokenizer.eos_id))
        # Some tokenizers drop the first space of what is decoded alone.
        return tokenizer.decode([*ids, *new], skip_special=True)[len(tokenizer.decode(ids, skip_special=True)) :]

    return complete
