"""Cloze: the true end of a sentence against three plausible ones of the same kind, in English and Japanese.

The sentences (cloze_en.txt, cloze_ja.txt) were written for this project and stand in none of its training text. A third
of them asks for grammar (agreement, tense, particles, counters), a third for the word that fits, a third for things
that everybody knows, in the order in which a model learns them.
"""

from pathlib import Path
from random import Random

from tsugiki.evaluation.probes.items import Probe, ProbeItem, shuffled

VERSION = 1
SEPARATORS = {"en": " ", "ja": ""}
"""What stands between words: it belongs to the continuation."""


def cloze(language: str) -> Probe:
    """The sentences of one language of SEPARATORS."""
    items: list[ProbeItem] = []
    lines = Path(__file__).with_name(f"cloze_{language}.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("#"):
            continue
        kind, context, *ends = line.split(" | ")
        truth, *others = (SEPARATORS[language] + end for end in ends)
        number = f"{kind}-{len(items) + 1:03}"
        items.append(shuffled(number, context, truth, others, Random(f"cloze/{language}/{number}")))
    return Probe(f"cloze_{language}", f"cloze {language}", language, VERSION, tuple(items))
