"""What was done with conversations, in numbers that add up over a source."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Counts:
    """Of one conversation or of many."""

    conversations: int = 0
    samples: int = 0
    turns: int = 0
    """Trained turns."""
    tokens: int = 0
    trained_tokens: int = 0
    """Tokens with a weight above 0, as targets."""
    tokens_unrepeated: int = 0
    """What `tokens` would be if no template wrote history anew: the last sample of each conversation has all of it."""
    rewritten_turns: int = 0
    """Turns whose prompt is not what the turns before it stand in, so that they began a sample of their own."""
    turns_left_out: int = 0
    """Turns before the last sample, under `rewritten_history: last`."""
    forced_boundaries: int = 0
    """Points between prompt and target that a token would have reached over."""
    control_strings: int = 0
    """Strings in messages that spell a control token and were encoded as text."""
    conversations_divided: int = 0
    conversations_dropped: int = 0
    """Too long: divided before a user's turn, or nothing left of them."""
    exchanges_dropped: int = 0
    """A user's turn and its answers that alone were too long."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})
