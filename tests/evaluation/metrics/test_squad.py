"""Short answers: the official rules of SQuAD 2.0, and F1 over characters, against renderings of their own."""

import random
import re
import string
import unicodedata

import pytest

from tsugiki.evaluation.metrics.squad import character_f1, japanese_exact, squad_exact, squad_f1


def words(text: str) -> list[str]:
    """The four steps of the official script, one after another, character by character."""
    kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return [word for word in re.split(r"\s+", re.sub(r"\b(?:an?|the)\b", " ", kept)) if word]


def f1_by_precision_and_recall(prediction: list[str], answer: list[str]) -> float:
    rest = list(answer)
    common = 0
    for part in prediction:
        if part in rest:
            rest.remove(part)
            common += 1
    if not prediction or not answer:
        return float(prediction == answer)
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(answer)
    return 2 * precision * recall / (precision + recall)


def random_english(rng: random.Random) -> str:
    stock = ["the", "The", "a", "An", "an.", "cat", "Cat!", "theory", "U.S.", "1,000", "-", "''", "dog's", "\n", "a-b"]
    return "".join(rng.choice(stock) + rng.choice([" ", "  ", ""]) for _ in range(rng.randrange(0, 7)))


def test_english_scores_equal_an_independent_rendering_of_the_official_rules():
    rng = random.Random(3)
    partial = 0
    for _ in range(3000):
        prediction, answers = random_english(rng), [random_english(rng) for _ in range(rng.randrange(0, 4))]
        golds = [words(answer) for answer in answers if words(answer)] or [[]]
        assert squad_exact(prediction, answers) == max(float(words(prediction) == gold) for gold in golds)
        expected = max(f1_by_precision_and_recall(words(prediction), gold) for gold in golds)
        assert squad_f1(prediction, answers) == pytest.approx(expected, abs=1e-12)
        partial += 0 < expected < 1
    assert partial > 300


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Cat.", ["cat"], 1, 1),
        (" in 1,066 ", ["1066"], 0, 2 / 3),
        ("theory", ["ory"], 0, 0),  # an article is a word, not a prefix
        ("", [], 1, 1),  # unanswerable, and nothing was said
        ("unanswerable", [], 0, 0),  # the official script knows no such word
        ("the", [], 1, 1),  # nothing remains
        ("", ["cat"], 0, 0),
        ("", ["the", "cat"], 0, 0),  # "the" is no answer at all, and leaves the list
        ("", ["the"], 1, 1),
        ("Denver Broncos won", ["Broncos", "Denver Broncos", "The Denver Broncos"], 0, 4 / 5),
        ("cat cat", ["cat"], 0, 2 / 3),  # a multiset
    ],
)
def test_english_cases(prediction, answers, exact, f1):
    assert squad_exact(prediction, answers) == exact
    assert squad_f1(prediction, answers) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("東京", ["東京"], 1, 1),
        ("東京都", ["東京"], 0, 4 / 5),
        ("京東", ["東京"], 0, 1),
        ("「東京」。", ["東京"], 1, 1),
        ("ジョン・レノン", ["ジョンレノン"], 1, 1),
        ("ジョン レノン", ["ジョン・レノン"], 1, 1),
        ("ｺｰﾋｰ", ["コーヒー"], 1, 1),
        ("コヒ", ["コーヒー"], 0, 2 / 3),  # the long vowel mark is a letter
        ("１８６８年", ["1868年"], 1, 1),
        ("1,000円", ["1000円"], 1, 1),
        ("3.5", ["35"], 0, 4 / 5),
        ("３．５", ["3.5"], 1, 1),
        ("NHK。", ["ｎｈｋ"], 1, 1),
        ("か\u3099", ["が"], 1, 1),
        ("大阪", ["東京", "大阪府"], 0, 4 / 5),
        ("", ["東京"], 0, 0),
        ("。", ["東京"], 0, 0),
        ("", [], 1, 1),
        ("東京", [], 0, 0),
        ("ABBA", ["AB"], 0, 2 / 3),
    ],
)
def test_japanese_cases(prediction, answers, exact, f1):
    assert japanese_exact(prediction, answers) == exact
    assert character_f1(prediction, answers) == pytest.approx(f1)


def test_character_f1_equals_an_independent_rendering():
    rng = random.Random(4)
    stock = "東京都大阪ＡAaｱア、。・「 \u3000\n12"

    def characters(text: str) -> list[str]:
        kept = [c for c in unicodedata.normalize("NFKC", text) if c.isalnum()]
        return [c.lower() for c in kept]

    def some() -> str:
        return "".join(rng.choice(stock) for _ in range(rng.randrange(0, 9)))

    for _ in range(2000):
        prediction, answers = some(), [some() for _ in range(rng.randrange(1, 4))]
        golds = [characters(answer) for answer in answers if characters(answer)] or [[]]
        expected = max(f1_by_precision_and_recall(characters(prediction), gold) for gold in golds)
        assert character_f1(prediction, answers) == pytest.approx(expected, abs=1e-12)
