"""Learn the pieces that are added: single characters first, then merges, continued from the base's own.

The sample is cut into the stretches in which new pieces may form, each stretch is what the base (with the characters
added) makes of it, and byte-pair training goes on from there. The training itself is that of the library `tokenizers`,
which knows no way to continue: so every piece that there already is gets one character of a private alphabet, and words
spelled in it are what the trainer sees. Neighbours that must not join are kept in different words.

How many single characters are worth a piece is decided by what held-out text costs: characters seen at least 2, 3, 5 …
times are tried, each with as many merges as places remain.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, trainers

from tsugiki.errors import DataError
from tsugiki.vocabulary.pieces import Base, Piece, bare

THRESHOLDS = (2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 1000, 2000, 5000, 10_000)
WORSE = 3
"""Trials in a row behind the best after which no further one is made."""
PRIVATE = 0x10000
"""Code points from here on are ids: 0x100000 of them, none a surrogate."""
SPARE = 1.1
"""Merges learned for each that is asked for: some fall away with rare characters, some fail the self-test."""
BATCH = 20_000
LEAST_COUNT = 2
"""Times a pair must be seen to be merged."""


@dataclass(frozen=True)
class Trial:
    """What held-out text costs when characters seen at least `threshold` times have a piece."""

    threshold: int
    characters: int
    """Places that single characters take, with what they are built of."""
    tokens_per_character: float


@dataclass(frozen=True)
class Learnt:
    """The pieces to add, in order, and how the number of single characters was chosen."""

    pieces: list[Piece]
    single: int
    """How many of them are single characters, or beginnings of those."""
    threshold: int
    trials: list[Trial]
    dropped: list[str]
    """Pieces that did not tokenise to themselves."""


def learn(
    base: Base, texts: Sequence[str], held_out: Sequence[str], count: int, *, max_length: int,
    threshold: int | None = None, split: Callable[[str], Iterable[str]] | None = None,
) -> Learnt:  # fmt: skip
    """Choose `count` pieces from `texts`, at most `max_length` characters each.

    `threshold` fixes how often a character must be seen for a piece of its own; None tries several on `held_out`.
    `split` divides a stretch of text at word boundaries that no piece may cross. Raises DataError when the texts do not
    hold as many pieces.
    """
    seen = Counter(character for text in texts for character in base.target.targets(text))
    ordered = sorted((c for c in seen if seen[c] >= (threshold or LEAST_COUNT)), key=lambda c: (-seen[c], c))
    needed = {character: pieces for character in ordered if (pieces := base.character_pieces(character))}
    state = base.state(_unique(piece for pieces in needed.values() for piece in pieces))
    units = base.units(texts)
    if split is not None:
        units = _divided(units, split)
    merges = learn_merges(base, state, units, round(SPARE * count) + 100, max_length)

    def choose(least: int, banned: set[str]) -> tuple[list[Piece], int]:
        chosen = [c for c in needed if seen[c] >= least]
        single = [p for p in _unique(p for c in chosen for p in needed[c]) if p.spelling not in banned]
        return _fill(base, single, merges, count, banned, max_length), len(single)

    trials: list[Trial] = []
    for least in (threshold,) if threshold is not None else THRESHOLDS:
        pieces, single = choose(least, set())
        if len(pieces) == count and (not trials or single != trials[-1].characters):
            tokens = count_tokens(base.state(pieces), held_out)
            trials.append(Trial(least, single, tokens / max(1, sum(map(len, held_out)))))
            if len(trials) > WORSE and trials[-1 - WORSE] == min(trials, key=_cost):
                break
    if not trials:
        most = max(len(choose(least, set())[0]) for least in THRESHOLDS)
        raise DataError(
            f"the sample of {sum(map(len, texts)):,} characters yields {most:,} new pieces, {count:,} are asked for: "
            "give more text (vocabulary.corpora, vocabulary.sample_characters) or ask for fewer"
        )
    best = min(trials, key=_cost)
    banned: set[str] = set()
    while True:
        pieces, single = choose(best.threshold, banned)
        failing = not_themselves(base.state(pieces), pieces)
        if not failing:
            break
        banned |= failing
    if len(pieces) < count:
        raise DataError(f"only {len(pieces):,} of {count:,} pieces tokenise to themselves: ask for fewer")
    return Learnt(pieces, single, best.threshold, trials, sorted(banned))


def _cost(trial: Trial) -> float:
    return trial.tokens_per_character


def _unique(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces in order, each spelling once: characters share beginnings."""
    return list({piece.spelling: piece for piece in pieces}.values())


def _divided(units: Mapping[str, int], split: Callable[[str], Iterable[str]]) -> Counter[str]:
    divided: Counter[str] = Counter()
    for unit, count in units.items():
        for part in split(unit):
            divided[part] += count
    return divided


def _fill(
    base: Base, single: Sequence[Piece], merges: Iterable[Piece], count: int, banned: set[str], max_length: int
) -> list[Piece]:
    """The single characters, then merges in order whose parts are there, up to `count` pieces in all."""
    pieces = list(single[:count])
    known = base.vocabulary.keys() | {piece.spelling for piece in single}
    for merge in merges:
        if len(pieces) >= count:
            break
        usable = merge.spelling not in known and merge.spelling not in banned and known.issuperset(merge.parts)
        if usable and len(base.text_of(merge.spelling) or "") <= max_length:
            pieces.append(merge)
            known.add(merge.spelling)
    return pieces


def learn_merges(
    base: Base, state: Mapping[str, Any], units: Mapping[str, int], count: int, max_length: int
) -> list[Piece]:
    """Up to `count` merges, the most frequent pair first, continued from a tokenizer.json's own on counted `units`."""
    tokenizer = bare(dict(state))
    spellings = {token: spelling for spelling, token in state["model"]["vocab"].items()}
    kinds = np.zeros(max(spellings) + 1, np.int8)
    for token, spelling in spellings.items():
        kinds[token] = {"target": 2, "other": 1, None: 0}[base.kind(spelling)]
    words: Counter[str] = Counter()
    batch: list[str] = []
    for unit in units:
        batch.append(unit)
        if len(batch) == BATCH:
            _add_words(words, tokenizer, batch, units, kinds)
            batch = []
    _add_words(words, tokenizer, batch, units, kinds)
    symbols = len({symbol for word in words for symbol in word})
    trainer = trainers.BpeTrainer(
        vocab_size=symbols + count, min_frequency=LEAST_COUNT, max_token_length=max_length, show_progress=False
    )
    trained = Tokenizer(models.BPE())
    trained.train_from_iterator((word for word, times in words.items() for word in repeat(word, times)), trainer)

    def spelled(symbols: str) -> str:
        return "".join(spellings[ord(symbol) - PRIVATE] for symbol in symbols)

    found = json.loads(trained.to_str())["model"]["merges"]
    pairs = [(spelled(left), spelled(right)) for left, right in found]
    return [Piece(left + right, (left, right)) for left, right in pairs]


def _add_words(
    words: Counter[str], tokenizer: Tokenizer, batch: Sequence[str], units: Mapping[str, int], kinds: NDArray[np.int8]
) -> None:
    """Cut what the tokenizer makes of units into words, in the private alphabet, in which any neighbours may join."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
    if not encoded:
        return
    ids = np.concatenate([np.array(part, np.uint32) for part in encoded])
    unit_of = np.repeat(np.arange(len(encoded)), [len(part) for part in encoded])
    kind = kinds[ids]
    # A word goes on where both are whole characters of one unit, and not both without a letter of the target.
    joined = (unit_of[1:] == unit_of[:-1]) & (kind[1:] > 0) & (kind[:-1] > 0) & (kind[1:] + kind[:-1] > 2)
    edges = np.diff(np.concatenate([[False], joined, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) + 1
    text = (ids + PRIVATE).astype("<u4").tobytes().decode("utf-32-le")
    for start, end, unit in zip(starts.tolist(), ends.tolist(), unit_of[starts].tolist(), strict=True):
        words[text[start:end]] += units[batch[unit]]


def count_tokens(state: Mapping[str, Any], texts: Iterable[str]) -> int:
    """Tokens of texts in all, by a tokenizer.json's content."""
    tokenizer = Tokenizer.from_str(json.dumps(state))
    return sum(
        len(encoding.ids)
        for batch in _batches(texts)
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)
    )


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters > 1_000_000:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def not_themselves(state: Mapping[str, Any], pieces: Sequence[Piece]) -> set[str]:
    """The spellings of pieces that the tokenizer divides otherwise than into themselves."""
    ids, model = state["model"]["vocab"], bare(dict(state))
    encoded = model.encode_batch_fast([piece.spelling for piece in pieces], add_special_tokens=False)
    return {
        piece.spelling for piece, encoding in zip(pieces, encoded, strict=True) if encoding.ids != [ids[piece.spelling]]
    }
