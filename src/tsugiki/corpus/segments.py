"""Ids in less time, for tokenizers that take a text whole: each segment of it is tokenised once.

A BPE tokenizer that splits no words first (SentencePiece's kind: Mistral, Llama 2, most that were made for Japanese)
merges what stands side by side, so a merge that spans two characters has a left piece that ends in the first and a
right piece that begins with the second. Where no merge has such pieces, none ever spans these two: what stands before
and after is tokenised as if it stood alone. Text falls into segments there, of two characters on average in Japanese
and of a word in English, and most have been met before. Another library makes the ids of those that have not; the rest
is looking them up, for all documents of a batch at once.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.segment_table import SegmentTable, Words, stretches
from tsugiki.corpus.tokenizer_engines import UNWRITABLE

NUL = "\0"
"""Ends segments on their way to the other library, since no merge takes it."""
UNITS = 4
"""UTF-16 code units in a word of a key."""
SHORT, LONG = 2 * UNITS, 4 * UNITS
"""Units of the longest segments in the two tables; still longer ones are seldom met twice."""
SHORT_BITS, LONG_BITS = 21, 20
"""Slots of the tables, as powers of two: they take 105 MB, the ids up to 80 MB more."""
GROUP = 1 << 17
"""Segments that are looked up together, in some 20 MB where they are no longer than usual."""
PORTION = 5_000
"""Units that the other library is given at once; the time of a merge grows with the length of its text."""
MASKS = np.array(
    [[(1 << 16 * min(max(size - at, 0), UNITS)) - 1 for size in range(LONG + 2)] for at in range(0, LONG, UNITS)],
    np.uint64,
)
"""Of the words of a segment, by its size: what lies behind its end counts as 0."""
LOW_SURROGATES = (0xDC00, 0xE000)
JOINT_SLOTS, JOINT_BITS = 64, 16
"""Slots for each joint in their table, and in all, as a power of two, at least: one pair in so many is held together
without need."""
ID_SHIFT, PLACE_SHIFT, PLACE_MASK, COUNT_MASK = (np.uint64(part) for part in (32, 8, (1 << 24) - 1, 0xFF))
"""Parts of a table's value: a segment's first id, where all its ids are among those kept, and how many they are."""
MOST_KEPT = 1 << 23
"""Ids beyond which all is forgotten: below what a place can tell by more than a group can add."""

Ids = NDArray[np.int32]
Change = Callable[[str], str]
Encode = Callable[[Sequence[str]], list[Ids]]


class NotCuttable(Exception):
    """Why a tokenizer's text does not fall into segments."""


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where the text of a tokenizer is cut, and what is to be known of it then."""

    description: str
    """A tokenizer.json of what becomes of segments."""
    changes: tuple[Change, ...]
    """What is done to a text before."""
    joined: NDArray[np.bool_]
    """Whether a merge may span two UTF-16 units, by `_joint` of them. Pairs share places, so it holds of some that none
    spans: these are only not cut."""
    single: Words
    """The table's value of each unit alone; 0 where it is no piece."""
    end: int
    """The id of NUL."""

    @classmethod
    def of(cls, description: str) -> "Cuts":
        """Those of a tokenizer.json without control tokens (`Engine.plain_description`). Raises NotCuttable for one of
        another kind."""
        state = json.loads(description)
        if not all(UNWRITABLE.fullmatch(token["content"]) for token in state["added_tokens"]):
            raise NotCuttable("it has added tokens that are no control tokens")
        before = _normaliser(state.get("normalizer"))
        changes = (*before, *_pre_tokenizer(state.get("pre_tokenizer"), normalised=bool(before)))
        merges = _merges(state["model"])
        vocabulary = state["model"]["vocab"]
        end = vocabulary.get(NUL, vocabulary["<0x00>"])
        single = _single_units(vocabulary | {NUL: end})
        plain = json.dumps(state | {"normalizer": None, "pre_tokenizer": None}, ensure_ascii=False)
        return cls(plain, changes, _joint_table(merges), single, end)


class SegmentTokenizer:
    """Ids by segments. encode: gives the ids of texts by `cuts.description`."""

    def __init__(self, cuts: Cuts, encode: Encode):
        self._cuts, self._encode = cuts, encode
        self._shift = np.uint32(33 - len(cuts.joined).bit_length())
        self._short, self._long = SegmentTable(SHORT // UNITS, SHORT_BITS), SegmentTable(LONG // UNITS, LONG_BITS)
        self._kept, self._kept_count = np.zeros(1 << 16, np.int32), 0

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text; nothing is added."""
        changed = [self._changed(text) for text in texts]
        joined = "".join(changed)
        raw = joined.encode("utf-16-le") + bytes(2 * LONG)
        size = len(raw) // 2 - LONG
        only_bmp = size == len(joined)
        lengths = [len(text) if only_bmp else len(text.encode("utf-16-le")) // 2 for text in changed]
        ends = np.cumsum(lengths, dtype=np.int64)
        starts = self._starts(raw, size, ends, only_bmp)
        sizes = np.diff(starts, append=size)
        ids: list[Ids] = []
        counts: list[NDArray[np.int64]] = []
        for at in range(0, len(starts), GROUP):
            group_ids, group_counts = self._looked_up(raw, starts[at : at + GROUP], sizes[at : at + GROUP])
            ids.append(group_ids)
            counts.append(group_counts)
        if not ids:
            return [np.zeros(0, np.int32) for _ in texts]
        before = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        return np.split(np.concatenate(ids), before[np.searchsorted(starts, ends[:-1])])

    def _changed(self, text: str) -> str:
        for change in self._cuts.changes:
            text = change(text)
        return text

    def _starts(self, raw: bytes, size: int, ends: NDArray[np.int64], only_bmp: bool) -> NDArray[np.int64]:
        """Where segments begin in texts that stand side by side and end at `ends`."""
        cut = np.empty(size, bool)
        if not size:
            return np.flatnonzero(cut)
        units = np.frombuffer(raw, "<u2", size)
        pairs = np.ndarray((size - 1,), "<u4", raw, strides=(2,))
        np.logical_not(self._cuts.joined[_joint(pairs, self._shift)], out=cut[1:])
        if not only_bmp:
            cut &= (units < LOW_SURROGATES[0]) | (units >= LOW_SURROGATES[1])
        ends = np.concatenate([ends, nul := np.flatnonzero(units == 0), nul + 1])
        cut[0] = True
        cut[ends[ends < size]] = True
        return np.flatnonzero(cut)

    def _looked_up(
        self, raw: bytes, starts: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of segments end to end, and how many each has."""
        if self._short.is_full or self._long.is_full or self._kept_count > MOST_KEPT:
            self._forget()
        first = int(starts[0])
        units = np.frombuffer(raw, "<u2", int(starts[-1] + sizes[-1]) - first + LONG, 2 * first)
        starts = starts - first
        words = np.array(np.ndarray((len(units) - UNITS + 1,), "<u8", units.data, strides=(2,)))
        values = np.where(sizes == 1, self._cuts.single[units[starts]], 0)
        for table, those in (
            (self._short, np.flatnonzero((values == 0) & (sizes <= SHORT))),
            (self._long, np.flatnonzero((sizes > SHORT) & (sizes <= LONG))),
        ):
            values[those] = self._values(table, units, words, starts[those], sizes[those])
        counts = (values & COUNT_MASK).astype(np.int64)
        several = np.flatnonzero(counts > 1)
        if len(apart := np.flatnonzero(counts == 0)):
            apart_ids, ends = self._tokenised(units, starts[apart], sizes[apart])
            counts[apart] = np.diff(ends, prepend=-1) - 1
        ids = np.repeat((values >> ID_SHIFT).astype(np.int32), counts)
        before = np.cumsum(counts) - counts
        places = (values[several] >> PLACE_SHIFT & PLACE_MASK).astype(np.int64)
        ids[stretches(before[several], counts[several])] = self._kept[stretches(places, counts[several])]
        if len(apart):
            ids[stretches(before[apart], counts[apart])] = apart_ids[apart_ids != self._cuts.end]
        return ids, counts

    def _values(
        self,
        table: SegmentTable,
        units: NDArray[np.uint16],
        words: Words,
        starts: NDArray[np.int64],
        sizes: NDArray[np.int64],
    ) -> Words:
        """What a table holds of segments, put there before if need be."""

        def made(new: NDArray[np.int64]) -> Words:
            ids, ends = self._tokenised(units, starts[new], sizes[new])
            begins = np.concatenate([[0], ends[:-1] + 1])
            values = _value(ids[begins], self._kept_count + begins, ends - begins)
            self._keep(ids)
            return values

        keys = [words[starts + UNITS * number] & mask[sizes] for number, mask in enumerate(MASKS[: table.words])]
        return table.values(keys, made)

    def _tokenised(
        self, units: NDArray[np.uint16], starts: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """What the other library makes of segments: ids, with the id of NUL after each, and where those are."""
        text = units[stretches(starts, sizes + 1)]
        ends = np.cumsum(sizes + 1)
        text[ends - 1] = 0
        cuts = ends[np.searchsorted(ends, np.arange(PORTION, len(text), PORTION))]
        bounds = np.unique(np.concatenate([[0], cuts, [len(text)]])).tolist()
        portions = [text[start:end].tobytes().decode("utf-16-le") for start, end in pairwise(bounds)]
        ids = np.concatenate(self._encode(portions))
        ends = np.flatnonzero(ids == self._cuts.end)
        if len(ends) != len(starts):
            raise ValueError(f"{len(starts)} segments have come back as {len(ends)}")
        return ids, ends

    def _keep(self, ids: Ids) -> None:
        """Put ids behind those that are kept."""
        needed = self._kept_count + len(ids)
        if needed > len(self._kept):
            self._kept = np.concatenate([self._kept, np.zeros(needed, np.int32)])
        self._kept[self._kept_count : needed] = ids
        self._kept_count = needed

    def _forget(self) -> None:
        """Begin anew, so that memory has a bound."""
        self._short.clear()
        self._long.clear()
        self._kept_count = 0


def _value(first: Any, place: Any, count: Any) -> Words:
    """As tables hold it."""
    first, place, count = (np.asarray(part).astype(np.uint64) for part in (first, place, count))
    return first << ID_SHIFT | place << PLACE_SHIFT | count


def _single_units(vocabulary: Mapping[str, int]) -> Words:
    values = np.zeros(1 << 16, np.uint64)
    pieces = {ord(piece): token for piece, token in vocabulary.items() if len(piece) == 1 and ord(piece) < len(values)}
    values[list(pieces)] = _value(list(pieces.values()), 0, 1)
    return values


def _normaliser(state: dict[str, Any] | None) -> list[Change]:
    """What a normalizer of `tokenizers` does to a text."""
    match state:
        case None:
            return []
        case {"type": "Sequence", "normalizers": parts}:
            return [change for part in parts for change in _normaliser(part)]
        case {"type": "Prepend", "prepend": str(prefix)}:
            return [partial(_prepended, prefix)]
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if old:
            return [partial(_replaced, old, new)]
    raise NotCuttable(f"it normalises texts by {state.get('type')}")


def _pre_tokenizer(state: dict[str, Any] | None, normalised: bool) -> list[Change]:
    """What a pre-tokenizer does to a text that it does not split."""
    match state:
        case None:
            return []
        case {"type": "Metaspace", "prepend_scheme": "first", "split": False} if normalised:
            # It looks where a text began before it was normalised.
            raise NotCuttable("it normalises texts and prepends to the first word")
        case {"type": "Metaspace", "replacement": str(sign), "prepend_scheme": scheme, "split": False}:
            return [partial(_with_signs, sign, scheme != "never")]
    raise NotCuttable(f"it splits words first ({state.get('type')})")


def _prepended(prefix: str, text: str) -> str:
    return prefix + text if text else text


def _replaced(old: str, new: str, text: str) -> str:
    return text.replace(old, new)


def _with_signs(sign: str, prepend: bool, text: str) -> str:
    text = text.replace(" ", sign)
    return sign + text if prepend and text and not text.startswith(sign) else text


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges of a BPE model that begins with characters, or with the bytes of those it has no piece for."""
    if model.get("type") != "BPE":
        raise NotCuttable(f"it is a {model.get('type')} model")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(key):
            raise NotCuttable(f"it has {key}")
    of_bytes = {f"<0x{byte:02X}>" for byte in range(256)}
    if not model.get("byte_fallback") or not of_bytes <= model["vocab"].keys():
        raise NotCuttable("it has no pieces for bytes")
    merges = [(left, right) for left, right in model["merges"]]
    if not all(left and right for left, right in merges):
        raise NotCuttable("it merges nothing with something")
    if any(not of_bytes.isdisjoint((left, right, left + right)) for left, right in merges):
        raise NotCuttable("it merges bytes")
    if any(NUL in (left[-1], right[0]) for left, right in merges):
        raise NotCuttable("it merges NUL")
    return merges


def _joint_table(merges: list[tuple[str, str]]) -> NDArray[np.bool_]:
    before = np.frombuffer("".join(left[-1] for left, _ in merges).encode("utf-32-le"), "<u4")
    after = np.frombuffer("".join(right[0] for _, right in merges).encode("utf-32-le"), "<u4")
    last = np.where(before > 0xFFFF, 0xDC00 + (before & 0x3FF), before)  # of surrogate pairs the low one
    first = np.where(after > 0xFFFF, 0xD800 + ((after - 0x10000) >> 10), after)
    joints = np.unique(last.astype(np.uint32) | first.astype(np.uint32) << 16)
    bits = max(JOINT_BITS, (JOINT_SLOTS * len(joints)).bit_length())
    table = np.zeros(1 << bits, bool)
    table[_joint(joints, np.uint32(32 - bits))] = True
    return table


def _joint(pairs: NDArray[np.uint32], shift: np.uint32) -> NDArray[np.uint32]:
    """The place of pairs of units in a table of 2 ** (32 - shift): multiplicative hashing (Knuth), high bits."""
    places = pairs * np.uint32(0x9E3779B1)
    places >>= shift
    return places
