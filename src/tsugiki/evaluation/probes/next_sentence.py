"""A cloze for any language, made from held-out documents: the next sentence of a document against the next sentences
of three others.

Easier than a written cloze (the subject gives much away) and rougher, but it needs nobody who writes the language. The
alternatives are those nearest in length. For source code and formulas the next line takes the sentence's place.
"""

from collections.abc import Sequence
from random import Random

import regex

from tsugiki.evaluation.probes.items import Probe, ProbeItem, shuffled

VERSION = 1
ITEMS = 100
LEAST = 20
READ = 10_000
"""Characters of a document that are looked at."""
CONTEXT = 400
"""Characters before the next sentence, at most."""
SENTENCE = (8, 160)
"""Characters of a sentence that is asked for; a longer one is cut there."""
END = regex.compile(r"(?<=[.!?…][\"'”’)]?)\s+|(?<=[。！？．])(?![」』）])|(?<=[।۔؟])\s*|\n+")
"""Where a sentence ends: the marks of Latin, Cyrillic, Chinese, Japanese, Devanagari and Arabic script, or a line."""


def next_sentence(name: str, language: str, documents: Sequence[str]) -> Probe | None:
    """One item of each of the first documents that can be cut; None where fewer than LEAST can."""
    pairs = [pair for pair in map(cut, documents) if pair is not None][:ITEMS]
    if len({sentence for _, _, sentence in pairs}) < LEAST:
        return None
    items: list[ProbeItem] = []
    for number, (context, space, truth) in enumerate(pairs):
        others = {end for _, _, end in pairs if end != truth}
        nearest = sorted(others, key=lambda end: (abs(len(end.encode()) - len(truth.encode())), end))[:3]
        random = Random(f"next sentence/{name}/{number}")
        choices = [space + end for end in nearest]
        items.append(shuffled(f"{number + 1:03}", context, space + truth, choices, random))
    return Probe(f"next_{name}", f"next {name}", language, VERSION, tuple(items))


def cut(document: str) -> tuple[str, str, str] | None:
    """(what is before, the space between, next sentence) where a sentence ends nearest to the middle of a document, or
    a word where no sentence ends (Thai has no mark for it). None for a document too short."""
    text = document[:READ].strip()
    ends = [match.span() for match in END.finditer(text)] or [match.span() for match in regex.finditer(r"\s+", text)]
    least, most = SENTENCE
    places = [(end, begin) for end, begin in ends if end >= least and len(text) - begin >= least]
    if not places:
        return None
    end, begin = min(places, key=lambda place: (abs(place[0] - len(text) // 2), place))
    end, begin = len(text[:end].rstrip()), len(text) - len(text[begin:].lstrip())  # all of the space between them
    starts = [0, *(after for _, after in ends)] if end <= CONTEXT else [after for _, after in ends]
    first = min((start for start in starts if end - CONTEXT <= start < end), default=max(0, end - CONTEXT))
    last = min((place for place, _ in ends if place >= begin + least), default=len(text))
    context, sentence = text[first:end].strip(), text[begin : min(last, begin + most)].strip()
    return (context, text[end:begin], sentence) if context and sentence else None
