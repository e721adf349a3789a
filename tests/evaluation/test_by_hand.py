"""Scores and intervals of real texts beside the plainest computation of each: loops, lists, the standard library.

The texts are real (JSQuAD's paragraphs, WMT's references), the answers parts of them, so that scores lie between 0
and 1.
"""

import math
import random
import unicodedata
from statistics import NormalDist

import numpy as np
import pytest

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.data import load_set
from tsugiki.evaluation.harness import _model_rouge
from tsugiki.evaluation.tasks import scoring
from tsugiki.score_combinations import COMBINATIONS
from tsugiki.statistics import Sample, difference_interval, score_interval

ITEMS = 60
STUDENT = 2.0010
"""The quantile of 59 degrees of freedom at 97.5 %, from a printed table."""
RESAMPLES = 2000
NEAR = 0.06
"""Of an interval's width: how far apart two bootstraps of as many resamples may put a limit. (The standard error of a
2.5 % quantile is 1.5 % of the width, of the difference of two 2.1 %.)"""


@pytest.fixture(scope="module")
def summaries(evaldata):
    """Pairs of a summary and what a model might have written: a paragraph, and its sentences but some, cut off."""
    rng = random.Random(3)
    pairs = []
    paragraphs = list(
        dict.fromkeys(item["context"].split("[SEP]")[-1].strip() for item in load_set("jsquad", evaldata).test)
    )
    for paragraph in rng.sample(paragraphs, ITEMS):
        sentences = [sentence for sentence in paragraph.split("。") if rng.random() < 0.7]
        pairs.append((paragraph, "。".join(sentences)[: rng.randrange(10, 200)]))
    return pairs


@pytest.fixture(scope="module")
def translations(evaldata):
    """References of English news, and two answers to each that lack words of it."""
    rng = random.Random(4)
    references = [item["reference"] for item in load_set("wmt20_ja_en", evaldata).test][:ITEMS]

    def without(share):
        return [" ".join(word for word in text.split() if rng.random() > share) for text in references]

    return references, without(0.2), without(0.3)


def bigrams_in_common(one, other):
    """Each of `other` is taken once."""
    left = [(other[i], other[i + 1]) for i in range(len(other) - 1)]
    count = 0
    for i in range(len(one) - 1):
        if (one[i], one[i + 1]) in left:
            left.remove((one[i], one[i + 1]))
            count += 1
    return count


def rouge2_f(prediction, reference):
    """The harmonic mean of precision and recall."""
    common = bigrams_in_common(prediction, reference)
    if not common:
        return 0.0
    precision, recall = common / (len(prediction) - 1), common / (len(reference) - 1)
    return 2 * precision * recall / (precision + recall)


def test_rouge2_of_words_and_characters(summaries):
    unidic = pytest.importorskip("unidic_lite", reason="the extra eval").DICDIR
    tagger = pytest.importorskip("fugashi").Tagger(f'-d "{unidic}" -r "{unidic}/mecabrc"')
    middle = 0
    for summary, written in summaries:
        found = scoring.xlsum_ja({"summary": summary}, [f" {written}\n"])
        texts = [unicodedata.normalize("NFKC", text) for text in (written, summary)]
        words = [[node.surface for node in tagger(text)] for text in texts]
        characters = [[letter for letter in text if not letter.isspace()] for text in texts]
        assert found["rouge2"] == pytest.approx(rouge2_f(*words), abs=1e-12)
        assert found["rouge2_characters"] == pytest.approx(rouge2_f(*characters), abs=1e-12)
        middle += 0.1 < found["rouge2"] < 0.9
    assert middle > ITEMS / 2


def test_rouge2_of_the_models_own_tokens(summaries, tiny_tokenizer_folder):
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    task = SimpleNamespace(config=SimpleNamespace(process_results=scoring.xlsum_ja))
    tokenizer = TextTokenizer.from_folder(tiny_tokenizer_folder)
    for summary, written in summaries:
        sample = {"doc": {"summary": summary}, "resps": [[written]], "metrics": []}
        found = _model_rouge(task, sample, tokenizer)["rouge2_model_tokens"]
        assert found == pytest.approx(
            rouge2_f(*(ids.encode(text, add_special_tokens=False) for text in (written, summary)))
        )


def limits_by_hand(score, items):
    """The percentiles of `score` over lists of items drawn with replacement, moved out for small samples."""
    rng = random.Random(5)
    scores = sorted(score([rng.choice(items) for _ in items]) for _ in range(RESAMPLES))
    tail = NormalDist().cdf(-math.sqrt(len(items) / (len(items) - 1)) * STUDENT)
    return scores[round(tail * RESAMPLES)], scores[round((1 - tail) * RESAMPLES) - 1]


def assert_near(found, limits):
    reach = NEAR * (limits[1] - limits[0])
    assert (found.low, found.high) == pytest.approx(limits, abs=reach)
    assert limits[0] < found.estimate < limits[1]


def mean(numbers):
    return sum(numbers) / len(numbers)


def test_the_interval_of_rouge2(summaries):
    scores = [rouge2_f(list(written), list(summary)) for summary, written in summaries]
    found = score_interval(Sample(np.array(scores)[:, None]))
    assert found.estimate == pytest.approx(mean(scores))
    assert_near(found, limits_by_hand(mean, scores))


def test_the_interval_of_a_paired_difference_of_rouge2(summaries):
    pairs = [
        (rouge2_f(list(written), list(summary)), rouge2_f(list(written[:60]), list(summary)))
        for summary, written in summaries
    ]
    system, baseline = np.array(pairs).T[:, :, None]
    assert_near(difference_interval(Sample(system), Sample(baseline)), limits_by_hand(mean, [a - b for a, b in pairs]))


def bleu_by_hand(counted):
    """Papineni's, of (prediction, reference) pairs of words: no smoothing, for there are matches of every order."""
    lengths = [sum(len(words[side]) for words in counted) for side in (0, 1)]
    precisions = []
    for order in range(1, 5):
        matches = total = 0
        for prediction, reference in counted:
            left = [tuple(reference[i : i + order]) for i in range(len(reference) - order + 1)]
            for i in range(len(prediction) - order + 1):
                total += 1
                if tuple(prediction[i : i + order]) in left:
                    left.remove(tuple(prediction[i : i + order]))
                    matches += 1
        precisions.append(matches / total)
    return min(1, math.exp(1 - lengths[1] / lengths[0])) * math.exp(mean([math.log(p) for p in precisions]))


def test_corpus_bleu_and_its_intervals(translations):
    tokenize = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a", reason="the extra eval").Tokenizer13a()
    references, *answers = translations
    rows, counted = [], []
    for written in answers:
        pairs = [(answer, reference) for answer, reference in zip(written, references, strict=True)]
        rows.append(np.array([scoring.published_wmt20_ja_en({"reference": r}, [w])["bleu"] for w, r in pairs]))
        counted.append([(tokenize(w).split(), tokenize(r).split()) for w, r in pairs])
    one, other = (Sample(values, COMBINATIONS["bleu"]) for values in rows)
    assert one.score == pytest.approx(bleu_by_hand(counted[0]))
    assert other.score == pytest.approx(bleu_by_hand(counted[1]))
    # Sentences' counts once: what is resampled is sentences.
    sums = [[row.tolist() for row in values] for values in rows]

    def score(chosen):
        totals = [sum(column) for column in zip(*chosen, strict=True)]
        precisions = [matches / total for matches, total in zip(totals[2:6], totals[6:], strict=True)]
        return min(1, math.exp(1 - totals[1] / totals[0])) * math.exp(mean([math.log(p) for p in precisions]))

    assert score(sums[0]) == pytest.approx(one.score)
    assert_near(score_interval(one), limits_by_hand(score, sums[0]))
    paired = limits_by_hand(
        lambda chosen: score([a for a, _ in chosen]) - score([b for _, b in chosen]), list(zip(*sums, strict=True))
    )
    assert_near(difference_interval(one, other), paired)
