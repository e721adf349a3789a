"""Where a conversation that is too long may be divided: before a user's turn, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from tsugiki.chat.conversations import Message


def exchanges(messages: Sequence[Message]) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """The system prompt (or nothing), and the exchanges: what the user says, in one turn or several, and all that
    follows until the user speaks again, tools included. What an assistant says first belongs to the first exchange."""
    system = tuple(messages[:1]) if messages and messages[0].role == "system" else ()
    parts: list[list[Message]] = []
    before = None
    for message in messages[len(system) :]:
        if not parts or (message.role == "user" and before == "assistant"):
            parts.append([])
        parts[-1].append(message)
        before = message.role
    return system, [tuple(part) for part in parts]
