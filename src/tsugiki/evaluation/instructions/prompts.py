"""Prompts with the instructions that an answer is checked for: our own, and the form of their files.

A line of a file: {"id", "language", "prompt", "instructions": [{"id": a key of `VERIFIERS`, and its arguments}]}.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tsugiki.errors import DataError
from tsugiki.evaluation.data.rows import read_text
from tsugiki.evaluation.instructions.verifiers import VERIFIERS
from tsugiki.shapes import parse_json

LANGUAGES = ("en", "ja")


@dataclass(frozen=True)
class Instruction:
    """One thing that an answer is asked to do, which a verifier checks."""

    id: str
    """A key of `VERIFIERS`."""
    arguments: dict[str, Any]

    def followed_by(self, answer: str) -> bool:
        """Whether an answer does it."""
        return VERIFIERS[self.id].follows(answer, self.arguments)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, and what its answer is checked for."""

    id: str
    text: str
    language: str
    """Of the prompt."""
    instructions: tuple[Instruction, ...]


class _Line(TypedDict):
    id: str
    language: str
    prompt: str
    instructions: list[dict[str, Any]]


def own_prompts(language: str) -> list[Prompt]:
    """The prompts written for this project in one of LANGUAGES."""
    return read_prompts(Path(__file__).with_name(f"prompts_{language}.jsonl"))


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file of our form. Raises DataError with the line of what is wrong."""
    prompts = []
    for place, content in numbered_lines(path):
        line: _Line = parse_json(content, _Line, place)
        pairs = [(given.pop("id", None), given) for given in line["instructions"]]
        prompts.append(Prompt(line["id"], line["prompt"], line["language"], checked(pairs, place)))
    return unique(prompts, path)


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that hold something, each after its place in words."""
    for number, content in enumerate(read_text(path).split("\n"), start=1):
        if content.strip():
            yield f"{path}, line {number}", content


def checked(pairs: Iterable[tuple[Any, dict[str, Any]]], place: str) -> tuple[Instruction, ...]:
    """Instructions of ids and arguments. Raises DataError for none, an unknown id, or arguments that do not fit."""
    found = []
    for name, arguments in pairs:
        if name not in VERIFIERS:
            raise DataError(f"{place}: no instruction is called {json.dumps(name)}; there are {', '.join(VERIFIERS)}")
        if problem := VERIFIERS[name].problem(arguments):
            raise DataError(f"{place}: {problem}")
        found.append(Instruction(name, arguments))
    if not found:
        raise DataError(f"{place}: no instruction, so that nothing could be checked")
    return tuple(found)


def unique(prompts: list[Prompt], path: Path) -> list[Prompt]:
    """The prompts as they are. Raises DataError where there is none, or two have one id."""
    if not prompts:
        raise DataError(f"{path}: no prompt in it")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise DataError(f"{path}: two prompts have the id {prompt.id!r}")
        seen.add(prompt.id)
    return prompts
