"""When a written answer ends: at a stop string or at its length in characters, both seen in the decoded text.

Stop strings are looked for in text and never in ids: the same string has many tokenisations, and a vocabulary that was
extended has others than its base. The text is decoded together with the end of the prompt and cut after it, since
decoding an answer by itself loses or adds a space at its beginning (SentencePiece), or half a character.
"""

from collections.abc import Sequence
from typing import Literal

from tsugiki.corpus.tokenizer import TextTokenizer

Reason = Literal["stop", "characters", "end", "tokens"]
"""A stop string was written; the budget of characters is used up; the model wrote an end token; the budget of tokens
is used up."""

TAIL = 8
"""Tokens of the prompt that are decoded with the answer: more than any character or mark of a space takes."""
TOKENS_A_CHARACTER = 3
"""At most: a character outside the vocabulary is three UTF-8 bytes in the scripts that are in use."""


class Answer:
    """One answer while it is written. `ends` are tokens that end it beside those that the engine knows."""

    def __init__(
        self, tokenizer: TextTokenizer, prompt: Sequence[int], until: Sequence[str], max_characters: int | None,
        ends: frozenset[int] = frozenset(),
    ):  # fmt: skip
        self._tokenizer = tokenizer
        self._tail = list(prompt[-TAIL:])
        self._before = tokenizer.decode(self._tail)
        self._until = [stop for stop in until if stop]
        self._max_characters = max_characters
        self._ends = ends

    def is_over(self, new: list[int]) -> bool:
        """Whether `new`, the tokens so far, hold an end token, a stop string or as many characters as are wanted."""
        if new and new[-1] in self._ends:
            return True
        text = self._decode(new)
        return self._stop_at(text) is not None or self._is_long(text)

    def text(self, new: list[int], *, ended: bool) -> tuple[str, Reason]:
        """The answer without its stop string, and why it ended. `ended`: the model wrote an end token."""
        if new and new[-1] in self._ends:
            new, ended = new[:-1], True
        text = self._decode(new)
        stop = self._stop_at(text)
        if stop is not None:
            return text[:stop][: self._max_characters], "stop"
        if self._is_long(text):
            return text[: self._max_characters], "characters"
        return text, "end" if ended else "tokens"

    def _decode(self, new: list[int]) -> str:
        whole = self._tokenizer.decode([*self._tail, *new])
        # What precedes the answer may decode otherwise with an answer after it (a half character at its end).
        return whole[len(self._before) :] if whole.startswith(self._before) else self._tokenizer.decode(new)

    def _stop_at(self, text: str) -> int | None:
        return min((text.find(stop) for stop in self._until if stop in text), default=None)

    def _is_long(self, text: str) -> bool:
        # A character of which only some bytes are written shows as U+FFFD and may become another.
        whole = text.rstrip("\ufffd")
        return self._max_characters is not None and len(whole) >= self._max_characters
