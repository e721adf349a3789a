"""Which text of a rendering is a message's, and which the template has added.

A template adds more than markers: a system prompt of its own, a date, instructions for tools. Nobody sees that in the
data, so it is shown before training. Messages are rendered a second time with private characters around what they say,
which afterwards tell where it stands; trimmed text is trimmed all the same, since they stand inside its white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tsugiki.chat.conversations import Message, Role
from tsugiki.chat.rendering import Renderer

_CLOSE = "\U0010e000"
_FIRST = 0x10E001  # private characters, one a message
_MOST = 0xDFF
_MARKS = re.compile(f"([{chr(_FIRST)}-{chr(_FIRST + _MOST)}{_CLOSE}])")
_THOUGHT = re.compile(r"(<think>|</think>)")  # templates take contents apart here


class Segment(NamedTuple):
    """A stretch of a rendering."""

    text: str
    role: Role | None
    """Of the message that says it; None for the template's own."""


def segments(
    renderer: Renderer,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    template_kwargs: Mapping[str, Any] | None = None,
) -> list[Segment] | None:
    """The rendering of `messages`, divided; None where a template does not write marked messages as it does others.
    Raises DataError where it does not take them."""
    if len(messages) > _MOST:
        return None
    marked = [_marked(message, chr(_FIRST + number)) for number, message in enumerate(messages)]
    options: dict[str, Any] = {"generation_prompt": False, "tools": tools, "template_kwargs": template_kwargs}
    text = renderer.render(marked, **options).text
    if _MARKS.sub("", text) != renderer.render(messages, **options).text:
        return None
    return list(_divided(text, messages))


def _divided(text: str, messages: Sequence[Message]) -> Iterator[Segment]:
    role: Role | None = None
    for piece in _MARKS.split(text):
        if piece == _CLOSE:
            role = None
        elif _MARKS.fullmatch(piece):
            role = messages[ord(piece) - _FIRST].role
        elif piece:
            yield Segment(piece, role)


def _marked(message: Message, opening: str) -> Message:
    def mark(value: Any) -> Any:
        if isinstance(value, str):
            pieces = _THOUGHT.split(value)
            return "".join(piece if place % 2 else _around(piece, opening) for place, piece in enumerate(pieces))
        if isinstance(value, dict):
            return {key: mark(inner) for key, inner in value.items()}
        return [mark(inner) for inner in value] if isinstance(value, list) else value

    calls = tuple(
        {**call, "function": {**call["function"], "arguments": mark(call["function"]["arguments"])}}
        for call in message.tool_calls
    )
    return replace(
        message, content=mark(message.content), reasoning_content=mark(message.reasoning_content), tool_calls=calls
    )


def _around(text: str, opening: str) -> str:
    """The text between marks, white space at its ends outside."""
    said = text.strip()
    if not said:
        return text
    start = text.index(said)
    return f"{text[:start]}{opening}{said}{_CLOSE}{text[start + len(said) :]}"
