"""Corpus BLEU by sacrebleu's counting, cut into what each item adds and what the sums are worth.

BLEU is a function of ten sums over the items, so a bootstrap needs only to add the statistics up again. The score is
sacrebleu's with exponential smoothing, over 100. Scores compare only under the same signature: on one and the same
Japanese text the way to find words moves BLEU by five points and more.

`tokenize` is a tokenizer of sacrebleu's ("13a", "char", "ja-mecab", which needs `pip install 'sacrebleu[ja]'`), or
"mecab", words of MeCab as `words.py` finds them, or "nagisa", the published Japanese BLEU: nagisa's words joined by
spaces, then 13a.
"""

from functools import cache
from typing import Any

from tsugiki.errors import RecipeError
from tsugiki.evaluation.extras import need
from tsugiki.evaluation.metrics.words import words

_OUR_WORDS = {"mecab": "none", "nagisa": "13a"}  # what sacrebleu still does with words that we have found


def bleu_statistics(prediction: str, reference: str, tokenize: str) -> list[float]:
    """What one item adds to the ten sums: length of the prediction and of the reference, matches of 1- to 4-grams, 1-
    to 4-grams of the prediction. Raises RecipeError where there is no such tokenizer."""
    score = _metric(tokenize).sentence_score(_prepared(prediction, tokenize), [_prepared(reference, tokenize)])
    return [float(n) for n in (score.sys_len, score.ref_len, *score.counts, *score.totals)]


def bleu_signature(tokenize: str) -> str:
    """What the score depends on, in sacrebleu's notation."""
    found = _metric(tokenize).tokenizer.signature()
    if tokenize in _OUR_WORDS:
        found = f"{words(tokenize).signature}+{found}"
    return f"nrefs:1|case:mixed|eff:no|tok:{found}|smooth:exp|version:{need('sacrebleu').__version__}"


def chrf(prediction: str, reference: str) -> float:
    """Sentence-level chrF2 by sacrebleu, 0..1. It needs no words: character n-grams up to 6, spaces left out."""
    return need("sacrebleu").sentence_chrf(prediction, [reference]).score / 100


def _prepared(text: str, tokenize: str) -> str:
    return " ".join(words(tokenize).split(text)) if tokenize in _OUR_WORDS else text


@cache
def _metric(tokenize: str) -> Any:
    """sacrebleu's counter. `effective_order` is for scores of single sentences: it changes no statistics."""
    try:
        return need("sacrebleu.metrics").BLEU(tokenize=_OUR_WORDS.get(tokenize, tokenize), effective_order=True)
    except KeyError:
        raise RecipeError(
            f"BLEU has no tokenizer {tokenize!r}: 13a, char, mecab, nagisa and ja-mecab are some"
        ) from None
    except RuntimeError:  # sacrebleu's word for a missing dictionary
        raise RecipeError(f"BLEU with {tokenize} needs: pip install 'sacrebleu[ja]' (or use mecab)") from None
