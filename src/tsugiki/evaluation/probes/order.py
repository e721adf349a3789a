"""Order: a sentence goes on as it should, or with two of its words (letters, where spaces divide none) exchanged.

All choices have the same words, so that nothing decides but what stands beside what. That is the first thing that a
model learns of a language: one of a million parameters moves here within a minute, long before it knows any fact.
"""

from collections.abc import Sequence
from random import Random

import regex

from tsugiki.evaluation.probes.cloze import SEPARATORS, cloze
from tsugiki.evaluation.probes.items import Probe, ProbeItem, shuffled
from tsugiki.evaluation.probes.next_sentence import ITEMS, LEAST, cut

VERSION = 1
PARTS = 7
"""Words or letters of a continuation, at most; the last one, which may end in a full stop, keeps its place."""


def order(language: str) -> Probe:
    """The ends of the sentences of a language's cloze; too short a sentence is left out."""
    separator = SEPARATORS[language]
    ends = []
    for item in cloze(language).items:
        sentence = item.context + item.truth
        parts = sentence.split() if separator else list(sentence)
        begin = max(1, len(parts) - PARTS)
        ends.append((separator.join(parts[:begin]), separator, parts[begin:], separator))
    return _probe(language, language, ends)


def order_from(name: str, language: str, documents: Sequence[str]) -> Probe | None:
    """The next sentences of documents in any language; None where fewer than LEAST can be made."""
    ends = []
    for found in map(cut, documents):
        if found is not None:
            context, space, sentence = found
            words = sentence.split()
            divided = len(words) >= PARTS
            parts = words if divided else regex.findall(r"\X", sentence)  # whole characters: Thai's have marks
            ends.append((context, space, parts[:PARTS], " " if divided else ""))
    probe = _probe(name, language, ends[:ITEMS])
    return probe if len(probe.items) >= LEAST else None


def _probe(name: str, language: str, ends: Sequence[tuple[str, str, list[str], str]]) -> Probe:
    """Of (what is before, the space between, parts of the continuation, the space between those)."""
    items: list[ProbeItem] = []
    for number, (context, space, parts, separator) in enumerate(ends, start=1):
        random = Random(f"order/{name}/{number}")
        others = exchanged(parts, random)
        if len(others) == 3:
            truth, *wrong = (space + separator.join(each) for each in (parts, *others))
            items.append(shuffled(f"{number:03}", context, truth, wrong, random))
    return Probe(f"order_{name}", f"order {name}", language, VERSION, tuple(items))


def exchanged(parts: Sequence[str], random: Random) -> list[list[str]]:
    """Three other orders (fewer, if there are none), each with two parts exchanged that are as near as can be."""
    movable = range(len(parts) - 1)
    pairs = [(left, left + distance) for distance in (1, 2) for left in movable if left + distance in movable]
    pairs.sort(key=lambda pair: (pair[1] - pair[0], random.random()))
    others: list[list[str]] = []
    for left, right in pairs:
        other = list(parts)
        other[left], other[right] = other[right], other[left]
        if other != list(parts) and other not in others:
            others.append(other)
    return others[:3]
