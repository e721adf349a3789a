"""The answers that are compared: a model's, asked through its chat template, or those of a file.

A file has a JSON object a line with `prompt` and `answer` (or `output`), and `item` where it has a name: the records of
instruction checks are such a file, and whatever another program has written can be made one. Answers belong together
by the text of their prompts.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from tsugiki.chat.conversations import Message
from tsugiki.errors import DataError
from tsugiki.evaluation.asked import Progress, Say
from tsugiki.evaluation.conversations import Budget, Question, ask
from tsugiki.evaluation.instructions.prompts import numbered_lines
from tsugiki.evaluation.instructions.tasks import BUDGETS, TITLES, prompts_of
from tsugiki.evaluation.journal import Journal, digest_of
from tsugiki.evaluation.models import NamedModel
from tsugiki.evaluation.run import Settings, open_asked
from tsugiki.evaluation_files import ModelResult
from tsugiki.shapes import parse_json

BUDGET = Budget(2000, characters=2000)
"""Of an answer to a prompt of the user's own."""


@dataclass(frozen=True)
class Prompts:
    """What is asked under one name."""

    name: str
    title: str
    texts: Mapping[str, str]
    """By item."""
    budget: Budget


@dataclass(frozen=True)
class Answers:
    """Answers of one side."""

    label: str
    identity: str
    """A digest of what they are: of the model, or of themselves."""
    texts: Mapping[str, str]
    """By prompt."""


class _Prompt(TypedDict):
    id: NotRequired[str]
    prompt: str


class _Answer(TypedDict):
    task: NotRequired[str]
    item: NotRequired[str]
    prompt: str
    answer: NotRequired[str]
    output: NotRequired[str]


def prompts_of_tasks(names: Sequence[str], data_dir: Path | None, limit: int | None) -> list[Prompts]:
    """The prompts of instruction checks. Raises DataError where a file is not there."""
    return [
        Prompts(name, TITLES[name], {one.id: one.text for one in prompts_of(name, data_dir)[:limit]}, BUDGETS[name])
        for name in names
    ]


def prompts_of_file(path: Path, limit: int | None) -> Prompts:
    """The prompts of a file: {"prompt", and "id" where they have one} a line. Raises DataError with the line."""
    texts: dict[str, str] = {}
    for number, (place, content) in enumerate(numbered_lines(path), start=1):
        line: _Prompt = parse_json(content, _Prompt, place)
        item = line.get("id", str(number))
        if item in texts:
            raise DataError(f"{place}: two prompts have the id {item!r}")
        texts[item] = line["prompt"]
    if not texts:
        raise DataError(f"{path}: no prompt in it")
    return Prompts(path.stem, path.stem, dict(list(texts.items())[:limit]), BUDGET)


def answers_of_model(
    model: NamedModel, asked_for: Sequence[Prompts], settings: Settings, output: Path, say: Say, progress: Progress
) -> Answers:
    """What a model answers; what an evaluation into `output` has asked it is not asked again. Raises ModelError."""
    texts: dict[str, str] = {}
    result = ModelResult(model.label, {}, {})
    with ExitStack() as held:
        journal = held.enter_context(Journal(output / f"{model.label}-{model.fingerprint[:8]}" / "journal.jsonl"))
        asked = open_asked(model, result, settings, journal, output, held, say, progress)
        for one in asked_for:
            questions = [Question(item, (Message("user", text),)) for item, text in one.texts.items()]
            replies = ask(
                asked.backend, asked.chat, asked.tokenizer, journal, one.name, questions, one.budget,
                max_length=asked.backend.max_length, numerics=asked.backend.facts.numerics,
                begin=lambda *size, title=one.title: progress.begin(f"{model.label}  {title}", *size),
                advance=progress.advance,
            )  # fmt: skip
            texts |= {text: reply.answer for text, reply in zip(one.texts.values(), replies, strict=True)}
        return Answers(
            model.label, digest_of(model.fingerprint, asked.chat.digest, asked.backend.facts.numerics), texts
        )


def answers_of_file(path: Path) -> tuple[Answers, list[Prompts]]:
    """The answers of a file, and what they answer. Raises DataError with the line of what is wrong."""
    texts: dict[str, str] = {}
    prompts: dict[str, dict[str, str]] = {}
    for number, (place, content) in enumerate(numbered_lines(path), start=1):
        line: _Answer = parse_json(content, _Answer, place)
        given = line.get("answer", line.get("output"))
        if given is None:
            raise DataError(f"{place}: no answer; each line needs `prompt` and `answer` (or `output`)")
        name, item = line.get("task", path.stem), line.get("item", str(number))
        if line["prompt"] in texts or item in prompts.get(name, {}):
            raise DataError(f"{place}: a second answer to {item!r}, or to the same prompt")
        texts[line["prompt"]] = given
        prompts.setdefault(name, {})[item] = line["prompt"]
    if not texts:
        raise DataError(f"{path}: no answer in it")
    found = [Prompts(name, TITLES.get(name, name), one, BUDGET) for name, one in prompts.items()]
    return Answers(path.stem, digest_of(sorted(texts.items())), texts), found
