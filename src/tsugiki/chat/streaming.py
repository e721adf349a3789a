"""Text of tokens as they come, in whole characters.

A character may be several tokens (bytes of a letter that has no piece of its own), and what a token adds depends on the
one before it (SentencePiece drops the space before a text). So the last few tokens are decoded together, and text is
given out once it does not end inside a character.
"""

from __future__ import annotations

from tsugiki.chat.tokenizer import ChatTokenizer

_CUT = "\ufffd"
"""What a decoder puts in the place of bytes that are no character, or not yet."""


class TextStream:
    """The text of a growing list of ids, control tokens left out."""

    def __init__(self, tokenizer: ChatTokenizer):
        self._tokenizer = tokenizer
        self._known: list[int] = []
        """The ids whose text came out last: they stand before the new ones when those are decoded."""
        self._new: list[int] = []

    def add(self, token: int) -> str:
        """What can be said once `token` is there: often its text, nothing in the middle of a character."""
        self._new.append(token)
        text = self._text()
        return "" if not text or text.endswith(_CUT) else self._give(text)

    def rest(self) -> str:
        """What has not been given out when no token follows."""
        return self._give(self._text())

    def _text(self) -> str:
        before = self._tokenizer.decode(self._known, skip_special=True)
        return self._tokenizer.decode([*self._known, *self._new], skip_special=True)[len(before) :]

    def _give(self, text: str) -> str:
        self._known, self._new = self._new, []
        return text
