"""A template's own opinion of what is generated, against ours.

Some templates put `{% generation %}` blocks around what the assistant emits, for other tools to mask by. They differ in
white space behind the end token, which a block may hold and a model never emits. Where they differ by more, the
template's author and these masks do not mean the same, and somebody has to look.
"""

from __future__ import annotations

import json
import re

from tsugiki.chat.conversations import Conversation
from tsugiki.chat.masks import ConversationEncoder
from tsugiki.errors import ModelError
from tsugiki.printable import one_line


def has_blocks(source: str) -> bool:
    """Whether a template's source marks what is generated."""
    return re.search(r"\{%[-+]?\s*generation\b", source) is not None


def require_same_blocks(encoder: ConversationEncoder, conversation: Conversation) -> None:
    """Raise ModelError where the template's `{% generation %}` blocks differ from the targets of a conversation by more
    than white space and control tokens behind the end token. Templates without blocks have no opinion."""
    for number, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        blocks = encoder.renderer.generation_blocks(conversation, number + 1)
        if not blocks:
            return
        text, start, end = encoder.target(conversation, number)
        theirs = "".join(text[first:last] for first, last in blocks if last > start)
        ours = text[start:end]
        if not _same(ours.strip(), theirs.strip(), encoder.tokenizer.specials):
            raise ModelError(
                f"message {number + 1}: the chat template marks {_quote(theirs)} as generated; what a model has to "
                f"emit after the prompt is {_quote(ours)}. Correct the blocks of the template, or take them out"
            )


def _same(ours: str, theirs: str, specials: tuple[str, ...]) -> bool:
    """Whether `theirs` is `ours`, or goes on with control tokens (Phi-3 closes a text with EOS)."""
    rest = theirs.removeprefix(ours).strip() if theirs.startswith(ours) else theirs
    while rest and (piece := next((one for one in specials if rest.startswith(one)), None)):
        rest = rest[len(piece) :].strip()
    return theirs.startswith(ours) and not rest


def _quote(text: str) -> str:
    return one_line(json.dumps(text, ensure_ascii=False), 120)
