"""What people should know of a chat source before it is trained on: lengths, padding, and how much of it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SHORTEST_BOUND = 16
"""Tokens up to which conversations share the first bar of a histogram."""


@dataclass(frozen=True)
class LengthFigures:
    """Of conversations as they are, some of them perhaps too long; lengths in tokens."""

    conversations: int
    tokens: int
    median: int
    longest: int
    over_long: int
    """Conversations that are longer than a window."""
    histogram: list[tuple[int, int]]
    """(tokens at most, conversations that are longer than the bar before): powers of two, and the window's length."""


@dataclass(frozen=True)
class ChatManifest:
    """What the manifest of a chat source says beside what those of all sources say."""

    template: str
    """The template's name; what it writes enters the fingerprint."""
    end_token: str
    end_id: int
    sequence_length: int
    """That conversations were divided for."""
    lengths: LengthFigures
    """Of all conversations, held-out ones too, before any was divided."""
    counts: dict[str, int]
    """`chat.counts.Counts` of the whole source."""
    trained_tokens: dict[str, int]
    """Of each part (train, held_out), the tokens that have a loss weight."""
    packs: int
    """Of the training part, at that length."""

    def holds_for(self, sequence_length: int) -> bool:
        """Whether preparing for this length would give the same conversations: where none had to be divided for either
        length. (The packs are others.)"""
        undivided = self.lengths.over_long == 0 and self.lengths.longest <= sequence_length
        return sequence_length == self.sequence_length or undivided


@dataclass(frozen=True)
class PackFigures:
    """Of conversations in packs of `sequence_length` positions."""

    sequence_length: int
    packs: int
    conversations: int
    tokens: int
    trained_tokens: int

    @property
    def trained_share(self) -> float:
        """Of the tokens of conversations, those that have a loss weight."""
        return self.trained_tokens / max(self.tokens, 1)

    @property
    def padding_share(self) -> float:
        """Of the positions of all packs, those behind the last conversation."""
        return _empty_share(self.tokens, self.packs, self.sequence_length)

    @property
    def padding_share_unpacked(self) -> float:
        """The same, had each conversation a window of its own."""
        return _empty_share(self.tokens, self.conversations, self.sequence_length)

    def __str__(self) -> str:
        return (
            f"{self.conversations:,} conversations of {self.tokens:,} tokens ({self.trained_share:.1%} "
            f"trained) in {self.packs:,} packs of {self.sequence_length:,}: {self.padding_share:.2%} padding "
            f"({self.padding_share_unpacked:.1%} with a conversation a window)"
        )


def length_figures(counted: Mapping[int, int], sequence_length: int) -> LengthFigures:
    """Of conversations, given how many have so many tokens, before anything is done about those that are too long."""
    lengths = np.array(sorted(counted), np.int64)
    numbers = np.array([counted[length] for length in lengths.tolist()], np.int64)
    conversations, longest = int(numbers.sum()), int(lengths.max(initial=0))
    bounds = {sequence_length}
    bound = SHORTEST_BOUND
    while bound < max(longest, sequence_length):
        bounds.add(bound)
        bound *= 2
    if longest > sequence_length:
        bounds.add(bound)
    edges = np.array(sorted(bounds))
    counts = np.zeros(len(edges), np.int64)
    np.add.at(counts, np.searchsorted(edges, lengths, side="left"), numbers)
    middle = int(np.searchsorted(np.cumsum(numbers), (conversations + 1) // 2)) if conversations else 0
    return LengthFigures(
        conversations=conversations,
        tokens=int((lengths * numbers).sum()),
        median=int(lengths[middle]) if conversations else 0,
        longest=longest,
        over_long=int(numbers[lengths > sequence_length].sum()),
        histogram=list(zip(edges.tolist(), counts.tolist(), strict=True)),
    )


def describe_chat(chat: ChatManifest) -> list[str]:
    """What was done with the conversations of a source, a line a thing."""
    counts, lengths = chat.counts, chat.lengths
    bars = ", ".join(f"{bound:,}: {number:,}" for bound, number in lengths.histogram if number)
    lines = [
        f"chat template: {chat.template}; answers end in {chat.end_token}",
        f"tokens a conversation: median {lengths.median:,}, longest {lengths.longest:,}; up to {bars}",
    ]
    if lengths.over_long:
        lines.append(
            f"longer than a window of {chat.sequence_length:,}: {lengths.over_long:,}, of which "
            f"{counts['conversations_divided']:,} were divided before a user's turn and "
            f"{counts['conversations_dropped']:,} left out; exchanges left out, too long alone: "
            f"{counts['exchanges_dropped']:,}"
        )
    if counts["rewritten_turns"]:
        lines.append(
            f"the template writes earlier turns anew: {counts['rewritten_turns']:,} of "
            f"{counts['turns'] + counts['turns_left_out']:,} turns needed a sample of their own "
            + (
                f"({counts['turns_left_out']:,} turns left out)"
                if counts["turns_left_out"]
                else f"({counts['tokens_unrepeated']:,} tokens became {counts['tokens']:,})"
            )
        )
    if counts["forced_boundaries"]:
        lines.append(f"token boundaries forced between prompt and answer: {counts['forced_boundaries']:,}")
    if counts["control_strings"]:
        lines.append(f"strings in messages that spell control tokens, kept as text: {counts['control_strings']:,}")
    return lines


def _empty_share(tokens: int, windows: int, sequence_length: int) -> float:
    return 1 - tokens / (windows * sequence_length) if windows else 0.0
