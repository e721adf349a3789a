"""BLEU put together from items is sacrebleu's on the whole corpus, and it says what it depends on."""

import random
import sys

import numpy as np
import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.metrics import bleu
from tsugiki.evaluation.metrics.bleu import bleu_signature, bleu_statistics, chrf
from tsugiki.evaluation.metrics.words import words
from tsugiki.evaluation.tasks.scoring import bleu_score
from tsugiki.score_combinations import bleu as combined

sacrebleu = pytest.importorskip("sacrebleu", reason="the extra eval")

ENGLISH = [
    ("The cat sat on the mat.", "The cat sat on a mat."),
    ("It costs $1,000.50, he said &quot;yes&quot;.", 'It costs $1,000.50, he said "yes".'),
    ("", "An empty output."),
    ("U.S. shares fell 2.5 % .", "US shares fell 2.5%."),
    ("a b", "a b"),
    ("word   with \t spaces\n", "word with spaces"),
]
JAPANESE = [
    ("国境の長いトンネルを抜けると雪国だった。", "国境の長いトンネルを抜けると雪国であった。"),
    ("ＧＤＰは２．５％増加した。", "GDPは2.5%増えた。"),
    ("", "空の出力。"),
    ("東京 と 大阪", "東京と大阪"),
    ("猫", "猫"),
    ("首相は「経済が大事だ」と述べた。", "首相は「経済が重要である」と語った。"),
]


def whole(pairs, tokenize):
    predictions, references = zip(*pairs, strict=True)
    return sacrebleu.corpus_bleu(list(predictions), [list(references)], tokenize=tokenize).score / 100


def from_items(pairs, tokenize):
    """By our sums, as results do it, and by the aggregation that task files name for lm-eval's own."""
    statistics = [bleu_statistics(*pair, tokenize) for pair in pairs]
    found = combined(np.sum(statistics, axis=0), len(statistics))
    assert bleu_score(statistics) == found
    return found


def joined(pairs, split):
    return [tuple(" ".join(split(text)) for text in pair) for pair in pairs]


@pytest.mark.parametrize("tokenize", ["13a", "char", "intl", "none"])
@pytest.mark.parametrize("pairs", [ENGLISH, JAPANESE], ids=["en", "ja"])
def test_items_add_up_to_the_whole_corpus(pairs, tokenize):
    rng = random.Random(1)
    assert from_items(pairs, tokenize) == pytest.approx(whole(pairs, tokenize), abs=1e-12)
    for _ in range(30):
        some = rng.choices(pairs, k=rng.randrange(1, 8))
        assert from_items(some, tokenize) == pytest.approx(whole(some, tokenize), abs=1e-12)


def test_the_published_japanese_bleu_is_13a_over_the_words_of_nagisa():
    nagisa = pytest.importorskip("nagisa", reason="the extra eval")
    pairs = joined(JAPANESE, lambda text: nagisa.tagging(text.strip()).words)
    assert from_items(JAPANESE, "nagisa") == pytest.approx(whole(pairs, "13a"), abs=1e-12)
    assert 0.3 < whole(pairs, "13a") < 0.9
    assert whole(pairs, "13a") != pytest.approx(whole(JAPANESE, "13a"), abs=0.05)  # sentences are no words


def test_our_japanese_bleu_is_over_the_words_of_mecab():
    pytest.importorskip("fugashi", reason="the extra eval")
    pairs = joined(JAPANESE, words("mecab").split)
    assert from_items(JAPANESE, "mecab") == pytest.approx(whole(pairs, "none"), abs=1e-12)


def test_ja_mecab_is_sacrebleus():
    pytest.importorskip("ipadic", reason="sacrebleu[ja]")
    assert from_items(JAPANESE, "ja-mecab") == pytest.approx(whole(JAPANESE, "ja-mecab"), abs=1e-12)


def test_scores_of_many_resamples_at_once_equal_those_one_by_one():
    rng = np.random.default_rng(0)
    totals = rng.integers(0, 9, size=(200, 1)) - np.arange(4)
    totals = np.maximum(totals, 0) * (rng.random((200, 1)) < 0.9)
    matches = np.minimum(totals, rng.integers(0, 5, size=(200, 4)))
    lengths = np.stack([totals[:, 0], rng.integers(0, 12, 200)], axis=1)
    sums = np.concatenate([lengths, matches, totals], axis=1)
    expected = [
        sacrebleu.metrics.BLEU.compute_bleu(list(row[2:6]), list(row[6:10]), row[0], row[1], smooth_method="exp").score
        / 100
        for row in sums.tolist()
    ]
    assert combined(sums, 1) == pytest.approx(expected, abs=1e-12)
    assert combined(sums.reshape(4, 50, 10), 1) == pytest.approx(np.reshape(expected, (4, 50)), abs=1e-12)
    assert 20 < np.count_nonzero(expected) < 180


def test_perfect_outputs_score_one_and_empty_ones_nothing():
    assert from_items([(reference, reference) for _, reference in ENGLISH], "13a") == pytest.approx(1)
    assert from_items([("", reference) for _, reference in ENGLISH], "13a") == 0
    assert from_items([("", "")], "13a") == 0


def test_the_signature_is_sacrebleus_and_names_our_words():
    metric = sacrebleu.metrics.BLEU(tokenize="13a")
    metric.corpus_score(["a"], [["a"]])
    assert bleu_signature("13a") == str(metric.get_signature())
    pytest.importorskip("nagisa", reason="the extra eval")
    assert f"|tok:{words('nagisa').signature}+13a|" in bleu_signature("nagisa")
    assert f"|tok:{words('mecab').signature}+none|" in bleu_signature("mecab")


def test_unknown_and_missing_tokenizers_are_named(monkeypatch):
    bleu._metric.cache_clear()
    with pytest.raises(RecipeError, match="no tokenizer 'juman'"):
        bleu_statistics("a", "a", "juman")
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None, raising=False)
    with pytest.raises(RecipeError, match=r"ja-mecab needs: pip install 'sacrebleu\[ja\]'"):
        bleu_statistics("a", "a", "ja-mecab")
    bleu._metric.cache_clear()
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(RecipeError, match=r"tsugiki\[eval\]"):
        bleu_statistics("a", "a", "13a")
    bleu._metric.cache_clear()


def test_chrf_of_a_sentence_by_hand():
    """One character of three is wrong: 1-grams 2 of 3, 2-grams 1 of 2, 3-grams 0 of 1; precision equals recall."""
    assert chrf("abx", "abc") == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert chrf("東 京", "東京") == 1
    assert chrf("", "東京") == 0
