"""What the two families of tokenizers have in common: a base that can be extended, and the pieces that are added."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from tsugiki.scripts import TargetCharacters


@dataclass(frozen=True)
class Piece:
    """A new piece: how the vocabulary spells it, and the pieces that it is made of.

    Two parts are merged in that order. A character of a SentencePiece vocabulary has the pieces of its bytes for parts,
    and no merge: the text has the character from the beginning.
    """

    spelling: str
    parts: tuple[str, ...]


class Base(Protocol):
    """A tokenizer to extend. Spellings are those of its own vocabulary."""

    target: TargetCharacters
    family: str
    """In words, for reports."""
    used: int
    """Ids in use; the first new piece has this id."""
    vocabulary: dict[str, int]
    """Ids of all its pieces, those of tokens that stand beside the model too."""

    def units(self, texts: Iterable[str]) -> Counter[str]:
        """The stretches of texts in which new pieces may form, spelled as the vocabulary spells, with their counts."""
        ...

    def character_pieces(self, character: str) -> list[Piece]:
        """What it takes to make a character one token: nothing where it is one, else its piece as the last, perhaps
        after pieces of its first bytes. Empty as well where it cannot be made."""
        ...

    def kind(self, spelling: str) -> str | None:
        """`target`: whole characters, at least one a letter of the target scripts; `other`: whole characters that may
        stand beside those; None: no part of a new piece."""
        ...

    def text_of(self, spelling: str) -> str | None:
        """The text that a piece stands for; None where it is not whole characters."""
        ...

    def spelled(self, text: str) -> str:
        """A text as the vocabulary spells it."""
        ...

    def state(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The content of a tokenizer.json with these pieces added, in this order."""
        ...

    def write(self, folder: Path, pieces: Sequence[Piece]) -> None:
        """Write every file of the extended tokenizer."""
        ...


def whole_vocabulary(state: dict[str, Any]) -> dict[str, int]:
    """Ids of all pieces of a tokenizer.json. `tokenizers` numbers a token beside the model behind the model's pieces,
    whatever id the file gives it, so it has to become one of them before they grow in number."""
    return {**state["model"]["vocab"], **{token["content"]: token["id"] for token in state["added_tokens"]}}


def bare(state: dict[str, Any]) -> Tokenizer:
    """The model of a tokenizer.json alone, on text that is spelled as its vocabulary spells: no normaliser, no division
    into words, no control tokens, and no lookup of whole words instead of merging."""
    alone = state | dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"), None)
    alone["added_tokens"] = []
    alone["model"] = {**state["model"], "ignore_merges": False}
    return Tokenizer.from_str(json.dumps(alone))


def preparation(state: dict[str, Any]) -> Tokenizer:
    """The normaliser and the division into words of a tokenizer.json, without its vocabulary."""
    empty = {**state["model"], "vocab": {}, "merges": [], "unk_token": None}
    return Tokenizer.from_str(json.dumps({**state, "model": empty, "added_tokens": [], "post_processor": None}))


def with_pieces(
    state: dict[str, Any], vocabulary: dict[str, int], pieces: Sequence[Piece], merges: Iterable[Sequence[str]]
) -> dict[str, Any]:
    """A tokenizer.json's content with `vocabulary` and new pieces behind it, and with `merges` in place of its own."""
    first = max(vocabulary.values()) + 1
    new = {piece.spelling: first + number for number, piece in enumerate(pieces)}
    model = {**state["model"], "vocab": {**vocabulary, **new}, "merges": [list(pair) for pair in merges]}
    return {**state, "model": model}


def old_pieces(base: Base, pieces: Sequence[Piece]) -> list[list[int]]:
    """For each new piece the ids of the base's pieces that it is made of, through other new pieces, in order. No mark
    of a dummy prefix is among them."""
    made_of: dict[str, list[int]] = {}
    for piece in pieces:
        parts = [made_of.get(part) or [base.vocabulary[part]] for part in piece.parts]
        made_of[piece.spelling] = [token for part in parts for token in part]
    return [made_of[piece.spelling] for piece in pieces]
