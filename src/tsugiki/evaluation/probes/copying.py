"""Copying: a row of words or letters is given, then its beginning again; what comes next?

The alternatives are other members of the same row, so that knowing which words are frequent, or which occurred just
now, does not help: only finding the place where the row was copied does. It is the first thing that attention learns.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from random import Random

import regex
import xxhash

from tsugiki.evaluation.probes.items import Probe, ProbeItem, shuffled

VERSION = 1
ITEMS = 120
LENGTHS = (4, 6, 8)
ENGLISH = """
apple bridge candle desk engine forest garden hammer island jacket kitchen ladder market needle orange pencil
question river stone table uncle village window yellow animal butter corner doctor evening finger glass house
"""
WORDS = {
    "en": ENGLISH.split(),
    "ja": list("山川空海森花犬猫鳥魚本机紙町村駅橋道車船手足目耳朝夜春秋雨雪風石"),
}
LETTERS = {
    "en": list("abcdefghijklmnopqrstuvwxyz"),
    "ja": list("あいうえおかきくけこさしすせそたちつてとなにぬねのまみむめも"),
}
LEAST_WORDS = 2 * max(LENGTHS)


def copying(language: str) -> Probe:
    """Rows of words and of letters, half and half, of a language of WORDS."""
    return rows(language, language, WORDS[language], LETTERS[language], ends="、" if language == "ja" else "")


def copying_from(name: str, language: str, documents: Iterable[str]) -> Probe | None:
    """The same for any language, its words and letters taken from documents (every one counts alike, in an order that
    is that of a hash); None where they have too few."""
    text = " ".join(documents)
    words = _chosen(word for word in regex.findall(r"[\p{L}\p{M}]+", text) if 2 <= len(word) <= 8)
    letters = _chosen(letter for letter in text if unicodedata.category(letter) in ("Ll", "Lo"))
    # Where no spaces divide words, as in Chinese or Thai, hardly a clause is so short: letters alone are left.
    pool = [part for part in (words, letters) if len(part) >= LEAST_WORDS]
    return rows(name, language, pool[0], pool[-1], ends="") if pool else None


def _chosen(parts: Iterable[str]) -> list[str]:
    """Different ones, as the hash of each says: the same whatever order they come in."""
    return sorted(set(parts), key=lambda part: xxhash.xxh3_64_intdigest(part.encode()))[:32]


def rows(name: str, language: str, words: Sequence[str], letters: Sequence[str], *, ends: str) -> Probe:
    """ITEMS rows, of words and letters by turns. A member ends in `ends`; where that is empty a space begins it."""
    items: list[ProbeItem] = []
    for number in range(ITEMS):
        random = Random(f"copying/{name}/{number}")
        length = LENGTHS[number // 2 % len(LENGTHS)]
        row = random.sample(words if number % 2 == 0 else letters, length)
        shown = [part + ends if ends else f" {part}" for part in row]
        place = random.randrange(1, length)
        context = "".join(shown).lstrip() + "\n" + "".join(shown[:place]).lstrip()
        others = random.sample([part for part in shown if part != shown[place]], 3)
        items.append(shuffled(f"{number + 1:03}", context, shown[place], others, random))
    return Probe(f"copying_{name}", f"copying {name}", language, VERSION, tuple(items))
