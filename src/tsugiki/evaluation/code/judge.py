"""The `code` probe: a model completes small functions, which are run and compared by what they return.

One greedy completion a problem (pass@1 at temperature 0). How well code reads to the model, without running any, is
bits per byte of held-out code: `probes.score.probe_model(texts={"code": …})`.
"""

from collections.abc import Callable, Sequence
from functools import partial

from tsugiki.evaluation.code.guard import run_candidate, same
from tsugiki.evaluation.code.problems import CodeProblem, body_is_over
from tsugiki.evaluation.encoding import Encoder
from tsugiki.evaluation.journal import Journal, Key, digest_of
from tsugiki.evaluation.stopping import Answer
from tsugiki.model.cached.requests import Engine, Prompt

MAX_NEW_TOKENS = 256

Complete = Callable[[Sequence[str]], list[str]]
"""From prompts to what a model writes after each."""


def why_wrong(problem: CodeProblem, body: str, *, allow_code_execution: bool) -> str | None:
    """None where a body is right, else what was wrong first."""
    outcome = run_candidate(
        problem.prompt + body,
        problem.entry_point,
        [case.arguments for case in problem.cases],
        test=problem.test,
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
    engine: Engine, encoder: Encoder, journal: Journal, task: str, *, numerics: Sequence[str]
) -> Complete:  # fmt: skip
    """Completion by an engine, the likeliest token each time, until a line that is not indented ends the body. What the
    journal knows is not asked for again. `numerics`: see `backends.Facts`."""

    def key(prompt: str) -> Key:
        decided = digest_of(prompt, encoder.before, encoder.max_length, MAX_NEW_TOKENS, numerics)
        return Key(task, decided, 0, decided)

    def complete(prompts: Sequence[str]) -> list[str]:
        unknown = [prompt for prompt in dict.fromkeys(prompts) if journal.get(key(prompt)) is None]
        encoded = encoder.prompts(unknown, room=MAX_NEW_TOKENS)
        answers = [Answer(encoder.tokenizer, one.prompt, (), None) for one in encoded]

        def keep(index: int, new: list[int]) -> None:
            journal.add(key(unknown[index]), {"text": answers[index].text(new, ended=True)[0]})

        stops = [partial(_is_over, answer) for answer in answers]
        if unknown:
            engine.generate(
                [Prompt(one.prompt, MAX_NEW_TOKENS, stop) for one, stop in zip(encoded, stops, strict=True)], keep
            )
        return [(journal.get(key(prompt)) or {})["text"] for prompt in prompts]

    return complete


def _is_over(answer: Answer, new: list[int]) -> bool:
    return body_is_over(answer.text(new, ended=False)[0])
