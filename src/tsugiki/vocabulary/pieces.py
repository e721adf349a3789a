"""What the two families of tokenizers have in common: a base that can be extended, and the pieces that are added."""

import copy
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
    """The model's own pieces, without tokens that stand beside it."""

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

    def state(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The content of a tokenizer.json with these pieces added, in this order."""
        ...

    def write(self, folder: Path, pieces: Sequence[Piece]) -> None:
        """Write every file of the extended tokenizer."""
        ...


def bare(state: dict[str, Any]) -> Tokenizer:
    """The model of a tokenizer.json alone, on text that is spelled as its vocabulary spells: no normaliser, no division
    into words, no control tokens, and no lookup of whole words instead of merging."""
    alone = dict(state) | dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"), None)
    alone["added_tokens"] = []
    alone["model"] = {**state["model"], "ignore_merges": False}
    return Tokenizer.from_str(json.dumps(alone))


def with_pieces(
    state: dict[str, Any], pieces: Sequence[Piece], first_id: int, merges: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """A copy of a tokenizer.json's content with pieces from `first_id` on, and with `merges` in place of its own."""
    extended = {key: copy.deepcopy(value) for key, value in state.items() if key != "model"}
    vocabulary = dict(state["model"]["vocab"])
    vocabulary |= {piece.spelling: first_id + number for number, piece in enumerate(pieces)}
    extended["model"] = {**state["model"], "vocab": vocabulary, "merges": [list(pair) for pair in merges]}
    return extended


def old_pieces(base: Base, pieces: Sequence[Piece], ids: dict[str, int]) -> list[list[int]]:
    """For each new piece the ids of the base's pieces that it is made of, through other new pieces, in order.

    `ids` are those of the base's vocabulary. No mark of a dummy prefix is among them.
    """
    made_of: dict[str, list[int]] = {}
    for piece in pieces:
        parts = [made_of.get(part) or [ids[part]] for part in piece.parts]
        made_of[piece.spelling] = [token for part in parts for token in part]
    return [made_of[piece.spelling] for piece in pieces]
