"""The likeliest answers of a model to many prompts, each up to a token that ends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsugiki.chat.form import ChatForm
from tsugiki.model.cached import CachedModel, Prompt
from tsugiki.model.cached.call import most_positions
from tsugiki.model.generate import open_model, stop_ids

BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Said:
    """What a model said."""

    text: str
    ended: bool
    """Whether it ended the answer itself, within what it may have."""


def likeliest_answers(
    folder: Path, form: ChatForm, prompts: Sequence[list[int]], budget: int, expected: int | None = None
) -> list[Said]:
    """What the model in `folder` says behind each of `prompts`, in at most `budget` tokens, or as many as its positions
    leave. `expected`: tokens that an answer seldom passes. Raises ModelError."""
    model = open_model(folder)
    engine = CachedModel(model, batch_tokens=BATCH_TOKENS, stop_ids=stop_ids(model, *form.ends))
    positions = most_positions(model)
    rooms = [budget if positions is None else max(min(budget, positions - len(ids)), 0) for ids in prompts]
    found: dict[int, list[int]] = {}
    engine.generate(
        [Prompt(ids, room, lambda _new: False, expected) for ids, room in zip(prompts, rooms, strict=True)],
        found.__setitem__,
    )
    return [
        Said(form.tokenizer.decode(found[number], skip_special=True), len(found[number]) < room)
        for number, room in enumerate(rooms)
    ]
