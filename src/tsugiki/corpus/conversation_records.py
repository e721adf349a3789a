"""A tokenised conversation on its way from the process that rendered it to the store.

It travels as a record and its payload, a row of int32: the ids, then runs of tokens of equal weight (RUN; a length and
the bits of a float). Runs are what the store keeps: a conversation has a few, so that weights take a fraction of what
ids take, and lose no bit. `Buckets` orders records by a hash of their places, as it does those of documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from tsugiki.corpus.buckets import RECORD
from tsugiki.errors import DataError

RUN = np.dtype([("length", "<u4"), ("weight", "<f4")])
"""So many tokens in a row with this loss weight."""
WORDS = RUN.itemsize // 4
"""Of payload that a run takes."""
CONVERSATION = np.dtype([("part", "<u4"), ("trained_tokens", "<u4"), ("trained_bytes", "<u8"), ("digest", "<u8")])
"""What the store keeps of a conversation beside its DOCUMENT row: its number within its record (from 0), the tokens
with a weight, the UTF-8 bytes of their text, and xxh3 (64 bits) of ids and runs."""
CONVERSATION_RECORD = np.dtype([*RECORD.descr, ("tokens", "<u4"), *CONVERSATION.descr])
"""RECORD, whose `length` is that of the payload; the ids in it; and CONVERSATION."""


@dataclass(frozen=True)
class TokenisedConversation:
    """One sample: a conversation, or the part of one that fits a window, as the model is to see it."""

    ids: ArrayLike  # [n], BOS and end tokens included
    weights: ArrayLike  # [n] loss weight of each token as a target; 0: not learnt
    draw: int
    """`held_out_draw` of the whole conversation's text, so that all its parts fall on one side."""
    file: int
    line: int
    part: int = 0
    bytes: int = 0
    """UTF-8 bytes, and characters, of the rendered text."""
    characters: int = 0
    trained_bytes: int = 0
    """UTF-8 bytes of the text of the tokens that have a weight."""


def as_records(
    conversations: Sequence[TokenisedConversation], source: str, files: Sequence[str] | Mapping[int, str]
) -> tuple[NDArray[np.void], NDArray[np.int32]]:
    """Records (CONVERSATION_RECORD) and their payloads, end to end; `files`: names of a source's files by number.

    The first token of each has no weight from here on: nothing precedes it. Raises DataError, naming file and line, for
    a conversation without tokens, or weights that are not one a token, or negative, or not finite.
    """
    records = np.zeros(len(conversations), CONVERSATION_RECORD)
    payloads = []
    for record, one in zip(records, conversations, strict=True):
        name = files[one.file]
        ids, runs = _checked(one, f"{name}:{one.line}")
        payload = np.concatenate([ids, runs.view("<i4")])
        place = xxhash.xxh3_128_intdigest(f"{source}\0{name}\0{one.line}\0{one.part}".encode())
        record["order"], record["order2"], record["draw"] = place >> 64, place & (2**64 - 1), one.draw
        record["length"], record["tokens"] = len(payload), len(ids)
        for key in ("file", "line", "part", "bytes", "characters", "trained_bytes"):
            record[key] = getattr(one, key)
        record["trained_tokens"] = int(runs["length"][runs["weight"] > 0].sum())
        record["digest"] = digest(ids, runs)
        payloads.append(payload)
    return records, np.concatenate(payloads) if payloads else np.zeros(0, "<i4")


def digest(ids: NDArray[np.integer], runs: NDArray[np.void]) -> int:
    """64 bits of a conversation's ids and weights, however the ids are stored."""
    content = xxhash.xxh3_64(np.ascontiguousarray(ids, "<i4").tobytes())
    content.update(np.ascontiguousarray(runs).tobytes())
    return content.intdigest()


def _checked(one: TokenisedConversation, place: str) -> tuple[NDArray[np.int32], NDArray[np.void]]:
    """Ids and runs."""
    ids, weights = np.asarray(one.ids, np.int64), np.array(one.weights, "<f4")
    if not len(ids) or ids.shape != weights.shape:
        raise DataError(f"{place}: {len(ids):,} tokens with {len(weights):,} loss weights are no conversation")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise DataError(f"{place}: a loss weight is negative or no number; weights are 0 or more")
    if ids.min() < 0 or ids.max() > np.iinfo("<i4").max:
        raise DataError(f"{place}: token id {int(ids.min() if ids.min() < 0 else ids.max()):,} is none")
    weights[0] = 0.0
    begins = np.flatnonzero(np.concatenate([[True], weights[1:] != weights[:-1]]))
    runs = np.zeros(len(begins), RUN)
    runs["length"], runs["weight"] = np.diff(begins, append=len(weights)), weights[begins] + 0.0  # no -0
    return ids.astype("<i4"), runs
