"""Exact match and F1 of short answers: SQuAD's over English words, and a counterpart over Japanese characters.

The English pair follows SQuAD 2.0's official evaluation script: lower case, no ASCII punctuation, no articles, single
spaces; a question without answer has the empty string as its answer; the best of all answers counts. The Japanese pair
has no published original: NFKC, lower case, no punctuation, no spaces, and F1 over the multiset of characters. Neither
depends on a model's tokenizer.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DECIMAL_POINT = re.compile(r"(?<=[0-9])\.(?=[0-9])")
_KEPT_POINT = "\ue000"  # stands for a decimal point while punctuation leaves: 3.5 is not 35


def squad_exact(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction equals one of the answers after SQuAD's normalisation, else 0. No answers: the empty one."""
    return _best(_equal, _english_words(prediction), [_english_words(answer) for answer in answers])


def squad_f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 over the words in common with the nearest answer, 0..1. No answers: 1 for an empty prediction, else 0."""
    return _best(_f1, _english_words(prediction), [_english_words(answer) for answer in answers])


def japanese_exact(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction equals one of the answers but for width, case, punctuation and spaces, else 0."""
    return _best(_equal, _japanese_characters(prediction), [_japanese_characters(answer) for answer in answers])


def character_f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 over the characters in common (their order aside) with the nearest answer, 0..1."""
    return _best(_f1, _japanese_characters(prediction), [_japanese_characters(answer) for answer in answers])


def _best(score: Callable[[list[str], list[str]], float], prediction: list[str], answers: Sequence[list[str]]) -> float:
    """The highest score over the answers of which something remains, or against nothing where none does."""
    return max(score(prediction, answer) for answer in [answer for answer in answers if answer] or [[]])


def _equal(prediction: list[str], answer: list[str]) -> float:
    return float(prediction == answer)


def _f1(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return _equal(prediction, answer)
    return 2 * (Counter(prediction) & Counter(answer)).total() / (len(prediction) + len(answer))


def _english_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_ASCII_PUNCTUATION)).split()


def _japanese_characters(text: str) -> list[str]:
    """Characters without those of Unicode's categories P (punctuation), Z (separators) and C (control)."""
    text = _DECIMAL_POINT.sub(_KEPT_POINT, unicodedata.normalize("NFKC", text).lower())
    return [c for c in text if c == _KEPT_POINT or unicodedata.category(c)[0] not in "PZC"]
