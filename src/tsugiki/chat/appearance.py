"""Whether what a conversation says stands in its rendering: templates leave out what they have no form for.

Llama 3's drops tool calls without a word, others a system prompt. A template may trim a text, write it as JSON, or put
reasoning apart; anything else is a message that the model never sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tsugiki.chat.control_strings import Rendering
from tsugiki.chat.conversations import Message
from tsugiki.chat.tokenizer import quoted
from tsugiki.errors import DataError
from tsugiki.printable import one_line

_THOUGHT = re.compile(r"<think>|</think>")


def require_messages(messages: Sequence[Message], tools: Sequence[dict[str, Any]], prompt: Rendering) -> None:
    """Raise DataError where the text of a message is not in a prompt, in the order of the turns. A system prompt may
    stand anywhere, and of an earlier answer its reasoning may be left out."""
    place = 0
    for number, message in enumerate(messages):
        start = 0 if message.role == "system" else place
        texts = _THOUGHT.split(message.content)[-1:] if message.role == "assistant" else [message.content]
        end = _after(prompt.text, texts, start)
        if end is None and message.role == "tool" and _leaves_stand(prompt.text, message.content):
            end = start
        if end is None:
            raise _left_out(number, message.role, "text", prompt.text)
        place = place if message.role == "system" else end
        _require_calls(message, number, prompt.text, start)
    for tool in tools:
        name = (tool.get("function") or tool).get("name")
        if isinstance(name, str) and name not in prompt.text:
            raise DataError(f"the chat template does not write the tool {name!r}, which the conversation gives")


def require_answer(message: Message, number: int, rendering: Rendering, start: int) -> int:
    """Where what a message says ends in its rendering, whose prompt is the first `start` characters. Raises DataError
    where its text, its reasoning or a tool call is not there."""
    text = rendering.text
    end = start
    for what, said in (("reasoning", message.reasoning_content or ""), ("text", message.content)):
        found = _after(text, _THOUGHT.split(said), start)
        if found is None:
            raise _left_out(number, message.role, what, text[start:])
        end = max(end, found)
    return max(end, _require_calls(message, number, text, start))


def _require_calls(message: Message, number: int, text: str, start: int) -> int:
    """The end of the last value of the tool calls of a message."""
    end = start
    for call in message.tool_calls:
        function = call["function"]
        for value in (function["name"], *_leaves(function["arguments"])):
            found = _after(text, [value], start)
            if found is None:
                raise _left_out(number, message.role, f"call of {function['name']}", text[start:])
            end = max(end, found)
    return end


def _after(text: str, pieces: Sequence[str], start: int) -> int | None:
    """The end of the last of the pieces, which stand in this order at or after `start`, trimmed, as they are or as
    JSON writes them."""
    for piece in pieces:
        piece = piece.strip()
        places = [
            (found, len(form)) for form in (piece, quoted(piece)) if (found := text.find(form, start)) >= 0
        ]  # fmt: skip
        if not places:
            return None
        start = sum(min(places))
    return start


def _leaves(value: Any) -> Iterator[str]:
    """Names and values of a JSON value, numbers as JSON writes them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
    elif value is not None and not isinstance(value, bool):
        yield json.dumps(value)


def _leaves_stand(text: str, content: str) -> bool:
    """Whether a tool's answer is JSON whose values all stand in the text: some templates write it anew."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list) and all(_after(text, [leaf], 0) is not None for leaf in _leaves(value))


def _left_out(number: int, role: str, what: str, text: str) -> DataError:
    return DataError(
        f"message {number + 1} ({role}): its {what} is not in what the chat template writes, so that the model would "
        f"not see it: {one_line(text, 200)}"
    )
