"""Which rows of embedding and output layer stand for the same piece in three models.

Rows are matched by the spelling of their pieces, never by number: an extended vocabulary, tokens that were added to a
chat model, or another order move the numbers and not the spellings. Rows that no tokenizer has a piece for (Qwen's
spare ones) are matched by number.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.tokenizer import TextTokenizer

NONE = -1


@dataclass(frozen=True)
class RowMatch:
    """For each row of ours, where its piece is in the others."""

    base: NDArray[np.int64]
    """Number of the row in the base, or NONE: ours is kept, or taken from chat."""
    chat: NDArray[np.int64]
    """Number of the row in the chat model, or NONE: ours is kept. Without a row in the base it is taken as it is."""

    @property
    def shared(self) -> NDArray[np.bool_]:
        """Rows that get the difference of chat and base."""
        return (self.base != NONE) & (self.chat != NONE)

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Rows that are those of the chat model."""
        return (self.base == NONE) & (self.chat != NONE)


@dataclass(frozen=True)
class PieceSets:
    """Pieces by the models whose vocabularies have them, in the order of chat's ids (of ours' for `only_ours`)."""

    shared: int
    only_ours: tuple[str, ...]
    only_chat: tuple[str, ...]
    """Not in the base either: their rows would be lost."""
    gone: tuple[str, ...]
    """In base and chat, and not in ours."""
    ours_and_chat: tuple[str, ...]
    """Not in the base: there is no difference to add."""


def piece_ids(tokenizer: TextTokenizer) -> dict[str, int]:
    """The id of each piece. Ids that no piece has are left out, and so is a piece that another id stands for."""
    engine = tokenizer.engine
    named = ((engine.piece(token), token) for token in range(tokenizer.vocabulary_size))
    return {piece: token for piece, token in named if engine.token_id(piece) == token}


def sort_pieces(base: Mapping[str, int], chat: Mapping[str, int], ours: Mapping[str, int]) -> PieceSets:
    """Which models have which pieces."""
    return PieceSets(
        shared=len(base.keys() & chat.keys() & ours.keys()),
        only_ours=tuple(piece for piece in ours if piece not in base and piece not in chat),
        only_chat=tuple(piece for piece in chat if piece not in base and piece not in ours),
        gone=tuple(piece for piece in chat if piece in base and piece not in ours),
        ours_and_chat=tuple(piece for piece in chat if piece in ours and piece not in base),
    )


def match_rows(
    base: Mapping[str, int],
    chat: Mapping[str, int],
    ours: Mapping[str, int],
    rows: tuple[int, int, int],
    taken: Collection[str],
) -> RowMatch:
    """The rows of pieces of ours in the other models. rows: how many base, chat and ours have (ours with those that
    are added). taken: pieces whose rows are chat's where the base has none."""
    found = [np.full(rows[2], NONE, np.int64) for _ in range(2)]
    spare = set(range(min(rows))) - {*base.values(), *chat.values(), *ours.values()}
    for piece, at in [*ours.items(), *((None, row) for row in spare)]:
        if at >= rows[2]:  # Gemma 3 has an image token that its text models have no row for
            continue
        there = [at, at] if piece is None else [base.get(piece, NONE), chat.get(piece, NONE)]
        there = [row if row < size else NONE for row, size in zip(there, rows[:2], strict=True)]
        if there[1] != NONE and (there[0] != NONE or piece in taken):
            found[0][at], found[1][at] = there
    return RowMatch(found[0], found[1])
