"""Instruction checks as tasks: our own prompts in English and Japanese, and the user's files of IFEval and M-IFEval.

Each task has four scores, as IFEval has: the share of prompts whose instructions are all followed, and the share of
instructions that are, both strict and loose (`scoring.py`). The model is asked through a function that the caller
gives, since only the caller knows its chat template; decoding is the caller's choice, too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tsugiki.errors import DataError
from tsugiki.evaluation.data.authors import authors_file
from tsugiki.evaluation.instructions.ifeval import read_ifeval
from tsugiki.evaluation.instructions.prompts import Prompt, own_prompts
from tsugiki.evaluation.instructions.scoring import Judged, judge
from tsugiki.evaluation.journal import digest_of
from tsugiki.evaluation.results import Record
from tsugiki.evaluation_files import TaskResult

Message = Mapping[str, str]
"""A turn of a conversation: its role and content."""
Complete = Callable[[Sequence[Message]], str]
"""From a conversation to what the assistant answers."""

OWN = {"instructions_en": "en", "instructions_ja": "ja"}
"""The tasks of our own prompts, and their languages."""
FILES = {
    "ifeval": ("ifeval/input_data.jsonl", "ifeval/ifeval_input_data.jsonl"),
    "m_ifeval_ja": ("m_ifeval/ja_input_data.jsonl", "m_ifeval_ja/ja_input_data.jsonl"),
}
"""Where the user puts the files of their authors in the data folder; neither is fetched."""
TITLES = {
    "instructions_en": "instructions en", "instructions_ja": "instructions ja", "ifeval": "IFEval",
    "m_ifeval_ja": "M-IFEval ja",
}  # fmt: skip
LANGUAGES = {**OWN, "ifeval": "en", "m_ifeval_ja": "ja"}


def prompts_of(name: str, data_dir: Path | None) -> list[Prompt]:
    """The prompts of a task of TITLES. Raises DataError when its file is not there or cannot be read."""
    if name in OWN:
        return own_prompts(OWN[name])
    return read_ifeval(authors_file(name, FILES[name], data_dir))


def scores_of(name: str) -> list[str]:
    """The names of a task's four results, the strict share of prompts first."""
    return [name, f"{name}_loose", f"{name}_each", f"{name}_each_loose"]


def instructions_digest(name: str, data_dir: Path | None) -> str | None:
    """The digest of the prompts behind one of the results of `scores_of`; None for another task, or where they cannot
    be read."""
    task = next((task for task in TITLES if name in scores_of(task)), None)
    try:
        return None if task is None else digest_of(repr(prompts_of(task, data_dir)))
    except DataError:
        return None


def run_instructions(
    name: str, prompts: Sequence[Prompt], complete: Complete, *, limit: int | None
) -> list[tuple[TaskResult, list[Record]]]:
    """Ask the first `limit` prompts (all where it is None), each as a conversation, and score the answers."""
    answers = [complete([{"role": "user", "content": prompt.text}]) for prompt in prompts[:limit]]
    return score_answers(name, prompts, answers)


def score_answers(
    name: str, prompts: Sequence[Prompt], answers: Sequence[str]
) -> list[tuple[TaskResult, list[Record]]]:
    """The four results of a task, in the order of `scores_of`, with their records, from the answers to the first of its
    prompts."""
    asked = prompts[: len(answers)]
    judged = [judge(prompt, answer) for prompt, answer in zip(asked, answers, strict=True)]
    digest = digest_of(repr(prompts))
    kinds = [
        ("prompts, strict", "", "mean", _whole(one.strict for one in judged)),
        ("prompts, loose", " loose", "mean", _whole(one.loose for one in judged)),
        ("instructions, strict", " each", "share", _each(one.strict for one in judged)),
        ("instructions, loose", " each loose", "share", _each(one.loose for one in judged)),
    ]
    results = []
    for score, (metric, title, combine, values) in zip(scores_of(name), kinds, strict=True):
        result = TaskResult(
            task=score, title=TITLES[name] + title, language=f"{LANGUAGES[name]}: instructions", metric=metric,
            combine=combine, ids=[prompt.id for prompt in asked], values=values, total=len(prompts), shots=0,
            comparable=False, digest=digest,
        )  # fmt: skip
        results.append((result, _records(result, asked, answers, judged)))
    return results


def _whole(judged: Iterable[list[bool]]) -> np.ndarray:
    """[prompts, 1]: whether all instructions are followed."""
    return np.array([[float(all(one))] for one in judged])


def _each(judged: Iterable[list[bool]]) -> np.ndarray:
    """[prompts, 2]: how many instructions are followed, and how many there are."""
    return np.array([[float(sum(one)), float(len(one))] for one in judged])


def _records(
    result: TaskResult, prompts: Sequence[Prompt], answers: Sequence[str], judged: Sequence[Judged]
) -> list[Record]:
    records: list[Record] = []
    for prompt, answer, one, values in zip(prompts, answers, judged, result.values, strict=True):
        score = {"score": float(values[0])} if len(values) == 1 else {"statistics": values.tolist()}
        records.append({
            "task": result.task, "item": prompt.id, "prompt_hash": digest_of(prompt.text), "prompt": prompt.text,
            "output": answer, "gold": "", **score, "instructions": [
                {"id": instruction.id, **instruction.arguments, "strict": strict, "loose": loose}
                for instruction, strict, loose in zip(prompt.instructions, one.strict, one.loose, strict=True)
            ],
        })  # fmt: skip
    return records
