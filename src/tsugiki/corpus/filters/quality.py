"""The filter `quality`: rules over the text of one document, by numbers that say what web text is bad.

The preset `swallow-v1` has the rules and thresholds with which Swallow Corpus Version 1 was made of Common Crawl
(Okazaki et al., 2024, arXiv 2404.17733; swallow-llm/swallow-corpus, `quality.py`). What the published rules mean:

- letters of Japanese are hiragana (U+3041 to 3096), katakana (U+30A1 to 30FA, so without the long-vowel mark), kanji,
  and the marks 、， and 。．！？; shares of hiragana and katakana are of these, that of Japanese is of all characters;
- a sentence is what stands between 。．！？!? and line ends, with the one mark that ends it; a paragraph is a line;
- a duplicate is every occurrence after the first; shares are of their number and of their characters;
- the most frequent n-gram of characters (n = 2, 3, 4), as a share of all n-grams; and for n = 5 to 10 the n-grams that
  occur more than once, as a share of the different ones.

Here lines and sentences of white space alone do not count: blank lines between paragraphs would be duplicates of each
other. Kanji beyond U+FFFF count, which the published pattern means to count and misses. The published rules on words
and on hosts need lists that are not public.

N-grams are counted by sorting their hashes of 64 bits, and not at all where a shorter one shows that the rule is kept.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.filters.codepoints import classes, codes_of
from tsugiki.corpus.filters.signatures import ngrams

SENTENCE = re.compile(r"[^。．！？!?\n]+[。．！？!?]?")
ELLIPSES = ("・", "…")
NGRAMS = re.compile(r"(top|duplicate)_(\d+)grams?")


@dataclass(frozen=True)
class Quality:
    """Thresholds by rule, in the order in which they are tried: what is cheap first. None: not asked for."""

    min_characters: int | None = None
    min_japanese_characters: int | None = None
    min_japanese: float | None = None
    min_hiragana: float | None = None
    max_katakana: float | None = None
    min_mean_sentence: float | None = None
    max_mean_sentence: float | None = None
    max_sentence: int | None = None
    max_ellipses: float | None = None
    max_duplicate_paragraphs: float | None = None
    max_duplicate_paragraph_characters: float | None = None
    max_duplicate_sentences: float | None = None
    max_duplicate_sentence_characters: float | None = None
    max_top_2gram: float | None = None
    max_top_3gram: float | None = None
    max_top_4gram: float | None = None
    max_duplicate_5grams: float | None = None
    max_duplicate_6grams: float | None = None
    max_duplicate_7grams: float | None = None
    max_duplicate_8grams: float | None = None
    max_duplicate_9grams: float | None = None
    max_duplicate_10grams: float | None = None

    def failures(self, text: str) -> Iterator[str]:
        """The rules that a document breaks, one after another: whoever takes the first alone pays for no other."""
        figures = Figures(text)
        for rule, threshold in asdict(self).items():
            if threshold is None:
                continue
            least, name = rule.startswith("min_"), rule[4:]
            if not least and figures.ceiling(name) <= threshold:
                continue
            value = figures.value(name)
            if value < threshold if least else value > threshold:
                yield rule

    def failed(self, text: str) -> str | None:
        """The first rule that a document breaks, if any."""
        return next(self.failures(text), None)


SWALLOW_V1 = Quality(
    min_characters=400, min_japanese_characters=400, min_japanese=0.5, min_hiragana=0.2, max_katakana=0.5,
    min_mean_sentence=20, max_mean_sentence=90, max_sentence=200, max_ellipses=0.2, max_duplicate_paragraphs=0.30,
    max_duplicate_paragraph_characters=0.20, max_duplicate_sentences=0.30, max_duplicate_sentence_characters=0.20,
    max_top_2gram=0.20, max_top_3gram=0.18, max_top_4gram=0.16, max_duplicate_5grams=0.15, max_duplicate_6grams=0.14,
    max_duplicate_7grams=0.13, max_duplicate_8grams=0.12, max_duplicate_9grams=0.11, max_duplicate_10grams=0.10,
)  # fmt: skip

PRESETS = {"swallow-v1": SWALLOW_V1}
RULES = tuple(field.name for field in fields(Quality))


class Figures:
    """What the rules compare, each computed when it is first asked for."""

    def __init__(self, text: str):
        self.text = text

    def value(self, name: str) -> float:
        """The figure that `min_NAME` or `max_NAME` compares."""
        if match := NGRAMS.fullmatch(name):
            return (self._ngrams.top if match[1] == "top" else self._ngrams.repeated)(int(match[2]))
        value: float = getattr(self, name)
        return value

    def ceiling(self, name: str) -> float:
        """What the figure cannot exceed, as far as is known without counting."""
        if match := NGRAMS.fullmatch(name):
            return (self._ngrams.most_top if match[1] == "top" else self._ngrams.most_repeated)(int(match[2]))
        return math.inf

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """The code points of the text."""
        return codes_of(self.text)

    @cached_property
    def _letters(self) -> list[int]:
        """How many characters are (nothing of these, hiragana, katakana, kanji, a mark)."""
        return np.bincount(_japanese()[self.codes], minlength=5).tolist()

    @property
    def characters(self) -> int:
        """Of the whole text."""
        return len(self.text)

    @property
    def japanese_characters(self) -> int:
        """Kana, kanji and marks."""
        return sum(self._letters[1:])

    @property
    def japanese(self) -> float:
        """Japanese characters, of all."""
        return share(self.japanese_characters, len(self.text))

    @property
    def hiragana(self) -> float:
        """Hiragana, of the Japanese characters."""
        return share(self._letters[1], self.japanese_characters)

    @property
    def katakana(self) -> float:
        """Katakana, of the Japanese characters."""
        return share(self._letters[2], self.japanese_characters)

    @cached_property
    def _lines(self) -> list[list[str]]:
        """Of each line the sentences."""
        lines = [[part for part in SENTENCE.findall(line) if not part.isspace()] for line in self.text.split("\n")]
        return [line for line in lines if line]

    @cached_property
    def _sentences(self) -> list[str]:
        return [sentence for line in self._lines for sentence in line]

    @cached_property
    def mean_sentence(self) -> float:
        """Characters of a sentence."""
        return share(sum(map(len, self._sentences)), len(self._sentences))

    @property
    def sentence(self) -> int:
        """Characters of the longest sentence."""
        return max(map(len, self._sentences), default=0)

    @property
    def ellipses(self) -> float:
        """Sentences that end with … or ・, of all."""
        return share(sum(one.strip().endswith(ELLIPSES) for one in self._sentences), len(self._sentences))

    @cached_property
    def _duplicate_paragraphs(self) -> tuple[float, float]:
        return _duplicates(["".join(line) for line in self._lines])

    @cached_property
    def _duplicate_sentences(self) -> tuple[float, float]:
        return _duplicates(self._sentences)

    @property
    def duplicate_paragraphs(self) -> float:
        """Paragraphs that stand before, of all."""
        return self._duplicate_paragraphs[0]

    @property
    def duplicate_paragraph_characters(self) -> float:
        """Their characters, of all in paragraphs."""
        return self._duplicate_paragraphs[1]

    @property
    def duplicate_sentences(self) -> float:
        """Sentences that stand before, of all."""
        return self._duplicate_sentences[0]

    @property
    def duplicate_sentence_characters(self) -> float:
        """Their characters, of all in sentences."""
        return self._duplicate_sentences[1]

    @cached_property
    def _ngrams(self) -> "Ngrams":
        return Ngrams(self.codes)


class Ngrams:
    """The n-grams of a text: those of one length are counted when they are first asked for."""

    def __init__(self, codes: NDArray[np.uint32]):
        self._codes = codes
        self._counts: dict[int, tuple[int, int, int, int]] = {}

    def top(self, n: int) -> float:
        """Occurrences of the most frequent n-gram, of all occurrences."""
        return share(self._count(n)[0], self._total(n))

    def repeated(self, n: int) -> float:
        """N-grams that occur more than once, of the different ones."""
        _, again, _, different = self._count(n)
        return share(again, different)

    def most_top(self, n: int) -> float:
        """What `top` cannot exceed, by a shorter n-gram: a longer one is no more frequent."""
        known = [count[0] for length, count in self._counts.items() if length <= n]
        return share(min(known), self._total(n)) if known else math.inf

    def most_repeated(self, n: int) -> float:
        """What `repeated` cannot exceed, by a shorter n-gram: a longer one that occurs again begins with one that does,
        and takes two places or more."""
        known = [count[2] for length, count in self._counts.items() if length <= n]
        if not known:
            return math.inf
        pairs, total = min(known) / 2, self._total(n)
        return pairs / (total - pairs) if total > pairs else math.inf

    def _total(self, n: int) -> int:
        return max(0, len(self._codes) - n + 1)

    def _count(self, n: int) -> tuple[int, int, int, int]:
        """Of the n-grams: how often the most frequent occurs, how many occur again, how many places these take, and
        how many there are."""
        if n not in self._counts:
            hashes = np.sort(ngrams(self._codes, n)) if self._total(n) else np.zeros(0, np.uint64)
            starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])) if len(hashes) else hashes
            counts = np.diff(np.append(starts, len(hashes)).astype(np.int64))
            again = counts[counts > 1]
            most = int(counts.max(initial=0))
            self._counts[n] = (most, len(again), int(again.sum()), len(counts))
        return self._counts[n]


def _duplicates(items: Sequence[str]) -> tuple[float, float]:
    """Items that are equal to one before: their share by number, and by characters."""
    again = [(item, count - 1) for item, count in Counter(items).items()]
    total = sum(map(len, items))
    return share(sum(count for _, count in again), len(items)), share(sum(len(i) * count for i, count in again), total)


def share(part: float, whole: float) -> float:
    """0 of nothing."""
    return part / whole if whole > 0 else 0.0


@cache
def _japanese() -> NDArray[np.uint8]:
    """1 hiragana, 2 katakana, 3 kanji, 4 mark."""
    marks = [ord(mark) for mark in "、，。．！？"]
    kanji = [ord(mark) for mark in "々〇〻"]
    return classes(
        lambda codes: (codes >= 0x3041) & (codes <= 0x3096),
        lambda codes: (codes >= 0x30A1) & (codes <= 0x30FA),
        lambda codes: (
            np.isin(codes, kanji)
            | ((codes >= 0x3400) & (codes <= 0x9FFF))
            | ((codes >= 0xF900) & (codes <= 0xFAFF))
            | ((codes >= 0x20000) & (codes <= 0x2FFFF))
        ),
        lambda codes: np.isin(codes, marks),
    )
