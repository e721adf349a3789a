"""What a vocabulary extension brought, measured: tokens saved, what the saving costs, and which pieces are used.

Documents are encoded once by the base's tokenizer and once by the extended one. Three figures need their definition:

- The ratio of a source is its tokens after over its tokens before, for the same text.
- The recipe's weights are shares of training tokens, so a token of the new mixture holds text that took the base
  Σ weight / ratio tokens (weights summing to 1). The mixture's ratio is the inverse: the harmonic mean.
- FLOPs a token are 6 · N with N all parameters that multiply a token: all but the input embedding, a tied matrix as
  output layer. Attention is left out. Training takes 6 · N, generation 2 · N, so the ratio holds for both. The cost of
  the same text is the ratio of tokens times the ratio of FLOPs a token.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.readable import readable
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.fertility import Fertility, measure_together

if TYPE_CHECKING:
    from tsugiki.corpus.tokenizer import TextTokenizer
    from tsugiki.vocabulary.learn import Trial
    from tsugiki.vocabulary.piece_proofs import Proof

PIECES_NAMED = 50
"""How many of the most used and of the never used new pieces are named."""
MARKS = "marks"
"""How characters of the target that are no letters of its scripts are called: punctuation, digits, wide forms."""


@dataclass(frozen=True)
class ModelSize:
    """What a model's cost a token follows from."""

    rows_before: int
    """Rows of the embedding, which may be more than the tokenizer has ids."""
    rows_after: int
    width: int
    tied: bool
    """Whether input and output rows are one matrix."""
    parameters: int | None = None
    """Before the extension, a tied matrix counted once; of a mixture of experts those that a token visits. Norms and
    biases may be counted: they are too few to matter."""

    @property
    def added_parameters(self) -> int:
        return (self.rows_after - self.rows_before) * self.width * (1 if self.tied else 2)

    @property
    def flops_before(self) -> int | None:
        """Of one trained token, without attention; None where the parameters are not known."""
        if self.parameters is None:
            return None
        return 6 * (self.parameters - (0 if self.tied else self.rows_before * self.width))

    @property
    def flops_after(self) -> int | None:
        before = self.flops_before
        return None if before is None else before + 6 * (self.rows_after - self.rows_before) * self.width

    @property
    def flops_ratio(self) -> float | None:
        """After over before."""
        before, after = self.flops_before, self.flops_after
        return after / before if before and after else None


@dataclass(frozen=True)
class Change:
    """The same text before and after."""

    before: Fertility
    after: Fertility

    def __add__(self, other: "Change") -> "Change":
        return Change(self.before + other.before, self.after + other.after)

    @property
    def ratio(self) -> float:
        """Tokens after over tokens before."""
        return self.after.tokens / self.before.tokens

    @property
    def saved(self) -> float:
        """Share of tokens saved; below 0 where the text takes more."""
        return 1 - self.ratio

    def to_json(self) -> dict[str, Any]:
        return {"before": self.before.to_json(), "after": self.after.to_json(), "tokens_ratio": self.ratio}


@dataclass(frozen=True)
class Coverage:
    """Characters of one script in some text, and how many of them are one token."""

    script: str
    occurrences: int
    distinct: int
    occurrences_before: int
    occurrences_after: int
    distinct_before: int
    distinct_after: int


@dataclass(frozen=True)
class NewPiece:
    """A new id, what it stands for, and how often the sample used it."""

    id: int
    text: str
    uses: int


@dataclass
class VocabularyReport:
    """Everything that the report of the stage shows."""

    size_before: int
    size_after: int
    sample: dict[str, Change]
    """By source, the text that pieces were learnt from; sources without text are left out, here and below."""
    held_out: dict[str, Change]
    """By source, text that was not learnt from."""
    weights: dict[str, float]
    sample_coverage: list[Coverage]
    held_out_coverage: list[Coverage]
    most_used: list[NewPiece]
    """At most `PIECES_NAMED`, most used first."""
    unused: int
    """New pieces that the sample never used."""
    first_unused: list[NewPiece]
    """At most `PIECES_NAMED`, by id."""
    model: ModelSize | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase."""
    proofs: "Sequence[Proof]" = ()
    trials: "Sequence[Trial]" = ()
    threshold: int | None = None
    """The trial that was chosen."""
    initialisation: dict[str, Any] = field(default_factory=dict)
    """Facts about the new rows, by what they are called."""

    @property
    def new_pieces(self) -> int:
        return self.size_after - self.size_before

    @property
    def judged(self) -> dict[str, Change]:
        """By source, its held-out text, or the sample where nothing is held out: what savings are judged by."""
        return {name: self.held_out.get(name) or self.sample[name] for name in {**self.sample, **self.held_out}}

    @property
    def mixture_ratio(self) -> float | None:
        """Tokens after over tokens before for the text of a mixture; None without weights, or when a source that has a
        weight was not measured."""
        drawn = {name: weight for name, weight in self.weights.items() if weight > 0}
        if not drawn or not drawn.keys() <= self.judged.keys():
            return None
        return sum(drawn.values()) / sum(weight / self.judged[name].ratio for name, weight in drawn.items())

    def to_json(self) -> dict[str, Any]:
        """Everything, and what follows from it, as `report.json` holds it."""
        model = None
        if self.model is not None:
            derived = ("added_parameters", "flops_before", "flops_after", "flops_ratio")
            model = asdict(self.model) | {name: getattr(self.model, name) for name in derived}
        return {
            "vocabulary_size": {"before": self.size_before, "after": self.size_after},
            "sample": {name: change.to_json() for name, change in self.sample.items()},
            "held_out": {name: change.to_json() for name, change in self.held_out.items()},
            "weights": self.weights,
            "mixture_tokens_ratio": self.mixture_ratio,
            "single_characters": {
                "sample": [asdict(coverage) for coverage in self.sample_coverage],
                "held_out": [asdict(coverage) for coverage in self.held_out_coverage],
            },
            "most_used": [asdict(piece) for piece in self.most_used],
            "unused": {"count": self.unused, "first": [asdict(piece) for piece in self.first_unused]},
            "model": model,
            "seconds": self.seconds,
            "proofs": [
                {name: getattr(proof, name) for name in ("name", "passed", "checked", "failed", "summary")}
                for proof in self.proofs
            ],
            "character_threshold": {
                "chosen": self.threshold,
                "trials": [
                    {name: getattr(trial, name) for name in ("threshold", "characters", "tokens_per_character")}
                    for trial in self.trials
                ],
            },
            "initialisation": self.initialisation,
        }


def build_report(
    base: "TextTokenizer",
    extended: "TextTokenizer",
    samples: Mapping[str, Iterable[str]],
    held_out: Mapping[str, Iterable[str]],
    target: TargetCharacters,
    weights: Mapping[str, float],
) -> VocabularyReport:
    """Measure both tokenizers on whole documents by source, each read once. New ids are those from
    `base.vocabulary_size` on. Whoever extended the vocabulary fills in the fields that have defaults."""
    sample, uses, sample_characters = _measure_sources(base, extended, samples)
    held, _, held_characters = _measure_sources(base, extended, held_out)
    uses = uses[base.vocabulary_size :]
    unused = np.flatnonzero(uses == 0)
    # Sorted by falling use; equal ones stay in the order of their ids.
    most_used = [index for index in np.argsort(-uses, kind="stable")[:PIECES_NAMED] if uses[index]]

    def pieces(indices: Iterable[int]) -> list[NewPiece]:
        ids = [(base.vocabulary_size + int(index), int(uses[index])) for index in indices]
        return [NewPiece(token, readable(extended, token), count) for token, count in ids]

    return VocabularyReport(
        size_before=base.vocabulary_size,
        size_after=extended.vocabulary_size,
        sample=sample,
        held_out=held,
        weights=dict(weights),
        sample_coverage=cover(base, extended, target, sample_characters),
        held_out_coverage=cover(base, extended, target, held_characters),
        most_used=pieces(most_used),
        unused=len(unused),
        first_unused=pieces(unused[:PIECES_NAMED]),
    )


def _measure_sources(
    base: "TextTokenizer", extended: "TextTokenizer", sources: Mapping[str, Iterable[str]]
) -> tuple[dict[str, Change], NDArray[np.int64], dict[str, int]]:
    """Changes by source; over all of them, uses of each id of the extended tokenizer and occurrences by character."""
    changes: dict[str, Change] = {}
    uses = np.zeros(extended.vocabulary_size, np.int64)
    characters = np.zeros(0x110000, np.int64)
    for name, texts in sources.items():
        (before, _), (after, used) = measure_together([base, extended], _counting(texts, characters))
        uses += used
        if before.tokens:
            changes[name] = Change(before, after)
    seen = np.flatnonzero(characters)
    return changes, uses, {chr(code): int(characters[code]) for code in seen}


def _counting(texts: Iterable[str], characters: NDArray[np.int64]) -> Iterator[str]:
    """The texts as they are, while their characters are added to `characters` ([0x110000], by code point)."""
    for text in texts:
        np.add.at(characters, np.frombuffer(text.encode("utf-32-le"), "<u4"), 1)
        yield text


def cover(
    base: "TextTokenizer", extended: "TextTokenizer", target: TargetCharacters, characters: Mapping[str, int]
) -> list[Coverage]:
    """Coverage of the letters of each of the target's scripts, and of its marks, where `characters` (occurrences by
    character) has any. A letter that several scripts share, such as the long-vowel mark of kana, counts in each."""
    scripts = {script: TargetCharacters([script]) for script in target.scripts}
    counts = {name: np.zeros(6, np.int64) for name in [*scripts, MARKS]}
    targets = [character for character in characters if target.is_target(character)]
    own_before, own_after = (of_one_token(tokenizer, targets) for tokenizer in (base, extended))
    for character in targets:
        occurrences, before, after = characters[character], character in own_before, character in own_after
        row = np.array([occurrences, 1, occurrences * before, occurrences * after, before, after])
        for name in [name for name, script in scripts.items() if script.is_letter(character)] or [MARKS]:
            counts[name] += row
    return [Coverage(name, *map(int, row)) for name, row in counts.items() if row[1]]


def of_one_token(tokenizer: "TextTokenizer", characters: Iterable[str]) -> set[str]:
    """The characters among some that have a token of their own.

    It is asked for at the start of a line: at the start of a text some tokenizers put a space mark before it. A token
    that stands for anything unknown is not its own; a character that the tokenizer replaces by its canonical
    equivalent (Qwen) is judged by that.
    """
    asked = list(characters)
    line_end, *lines = tokenizer.engine.encode_batch(["\n", *(f"\n{character}" for character in asked)])
    decoded = tokenizer.engine.decode_batch(lines)
    return {
        character
        for character, ids, back in zip(asked, lines, decoded, strict=True)
        if len(ids) == len(line_end) + 1
        and unicodedata.normalize("NFC", back).endswith(unicodedata.normalize("NFC", character))
    }
