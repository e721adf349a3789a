"""ROUGE-2 is rouge-score's on the same tokens."""

import random
from types import SimpleNamespace

import pytest

from tsugiki.evaluation.metrics.rouge import rouge2
from tsugiki.evaluation.metrics.words import words


@pytest.mark.parametrize("alphabet", ["ab", "東京都は大阪", ["▁the", "▁cat", "<0xE3>", "の", "##s"]])
def test_rouge2_equals_rouge_score_on_the_same_tokens(alphabet):
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="the extra eval")
    scorer = rouge_scorer.RougeScorer(["rouge2"], tokenizer=SimpleNamespace(tokenize=str.split))
    rng = random.Random(2)
    partial = 0
    for _ in range(500):
        prediction, reference = ([rng.choice(alphabet) for _ in range(rng.randrange(0, 12))] for _ in range(2))
        expected = scorer.score(" ".join(reference), " ".join(prediction))["rouge2"].fmeasure
        assert rouge2(prediction, reference) == pytest.approx(expected, abs=1e-12)
        partial += 0 < expected < 1
    assert partial > 100


def test_rouge2_of_japanese_words_and_characters():
    pytest.importorskip("fugashi", reason="the extra eval")
    # 国境 の 長い トンネル を 抜ける と 雪国 / 長い トンネル を 抜ける: 3 bigrams of 7 and of 3
    prediction, reference = "長いトンネルを抜ける", "国境の長いトンネルを抜けると雪国"
    assert rouge2(*map(words("mecab").split, (prediction, reference))) == pytest.approx(2 * 3 / (7 + 3))
    # 9 bigrams of 9 and of 15
    assert rouge2(*map(words("character").split, (prediction, reference))) == pytest.approx(2 * 9 / (9 + 15))


@pytest.mark.parametrize(("prediction", "reference"), [([], []), ([], [1, 2]), ([1], [1]), ([1, 2], [2, 1])])
def test_nothing_in_common_is_worth_nothing(prediction, reference):
    assert rouge2(prediction, reference) == 0


def test_token_numbers_are_tokens_too():
    assert rouge2([5, 6, 7], [5, 6, 7]) == 1
