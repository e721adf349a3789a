"""Instruction checks as tasks: our own prompts in English and Japanese, and the user's files of IFEval and M-IFEval.

Each task has four scores, as IFEval has: the share of prompts whose instructions are all followed, and the share of
instructions that are, both strict and loose (`scoring.py`). The model is asked through its chat template, one prompt a
conversation. An answer to our own prompts may have so many characters, whatever tokens it takes, since a budget in
tokens favours vocabularies with longer pieces; to those of others, 1,280 tokens, as IFEval is run.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tsugiki.chat.conversations import Message
from tsugiki.errors import DataError
from tsugiki.evaluation.conversations import Budget, Question, Reply
from tsugiki.evaluation.data.authors import authors_file
from tsugiki.evaluation.instructions.ifeval import read_ifeval
from tsugiki.evaluation.instructions.prompts import Prompt, own_prompts
from tsugiki.evaluation.instructions.scoring import Judged, judge
from tsugiki.evaluation.journal import digest_of
from tsugiki.evaluation.results import Record
from tsugiki.evaluation_files import TaskResult
from tsugiki.recipe_evaluation import INSTRUCTION_TASKS

OWN = {"instructions_en": "en", "instructions_ja": "ja"}
"""The tasks of our own prompts, and their languages."""
FILES = {
    "ifeval": ("ifeval/input_data.jsonl", "ifeval/ifeval_input_data.jsonl"),
    "m_ifeval_ja": ("m_ifeval/ja_input_data.jsonl", "m_ifeval_ja/ja_input_data.jsonl"),
}
"""Where the user puts the files of their authors in the data folder; neither is fetched."""
TITLES = {
    "instructions_en": "checks en", "instructions_ja": "checks ja", "ifeval": "IFEval",
    "m_ifeval_ja": "M-IFEval ja",
}  # fmt: skip
BUDGETS = {
    "instructions_en": Budget(1000, characters=2000), "instructions_ja": Budget(1500, characters=500),
    "ifeval": Budget(1280), "m_ifeval_ja": Budget(1280),
}  # fmt: skip
"""Of an answer. The longest that was written by hand for our own prompts has 250 characters of English, 80 of Japanese.
The tokens suffice for two characters of English a token, and three tokens a character of Japanese; they end what only
repeats an emoji."""


def prompts_of(name: str, data_dir: Path | None) -> list[Prompt]:
    """The prompts of a task of TITLES. Raises DataError when its file is not there or cannot be read."""
    if name in OWN:
        return own_prompts(OWN[name])
    return read_ifeval(authors_file(name, FILES[name], data_dir))


def scores_of(name: str) -> list[str]:
    """The names of a task's four results, the strict share of prompts first."""
    return [name, f"{name}_loose", f"{name}_each", f"{name}_each_loose"]


def instructions_digest(name: str, data_dir: Path | None, chat_digest: str) -> str | None:
    """The digest of one of the results of `scores_of`, asked through the chat template of a digest; None for another
    task, or where its prompts cannot be read."""
    task = next((task for task in TITLES if name in scores_of(task)), None)
    try:
        return None if task is None else _digest(task, prompts_of(task, data_dir), chat_digest)
    except DataError:
        return None


def _digest(task: str, prompts: Sequence[Prompt], chat_digest: str) -> str:
    return digest_of(repr(prompts), repr(BUDGETS[task]), chat_digest)


def questions_of(prompts: Iterable[Prompt]) -> list[Question]:
    """The conversations that are asked, one a prompt."""
    return [Question(prompt.id, (Message("user", prompt.text),)) for prompt in prompts]


def score_replies(
    name: str, prompts: Sequence[Prompt], replies: Sequence[Reply], chat_digest: str
) -> list[tuple[TaskResult, list[Record]]]:
    """The four results of a task, in the order of `scores_of`, with their records, from the replies to the first of its
    prompts."""
    asked = prompts[: len(replies)]
    judged = [judge(prompt, reply.answer) for prompt, reply in zip(asked, replies, strict=True)]
    digest = _digest(name, prompts, chat_digest)
    kinds = [
        ("prompts, strict", "", "mean", _whole(one.strict for one in judged)),
        ("prompts, loose", " loose", "mean", _whole(one.loose for one in judged)),
        ("instructions, strict", " each", "share", _each(one.strict for one in judged)),
        ("instructions, loose", " each loose", "share", _each(one.loose for one in judged)),
    ]
    cut = sum(reply.ended != "end" for reply in replies)
    notes = [f"{cut:,} of {len(replies):,} answers were cut at their budget: the model had not stopped"] if cut else []
    results = []
    for score, (metric, title, combine, values) in zip(scores_of(name), kinds, strict=True):
        result = TaskResult(
            task=score, title=TITLES[name] + title, language=f"{INSTRUCTION_TASKS[name]}: instructions", metric=metric,
            combine=combine, ids=[prompt.id for prompt in asked], values=values, total=len(prompts), shots=0,
            comparable=False, notes=notes if score == name else [], digest=digest,
        )  # fmt: skip
        results.append((result, _records(result, asked, replies, judged)))
    return results


def _whole(judged: Iterable[list[bool]]) -> np.ndarray:
    """[prompts, 1]: whether all instructions are followed."""
    return np.array([[float(all(one))] for one in judged])


def _each(judged: Iterable[list[bool]]) -> np.ndarray:
    """[prompts, 2]: how many instructions are followed, and how many there are."""
    return np.array([[float(sum(one)), float(len(one))] for one in judged])


def _records(
    result: TaskResult, prompts: Sequence[Prompt], replies: Sequence[Reply], judged: Sequence[Judged]
) -> list[Record]:
    records: list[Record] = []
    for prompt, reply, one, values in zip(prompts, replies, judged, result.values, strict=True):
        score = {"score": float(values[0])} if len(values) == 1 else {"statistics": values.tolist()}
        records.append({
            "task": result.task, "item": prompt.id, "prompt_hash": reply.prompt_hash, "prompt": prompt.text,
            "output": reply.text, "ended": reply.ended, "answer": reply.answer, "gold": "", **score,
            "instructions": [
                {"id": instruction.id, **instruction.arguments, "strict": strict, "loose": loose}
                for instruction, strict, loose in zip(prompt.instructions, one.strict, one.loose, strict=True)
            ],
            "prompt_tokens": reply.prompt_tokens, "output_tokens": reply.output_tokens, "truncated": False,
        })  # fmt: skip
    return records
