"""The token that ends an assistant's turn, found once for a template by rendering a probe.

It is the first control token behind an assistant's text. The last token of a template is another thing: a newline for
ChatML, Qwen and Gemma, EOS behind `<|end|>` for Phi-3, and GLM-4 writes nothing at all behind a last answer: there the
marker of the next turn is what the model has to emit, and what servers stop at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tsugiki.chat.control_strings import Rendering
from tsugiki.chat.conversations import Message
from tsugiki.chat.rendering import Renderer
from tsugiki.errors import DataError, ModelError
from tsugiki.printable import one_line

QUESTION, ANSWER, NEXT = "first question", "probed answer", "second question"


@dataclass(frozen=True)
class EndToken:
    """What a model emits when its turn is over; it belongs in the generation config's list of EOS."""

    piece: str
    id: int
    written: Literal["by the turn", "by the next turn", "by nobody"]
    """Who writes it: `by nobody` is the tokenizer's EOS where the template has no token for the end."""


def find_end_token(renderer: Renderer, append_eos: bool = False) -> EndToken:
    """The end token of a template. `append_eos`: where the template writes none, take the tokenizer's EOS.

    Raises ModelError where there is none, or where the template does not show an assistant's text.
    """
    asked = [Message("user", QUESTION), Message("assistant", ANSWER)]
    name = renderer.template.name
    try:
        alone = renderer.render(asked, generation_prompt=False)
        followed = renderer.render([*asked, Message("user", NEXT)], generation_prompt=True)
    except DataError as error:
        raise ModelError(f"{renderer.tokenizer.where}: a question and an answer as a probe: {error}") from None
    found = _after_answer(renderer, alone, len(alone.text), name)
    if found is not None:
        return EndToken(found, renderer.tokenizer.added[found][0], "by the turn")
    found = _after_answer(renderer, followed, followed.text.find(NEXT), name)
    if found is not None:
        return EndToken(found, renderer.tokenizer.added[found][0], "by the next turn")
    if not append_eos:
        raise ModelError(
            f"{renderer.tokenizer.where}: the chat template ({name}) writes no token behind an assistant's text, so "
            "that a model trained with it would not stop; use another template, or append the tokenizer's EOS"
        )
    piece, token = renderer.tokenizer.special_tokens.get("eos_token", ""), renderer.tokenizer.eos_id
    if token is None:
        raise ModelError(f"{renderer.tokenizer.where}: EOS was to be appended to answers, and this tokenizer has none")
    return EndToken(piece, token, "by nobody")


def _after_answer(renderer: Renderer, rendering: Rendering, end: int, name: str) -> str | None:
    """The first control token between the answer and `end`; one that is flagged special before others, since those
    may close a part of an answer."""
    place = rendering.text.rfind(ANSWER)
    if place < 0:
        raise ModelError(
            f"{renderer.tokenizer.where}: the chat template ({name}) does not show an assistant's text: "
            f"{one_line(rendering.text, 200)}"
        )
    for kind in (renderer.tokenizer.specials, renderer.written):
        span = rendering.find(kind, place + len(ANSWER))
        if span is not None and span[1] <= end:
            return rendering.text[slice(*span)]
    return None
