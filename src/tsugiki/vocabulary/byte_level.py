"""Bases with a byte-level byte-pair vocabulary: Llama 3, Qwen, GPT-2, SmolLM, Mistral's tekken.

Text is cut into words by a pattern, words are bytes (spelled in GPT-2's alphabet of 256 printable characters), and
merges join them in order. New merges come after the base's own, so text in which none of them can form keeps its ids. A
merge may be added when its result is whole characters with a letter of the target scripts among them, or the first
bytes of target characters that no other character begins with: a kanji of three bytes needs a piece of two.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tsugiki.corpus.byte_alphabet import bytes_of, spell
from tsugiki.errors import ModelError
from tsugiki.files import write_atomically
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.pieces import Piece, bare, preparation, whole_vocabulary, with_pieces


class ByteLevelBase:
    """A `tokenizer.json` with byte-level merges that can be extended. Raises ModelError, with the reason, for one whose
    text does not come back from bytes."""

    family = "byte-level BPE"

    def __init__(self, path: Path, target: TargetCharacters, state: dict[str, Any]):
        self.target, self._state = target, state
        self.vocabulary = whole_vocabulary(state)
        self.used = max(self.vocabulary.values()) + 1
        self._preparation = preparation(state)
        if not self._is_kept("é"):
            raise ModelError(f"{path}: a byte-level vocabulary that does not get every character's bytes to merge")

    def units(self, texts: Iterable[str]) -> Counter[str]:
        """The words of the base's own pattern that hold a letter of the target."""
        found: Counter[str] = Counter()
        for text in texts:
            for line in text.split("\n"):
                if self.target.occur_in(line):
                    # After a line's end, as it stands in the text: some bases put a space before a text's first word.
                    found.update(self._words("\n" + line))
        return Counter({word: count for word, count in found.items() if self.kind(word) == "target"})

    def _words(self, text: str) -> list[str]:
        normalize, divide = self._preparation.normalizer, self._preparation.pre_tokenizer
        normal = normalize.normalize_str(text) if normalize else text
        return [word for word, _ in divide.pre_tokenize_str(normal)] if divide else [normal]

    def _is_kept(self, character: str) -> bool:
        """Whether the model gets to see the bytes of a character: a normaliser may put another in its place."""
        return "".join(self._words(character)).endswith(spell(character.encode()))

    @cached_property
    def _bare(self) -> Tokenizer:
        return bare(self._state)

    def character_pieces(self, character: str) -> list[Piece]:
        spelling = spell(character.encode())
        if spelling in self.vocabulary or not self._is_kept(character):
            return []
        tokens = self._bare.encode(spelling, add_special_tokens=False).tokens
        if "".join(tokens) != spelling:
            return []  # a byte is left out that the base has no piece for: SmolLM2 lacks eight that UTF-8 has
        pieces: list[Piece] = []
        first = tokens[0]
        for token in tokens[1:]:
            piece = Piece(first + token, (first, token))
            first = piece.spelling
            if first in self.vocabulary or (first != spelling and not self._begins_only_targets(first)):
                return []  # a piece of the base that its merges do not make, or bytes that other characters share
            pieces.append(piece)
        return pieces

    def _begins_only_targets(self, spelling: str) -> bool:
        start = bytes_of(spelling)
        return start is not None and begins_only_targets(start, self.target)

    def kind(self, spelling: str) -> str | None:
        text = self.text_of(spelling)
        if text is None:
            return None
        return "target" if any(map(self.target.is_letter, text)) else "other"

    def text_of(self, spelling: str) -> str | None:
        spelled = bytes_of(spelling)
        try:
            return None if spelled is None else spelled.decode()
        except UnicodeDecodeError:
            return None

    def spelled(self, text: str) -> str:
        return spell(text.encode())

    def state(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        merges = [*self._state["model"]["merges"], *(piece.parts for piece in pieces)]
        return with_pieces(self._state, self.vocabulary, pieces, merges)

    def write(self, folder: Path, pieces: Sequence[Piece]) -> None:
        write_atomically(folder / "tokenizer.json", json.dumps(self.state(pieces), ensure_ascii=False))


@lru_cache(maxsize=1 << 12)  # the characters of a script share a few beginnings
def begins_only_targets(start: bytes, target: TargetCharacters) -> bool:
    """Whether every assigned character whose UTF-8 begins with `start` is one of the target."""
    return not target.others_beginning_with(start)
