"""The `code` probe: a model completes small functions, which are run and compared by what they return.

One greedy completion a problem (pass@1 at temperature 0). How well code reads to the model, without running any, is
bits per byte of held-out code: `probes.score.probe_model(texts={"code": …})`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tsugiki.evaluation.code.guard import Limits, require_permission, run_candidate, same
from tsugiki.evaluation.code.problems import CodeProblem, body_is_over, cut_body
from tsugiki.evaluation.encoding import Encoder
from tsugiki.evaluation.journal import Journal, Key, digest_of
from tsugiki.evaluation.stopping import Answer
from tsugiki.model.cached.requests import Prompt

Complete = Callable[[Sequence[str]], list[str]]
"""From prompts to what a model writes after each."""


class Generator(Protocol):
    """What writes: `CachedModel`, or a backend that opens one."""

    def generate(self, requests: Sequence[Prompt], done: Callable[[int, list[int]], None]) -> None: ...


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
    outputs = complete([problem.prompt for problem in problems])
    for problem, output in zip(problems, outputs, strict=True):
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


def greedy(
    engine: Generator, encoder: Encoder, journal: Journal, task: str, max_new_tokens: int = 256,
    numerics: Sequence[str] = (),
) -> Complete:  # fmt: skip
    """Completion by an engine, the likeliest token each time, until a line that is not indented ends the body. What the
    journal knows is not asked for again. `numerics`: see `backends.Facts`."""

    def key(prompt: str) -> Key:
        decided = digest_of(prompt, encoder.before, encoder.max_length, max_new_tokens, numerics)
        return Key(task, decided, 0, decided)

    def complete(prompts: Sequence[str]) -> list[str]:
        unknown = [prompt for prompt in dict.fromkeys(prompts) if journal.get(key(prompt)) is None]
        encoded = encoder.prompts(unknown, room=max_new_tokens)
        answers = [Answer(encoder.tokenizer, one.prompt, (), None) for one in encoded]

        def keep(index: int, new: list[int]) -> None:
            journal.add(key(unknown[index]), {"text": answers[index].text(new, ended=True)[0]})

        stops = [partial(_is_over, answer) for answer in answers]
        if unknown:
            engine.generate(
                [Prompt(one.prompt, max_new_tokens, stop) for one, stop in zip(encoded, stops, strict=True)], keep
            )
        return [(journal.get(key(prompt)) or {})["text"] for prompt in prompts]

    return complete


def _is_over(answer: Answer, new: list[int]) -> bool:
    return body_is_over(answer.text(new, ended=False)[0])
