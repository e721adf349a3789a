"""Probes and texts through any scorer of documents: a model as training holds it, or one by itself with a cache.

Choices are compared by their summed log-likelihood divided by the UTF-8 bytes of the continuation. Sums alone would
favour short continuations; a mean over tokens would change with the tokenizer, and the same sentence in more pieces
would look better or worse. Bytes are the text's alone, so that a model with another vocabulary answers to the same
measure. Beside accuracy, which moves in steps, stand the bits per byte of the true continuation, which move smoothly.

Nothing here draws random numbers, generates text or changes the model.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.encoding import Encoder
from tsugiki.evaluation.probes.items import Probe
from tsugiki.model.bits_per_byte import DocumentScores, Ids, bits_per_byte


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """A model on one probe."""

    name: str
    title: str
    language: str
    version: int
    chance: float
    ids: list[str]
    choice_bits: NDArray[np.float64]
    """[items, choices]: bits per byte of each choice; the lowest is the answer."""
    correct: NDArray[np.float64]
    """[items]: 1 where the answer is the true continuation. Choices that score the same share the point."""
    nats: NDArray[np.float64]
    """[items]: of the true continuation."""
    bytes: NDArray[np.int64]
    """[items]: of the true continuation, UTF-8."""

    def figures(self) -> dict[str, float]:
        """accuracy, chance, bits_per_byte (of all true continuations together) and items."""
        return {
            "accuracy": float(self.correct.mean()),
            "chance": self.chance,
            "bits_per_byte": bits_per_byte(float(self.nats.sum()), int(self.bytes.sum())),
            "items": len(self.ids),
        }


@dataclass(frozen=True, eq=False)
class TextResult:
    """A model on the documents of one source, each [documents]."""

    name: str
    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]

    def figures(self) -> dict[str, float]:
        """bits_per_byte (of all documents together), documents, bytes, tokens."""
        return {
            "bits_per_byte": bits_per_byte(float(self.nats.sum()), int(self.bytes.sum())),
            "documents": len(self.nats),
            "bytes": int(self.bytes.sum()),
            "tokens": int(self.tokens.sum()),
        }


@dataclass(frozen=True)
class _Text:
    ids: list[int]
    scored_from: int
    size: int
    """UTF-8 bytes of what is scored."""


Score = Callable[[Sequence[Ids], Sequence[int]], DocumentScores | None]
"""Scores of documents, each from the token on that the second list names; None when asked to stop meanwhile."""


def probe_model(
    score: Score, tokenizer: TextTokenizer, probes: Sequence[Probe], texts: Mapping[str, Sequence[str]] | None = None
) -> list[ProbeResult | TextResult] | None:
    """Score `probes`, then `texts` (documents by source or language); None where `score` was asked to stop.

    An empty document or source is left out. Raises ModelError on an item whose continuation has no token.
    """
    kept = {name: [text for text in documents if text] for name, documents in (texts or {}).items()}
    parts = [_choices(probe, tokenizer) for probe in probes]
    parts += [[_Text(tokenizer.encode(text), 0, len(text.encode())) for text in kept[name]] for name in kept]
    every = [text for part in parts for text in part]
    scores = score([text.ids for text in every], [text.scored_from for text in every])
    if scores is None:
        return None
    bounds = np.cumsum([len(part) for part in parts])[:-1]
    sizes = np.split(np.array([text.size for text in every], np.int64), bounds)
    nats, tokens = np.split(scores.nats, bounds), np.split(scores.tokens, bounds)
    results: list[ProbeResult | TextResult] = [
        _judge(probe, nats[place], sizes[place]) for place, probe in enumerate(probes)
    ]
    for place, name in enumerate(kept, start=len(probes)):
        if kept[name]:
            results.append(TextResult(name, nats[place], tokens[place], sizes[place]))
    return results


def _choices(probe: Probe, tokenizer: TextTokenizer) -> list[_Text]:
    """Every choice of every item after its context, item by item."""
    pairs = [(item.context, choice) for item in probe.items for choice in item.choices]
    encoder = Encoder(tokenizer, add_bos=False, max_length=sys.maxsize)  # windows see to what is too long
    return [
        _Text(encoded.prompt + encoded.continuation, len(encoded.prompt), len(choice.encode()))
        for encoded, (_, choice) in zip(encoder.pairs(pairs), pairs, strict=True)
    ]


def _judge(probe: Probe, nats: NDArray[np.float64], sizes: NDArray[np.int64]) -> ProbeResult:
    """`nats` and `sizes` of the choices of all items, in order."""
    rows = np.arange(len(probe.items))
    labels = np.array([item.label for item in probe.items])
    by_item, bytes_by_item = nats.reshape(len(rows), -1), sizes.reshape(len(rows), -1)
    bits = bits_per_byte(by_item, bytes_by_item)
    best = bits == bits.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # NaN for a model that diverged
        correct = best[rows, labels] / best.sum(axis=1)
    return ProbeResult(
        probe.name, probe.title, probe.language, probe.version, probe.chance, [item.id for item in probe.items],
        choice_bits=bits, correct=correct,
        nats=by_item[rows, labels], bytes=bytes_by_item[rows, labels],
    )  # fmt: skip


def figures(results: Sequence[ProbeResult | TextResult]) -> dict[str, dict[str, Any]]:
    """By name: what is logged."""
    return {result.name: result.figures() for result in results}
