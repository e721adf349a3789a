"""A model asked the instruction checks, whatever suite it is asked besides."""

from collections.abc import Sequence
from pathlib import Path

from tsugiki.errors import RecipeError
from tsugiki.evaluation.asked import Asked, Scored
from tsugiki.evaluation.conversations import NoChat, ask
from tsugiki.evaluation.instructions.tasks import (
    BUDGETS,
    TITLES,
    instructions_digest,
    prompts_of,
    questions_of,
    score_replies,
    scores_of,
)
from tsugiki.recipe_evaluation import INSTRUCTION_TASKS


def ask_instructions(asked: Asked, names: Sequence[str], data_dir: Path | None, *, limit: int | None) -> None:
    """The first `limit` prompts (all where it is None) of each task of `names`, with what was asked in the header."""
    for number, name in enumerate(names, start=1):
        title = TITLES[name]

        def begin(requests: int, tokens: int, what: str = f"{title}  {number} of {len(names)}") -> None:
            asked.progress.begin(f"{asked.result.name}  {what}", requests, tokens)

        def work(name: str = name, begin=begin) -> list[Scored]:  # type: ignore[no-untyped-def]
            prompts = prompts_of(name, data_dir)
            replies = ask(
                asked.backend, asked.chat, asked.tokenizer, asked.journal, name, questions_of(prompts[:limit]),
                BUDGETS[name], max_length=asked.backend.max_length, numerics=asked.backend.facts.numerics,
                begin=begin, advance=asked.progress.advance,
            )  # fmt: skip
            found = score_replies(name, prompts, replies, asked.chat.digest)
            stated = asked.result.header.setdefault("tasks", {})
            stated |= {one.task: {"digest": one.digest, "chat_template": asked.chat.facts} for one, _ in found}
            return found

        asked.score(name, title, f"{INSTRUCTION_TASKS[name]}: instructions", work)


def digest_now(asked: Asked, name: str, data_dir: Path | None) -> str | None:
    """The digest of one of the checks' results as this model would be asked now; None for another task, or where it
    cannot be asked."""
    if not any(name in scores_of(task) for task in TITLES):
        return None
    try:
        return instructions_digest(name, data_dir, asked.chat.digest)
    except (NoChat, RecipeError):
        return None
