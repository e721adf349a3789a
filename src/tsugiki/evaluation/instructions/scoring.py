"""Strict and loose: whether an answer, or a slightly cleaned form of it, follows each instruction.

Loose as IFEval defines it (Zhou et al. 2023, arXiv:2311.07911): an instruction counts as followed where any of eight
forms of the answer follows it, with or without asterisks, the first line and the last, so that "Sure, here it is:" and
bold text cost nothing.
"""

from dataclasses import dataclass
from itertools import product

from tsugiki.evaluation.instructions.prompts import Prompt


@dataclass(frozen=True)
class Judged:
    """Which instructions of a prompt an answer follows, in their order."""

    strict: list[bool]
    loose: list[bool]


def judge(prompt: Prompt, answer: str) -> Judged:
    """What of a prompt an answer follows. An answer that says nothing follows none."""
    variants = loose_forms(answer)
    return Judged(
        [instruction.followed_by(answer) for instruction in prompt.instructions],
        [any(map(instruction.followed_by, variants)) for instruction in prompt.instructions],
    )


def loose_forms(answer: str) -> list[str]:
    """The eight forms, the answer itself first."""
    lines = answer.split("\n")
    cut = [answer, *("\n".join(lines[first:last]).strip() for first, last in ((1, None), (0, -1), (1, -1)))]
    return [text.replace("*", "") if plain else text for plain, text in product((False, True), cut)]
