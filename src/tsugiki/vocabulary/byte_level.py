"""Bases with a byte-level byte-pair vocabulary: Llama 3, Qwen, GPT-2, SmolLM, Mistral's tekken.

Text is cut into words by a pattern, words are bytes (spelled in GPT-2's alphabet of 256 printable characters), and
merges join them in order. New merges come after the base's own, so text in which none of them can form keeps its ids. A
merge may be added when its result is whole characters with a letter of the target scripts among them, or the first
bytes of target characters that no other character begins with: a kanji of three bytes needs a piece of two.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tsugiki.errors import ModelError
from tsugiki.files import write_atomically
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.pieces import Piece, bare, with_pieces


@cache
def alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable ones as themselves, the others from U+0100 on, in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + number): byte for number, byte in enumerate(others)}


def spell(text: bytes) -> str:
    """Bytes as a byte-level vocabulary spells them."""
    spelled = {byte: character for character, byte in alphabet().items()}
    return "".join(spelled[byte] for byte in text)


def bytes_of(spelling: str) -> bytes | None:
    """The bytes of a spelling; None for one that is not in the alphabet (a control token)."""
    try:
        return bytes(alphabet()[character] for character in spelling)
    except KeyError:
        return None


class ByteLevelBase:
    """A `tokenizer.json` with byte-level merges that can be extended."""

    family = "byte-level BPE"

    def __init__(self, path: Path, target: TargetCharacters, state: dict[str, Any]):
        self.target, self._state = target, state
        self.vocabulary: dict[str, int] = dict(state["model"]["vocab"])
        # A token beside the model that is not in its vocabulary would move when the vocabulary grows.
        beside = {token["content"]: token["id"] for token in state["added_tokens"]}
        self._whole = self.vocabulary | beside
        self.used = max(self._whole.values()) + 1
        self._tokenizer = Tokenizer.from_str(json.dumps(state))
        if self._tokenizer.pre_tokenizer is None:
            raise ModelError(f"{path}: a byte-level vocabulary without a division into words")

    def units(self, texts: Iterable[str]) -> Counter[str]:
        """The words of the base's own pattern that hold a letter of the target."""
        found: Counter[str] = Counter()
        normalize, cut = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        for text in texts:
            # Line by line: a pattern's look-ahead at a line's end changes no word with letters.
            lines = [line for line in text.split("\n") if self.target.occur_in(line)]
            for line in lines:
                words = cut.pre_tokenize_str(normalize.normalize_str(line) if normalize else line)
                found.update(word for word, _ in words)
        return Counter({word: count for word, count in found.items() if self._has_letter(word)})

    def _has_letter(self, word: str) -> bool:
        text = self.text_of(word)
        return text is not None and any(map(self.target.is_letter, text))

    @cached_property
    def _bare(self) -> Tokenizer:
        return bare(self._state)

    def character_pieces(self, character: str) -> list[Piece]:
        spelling = spell(character.encode())
        if spelling in self._whole:
            return []
        pieces: list[Piece] = []
        tokens = self._bare.encode(spelling, add_special_tokens=False).tokens
        first = tokens[0]
        for token in tokens[1:]:
            piece = Piece(first + token, (first, token))
            first = piece.spelling
            if first in self._whole or (first != spelling and not self._is_exclusive(first)):
                return []  # a piece of the base that its merges do not make, or bytes that other characters share
            pieces.append(piece)
        return pieces

    def _is_exclusive(self, spelling: str) -> bool:
        """Whether only target characters begin with these bytes."""
        return begins_only_targets(bytes_of(spelling) or b"", self.target)

    def kind(self, spelling: str) -> str | None:
        text = self.text_of(spelling)
        if text is None:
            return None
        return "target" if any(map(self.target.is_letter, text)) else "other"

    def text_of(self, spelling: str) -> str | None:
        try:
            return (bytes_of(spelling) or b"\xff").decode()
        except UnicodeDecodeError:
            return None

    def state(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        state = {**self._state, "model": {**self._state["model"], "vocab": self._whole}}
        merges = [*self._state["model"]["merges"], *(piece.parts for piece in pieces)]
        return with_pieces(state, pieces, self.used, merges)

    def write(self, folder: Path, pieces: Sequence[Piece]) -> None:
        write_atomically(folder / "tokenizer.json", json.dumps(self.state(pieces), ensure_ascii=False))


def begins_only_targets(start: bytes, target: TargetCharacters) -> bool:
    """Whether bytes are the beginning of target characters and of no other assigned character."""
    found = False
    for character in _beginning_with(start):
        if not target.is_target(character):
            return False
        found = True
    return found


def _beginning_with(start: bytes) -> Iterable[str]:
    """The assigned characters whose UTF-8 begins with some bytes."""
    from unicodedata import category

    length = 2 if start[0] < 0xE0 else 3 if start[0] < 0xF0 else 4
    missing = length - len(start)
    if start[0] < 0xC2 or missing < 1:
        return
    for number in range(64**missing):
        rest = bytes(0x80 + (number >> 6 * place) % 64 for place in reversed(range(missing)))
        try:
            character = (start + rest).decode()
        except UnicodeDecodeError:
            continue
        if category(character) not in ("Cn", "Cs"):
            yield character
