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
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
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
    """How often a character was seen that has a piece."""
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
    thresholds = THRESHOLDS if threshold is None else (threshold,)
    seen = Counter(character for text in texts for character in base.target.targets(text))
    ordered = sorted((c for c in seen if seen[c] >= thresholds[0]), key=lambda c: (-seen[c], c))
    characters = {character: pieces for character in ordered if (pieces := base.character_pieces(character))}
    units = base.units(texts)
    if split is not None:
        units = _divided(base, units, split)
    asked = round(SPARE * count) + 100
    while True:
        single = _unique(piece for pieces in characters.values() for piece in pieces)
        merges = learn_merges(base, single, units, asked, max_length)
        candidates = Candidates(base, seen, characters, merges, count, max_length)
        trials = try_thresholds(candidates, thresholds, held_out)
        for trial in sorted(trials, key=_cost):
            pieces, singles, dropped = candidates.tested(trial.threshold)
            if len(pieces) == count:
                return Learnt(pieces, singles, trial.threshold, trials, sorted(dropped))
        if len(merges) < asked:
            break
        asked *= 2  # too many of them fell away
    most = max(thresholds, key=lambda least: len(candidates.choose(least)[0]))
    raise DataError(
        f"the sample of {sum(map(len, texts)):,} characters yields {len(candidates.tested(most)[0]):,} new pieces, "
        f"{count:,} are asked for: give more text (vocabulary.corpora, vocabulary.sample_characters) or ask for fewer"
    )


def _cost(trial: Trial) -> float:
    return trial.tokens_per_character


def _unique(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces in order, each spelling once: characters share beginnings."""
    return list({piece.spelling: piece for piece in pieces}.values())


def _divided(base: Base, units: Mapping[str, int], split: Callable[[str], Iterable[str]]) -> Counter[str]:
    divided: Counter[str] = Counter()
    for unit, count in units.items():
        for part in split(base.text_of(unit) or ""):
            divided[base.spelled(part)] += count
    return divided


@dataclass(frozen=True)
class Candidates:
    """What `count` pieces are chosen from."""

    base: Base
    seen: Mapping[str, int]
    """How often each character was seen."""
    characters: Mapping[str, Sequence[Piece]]
    """Pieces that make a character one token, the most frequent character first."""
    merges: Sequence[Piece]
    """In the order in which they were learned."""
    count: int
    max_length: int

    def choose(self, least: int, banned: Container[str] = ()) -> tuple[list[Piece], int]:
        """The pieces of the characters seen at least `least` times, then merges whose parts are there, `count` in all
        or as many as there are; and how many of them are of characters."""
        single = _unique(
            piece for character, own in self.characters.items() if self.seen[character] >= least for piece in own
        )
        of_characters = {piece.spelling for piece in single}
        known = set(self.base.vocabulary)
        pieces: list[Piece] = []
        for piece in chain(single, self.merges):
            if len(pieces) == self.count:
                break
            possible = piece.spelling not in known and piece.spelling not in banned and known.issuperset(piece.parts)
            if possible and len(self.base.text_of(piece.spelling) or "") <= self.max_length:
                pieces.append(piece)
                known.add(piece.spelling)
        return pieces, sum(piece.spelling in of_characters for piece in pieces)

    def tested(self, least: int) -> tuple[list[Piece], int, set[str]]:
        """As `choose`, without the pieces that do not tokenise to themselves, others in their place; and those."""
        dropped: set[str] = set()
        while True:
            pieces, single = self.choose(least, dropped)
            failing = not_themselves(self.base, pieces)
            if not failing:
                return pieces, single, dropped
            dropped |= failing


def try_thresholds(candidates: Candidates, thresholds: Iterable[int], held_out: Sequence[str]) -> list[Trial]:
    """What the held-out text costs by each threshold for which there are pieces enough, until it gets no better."""
    trials: list[Trial] = []
    for least in thresholds:
        pieces, single = candidates.choose(least)
        if len(pieces) == candidates.count and (not trials or single != trials[-1].characters):
            tokens = count_tokens(candidates.base.state(pieces), held_out)
            trials.append(Trial(least, single, tokens / max(1, sum(map(len, held_out)))))
            if len(trials) > WORSE and trials[-1 - WORSE] == min(trials, key=_cost):
                break
    return trials


def learn_merges(
    base: Base, single: Sequence[Piece], units: Mapping[str, int], count: int, max_length: int
) -> list[Piece]:
    """Up to `count` merges, the most frequent pair first, continued from the base's own and those of `single`
    characters on counted `units`."""
    state = base.state(single)
    tokenizer = bare(state)
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
        vocab_size=symbols + count, min_frequency=LEAST_COUNT, show_progress=False,
        max_token_length=max_length + 1,  # the library takes pieces shorter than that
    )  # fmt: skip
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


def not_themselves(base: Base, pieces: Sequence[Piece]) -> set[str]:
    """The spellings of new pieces that come out divided: by merges alone, or at the beginning of a line."""
    state = base.state(pieces)
    ids: dict[str, int] = state["model"]["vocab"]
    spellings = [piece.spelling for piece in pieces]
    alone = bare(state).encode_batch_fast(spellings, add_special_tokens=False)
    failing = {spelling for spelling, encoding in zip(spellings, alone, strict=True) if encoding.ids != [ids[spelling]]}
    # Behind a line's end nothing joins a piece that begins a line, not even the space put before a text.
    tokenizer = Tokenizer.from_str(json.dumps(state))
    typed = {spelling: text for spelling in spellings if (text := base.text_of(spelling)) is not None}
    end, *lines = tokenizer.encode_batch_fast(
        ["\n", *(f"\n{text}" for text in typed.values())], add_special_tokens=False
    )
    failing |= {spelling for spelling, line in zip(typed, lines, strict=True) if line.ids != [*end.ids, ids[spelling]]}
    return failing
