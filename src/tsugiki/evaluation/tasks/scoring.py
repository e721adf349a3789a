"""How the output of a generation task is read and scored: what task files name as `process_results`.

Those called `published_…` repeat the published set-ups, faults included; the others belong to the default profile.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsugiki.evaluation import prompts
from tsugiki.evaluation.metrics.answers import (
    answer_or_nothing,
    number_answer,
    option_answer,
    short_answer,
    yes_or_no,
)
from tsugiki.evaluation.metrics.bleu import bleu_statistics, chrf
from tsugiki.evaluation.metrics.fuzzy import fuzzy_ratio
from tsugiki.evaluation.metrics.published_answers import (
    gsm8k_equal,
    gsm8k_strict_answer,
    llm_jp_eval_answer,
    mgsm_number,
    triviaqa_equal,
)
from tsugiki.evaluation.metrics.rouge import rouge2
from tsugiki.evaluation.metrics.squad import character_f1, japanese_exact, squad_exact, squad_f1
from tsugiki.evaluation.metrics.words import words
from tsugiki.score_combinations import bleu

Item = dict[str, Any]


@dataclass(frozen=True)
class Scoring:
    """Reads an answer from an output and compares it with the gold one. lm-eval calls it; records quote its parts."""

    answer: Callable[[str], Any]
    """Output → what counts as the answer (None: no answer could be read)."""
    gold: Callable[[Item], Any]
    """Item → what the answer is compared with."""
    metrics: Mapping[str, Callable[[Any, Any], Any]]
    """Name → value of (answer, gold)."""
    words: str | None = None
    """What ROUGE counts, see `metrics.words`."""

    def __call__(self, item: Item, outputs: list[str]) -> dict[str, Any]:
        """Metric → value for the one output of an item."""
        answer, gold = self.answer(outputs[0]), self.gold(item)
        return {name: value(answer, gold) for name, value in self.metrics.items()}


def _equal(answer: Any, gold: Any) -> float:
    return float(answer is not None and answer == gold)


def _as_it_is(output: str) -> str:
    return output


def bleu_score(statistics: list[list[float]]) -> float:
    """Corpus BLEU, 0..1, of what each item gave: the aggregation of task files, `metadata.combine: bleu`."""
    return float(bleu(np.sum(statistics, axis=0), len(statistics)))


def _bleu(tokenize: str) -> Callable[[str, str], list[float]]:
    return lambda answer, gold: bleu_statistics(answer, gold, tokenize)


def _rouge2(of: str) -> Callable[[str, str], float]:
    return lambda answer, gold: rouge2(words(of).split(answer), words(of).split(gold))


def _nfkc(gold: Callable[[Item], str]) -> Callable[[Item], str]:
    return lambda item: unicodedata.normalize("NFKC", gold(item))


# As published.

published_option = Scoring(llm_jp_eval_answer, prompts.label_as_text, {"exact_match": _equal})
published_jemhopqa = Scoring(llm_jp_eval_answer, _nfkc(prompts.answer), {"fuzzy_ratio": fuzzy_ratio})
published_niilc = Scoring(llm_jp_eval_answer, _nfkc(prompts.joined_answers), {"fuzzy_ratio": fuzzy_ratio})
published_jsquad = Scoring(llm_jp_eval_answer, _nfkc(prompts.first_answer), {"fuzzy_ratio": fuzzy_ratio})
published_mgsm = Scoring(mgsm_number, lambda item: int(item["answer"]), {"acc": _equal})
published_triviaqa = Scoring(
    str.strip, lambda item: item["aliases"], {"exact_match": lambda answer, gold: float(triviaqa_equal(answer, gold))}
)
published_wmt20_en_ja = Scoring(_as_it_is, prompts.reference, {"bleu": _bleu("nagisa")})
published_wmt20_ja_en = Scoring(_as_it_is, prompts.reference, {"bleu": _bleu("13a")})
published_squad2 = Scoring(_as_it_is, lambda item: item["answers"], {"exact": squad_exact, "f1": squad_f1})
published_gsm8k = Scoring(
    gsm8k_strict_answer, prompts.answer, {"exact_match": lambda answer, gold: float(gsm8k_equal(answer, gold))}
)

# Measured properly: every gold answer counts, in any width, and explanations after the first line do not.

_JAPANESE = {"char_f1": character_f1, "exact": japanese_exact}

option = Scoring(option_answer, prompts.label, {"acc": _equal})
jemhopqa = Scoring(lambda output: yes_or_no(output) or short_answer(output), lambda item: [item["answer"]], _JAPANESE)
# The instruction asks for all answers joined by commas, and the shots show that; one of them is right, too.
niilc = Scoring(short_answer, lambda item: [*item["answers"], prompts.joined_answers(item)], _JAPANESE)
jsquad = Scoring(short_answer, lambda item: item["answers"], _JAPANESE)
xlsum_ja = Scoring(
    str.strip, prompts.summary, {"rouge2": _rouge2("mecab"), "rouge2_characters": _rouge2("character")}, words="mecab"
)
wmt20_en_ja = Scoring(str.strip, prompts.reference, {"bleu": _bleu("mecab"), "chrf": chrf})
wmt20_ja_en = Scoring(str.strip, prompts.reference, {"bleu": _bleu("13a"), "chrf": chrf})
number = Scoring(number_answer, lambda item: number_answer(item["answer"]), {"acc": _equal})
triviaqa = Scoring(
    short_answer, lambda item: [item["answer"], *item["aliases"]], {"exact_match": squad_exact, "f1": squad_f1}
)
squad2 = Scoring(answer_or_nothing, lambda item: item["answers"], {"exact": squad_exact, "f1": squad_f1})
