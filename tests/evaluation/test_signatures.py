"""A score over words carries the signature of how they were found, in the header of its result."""

from importlib.metadata import version

import pytest

pytest.importorskip("lm_eval")
from sacrebleu.metrics import BLEU

from tsugiki.evaluation.harness import Harness
from tsugiki.evaluation.metrics.words import words

MECAB = f"mecab-unidic-lite-{version('unidic-lite')}-nfkc"


@pytest.mark.parametrize(
    ("profile", "name", "signed", "own", "then"),
    [
        ("default", "tsugiki_wmt20_en_ja", f"{MECAB}+none", "mecab", "none"),
        ("swallow", "swallow_wmt20_en_ja", f"nagisa-{version('nagisa')}+13a", "nagisa", "13a"),
        ("default", "tsugiki_wmt20_ja_en", "13a", None, "13a"),
        ("swallow", "swallow_wmt20_ja_en", "13a", None, "13a"),
    ],
)
def test_bleu_is_signed_by_the_words_that_it_counts(profile, name, signed, own, then, official_data):
    harness = Harness(profile, official_data, own=None, shots=None)
    task = harness.load(name)
    assert f"|tok:{signed}|smooth:exp|version:{version('sacrebleu')}" in harness.facts(task)["signature"]
    item = task.eval_docs[0]
    text = item["reference"]
    counted = " ".join(words(own).split(text)) if own else text
    length = BLEU(tokenize=then).corpus_score([counted], [[counted]]).sys_len
    assert task.config.process_results(item, [text])["bleu"][:2] == [length, length]


def test_rouge_is_signed_by_the_words_that_it_counts(official_data):
    harness = Harness("default", official_data, own=None, shots=None)
    assert harness.facts(harness.load("tsugiki_xlsum_ja"))["signature"] == MECAB


def test_what_counts_no_words_has_no_signature(official_data):
    harness = Harness("default", official_data, own=None, shots=None)
    assert "signature" not in harness.facts(harness.load("tsugiki_gsm8k"))
