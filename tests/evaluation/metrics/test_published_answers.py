"""Outputs are read as the published evaluations read them: tables of nasty ones, and lm-eval itself."""

import random

import pytest

from tsugiki.evaluation.metrics.published_answers import (
    INVALID,
    gsm8k_equal,
    gsm8k_strict_answer,
    llm_jp_eval_answer,
    mgsm_number,
    triviaqa_equal,
)


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("3", "3"),
        ("３", "3"),
        ("③", "3"),
        (" 3\n", "3"),
        ("3\n\n### 入力:\n質問", "3"),
        ("\n\n3", ""),  # the first blank line ends the answer, even before it began
        ("3\n### 入力:", "3\n### 入力:"),  # one newline does not
        ("3\n \n4", "3\n \n4"),  # a line with a space is not blank
        ("ﾄｳｷｮｳ", "トウキョウ"),
        ("　東京　", "東京"),
        ("", ""),
    ],
)
def test_llm_jp_eval_cuts_at_the_first_blank_line(output, answer):
    assert llm_jp_eval_answer(output) == answer


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("5+6=11。答えは11です。", 11),
        ("答えは1,234です。", 1234),
        ("The answer is 18.", 18),
        ("-5", -5),
        ("10-3", -3),  # a minus sign is a sign, always
        ("答えは12.0", 12),
        ("答えは12.5です", None),
        ("答えは１１です。", None),
        ("3×4=１２", 4),  # the last number that is seen
        ("十二", None),
        ("", None),
        ("わかりません。", None),
        ("18 .", None),  # the lone full stop is the last match
        ("18,", 18),
        ("1.5.2", None),
        ("答えは18...", 18),
        ("1,2,3", 123),
        ("−5", 5),  # U+2212 is no sign
        ("5 - ", 5),
        ("答えは18です。合計は20ではない", 20),
        ("9" * 400, None),  # beyond the range of floats
    ],
)
def test_mgsm_takes_the_last_ascii_number(output, number):
    assert mgsm_number(output) == number


NASTY_GSM8K = [
    ("6*3=18\n#### 18", "18"),
    ("#### 1,000", "1,000"),
    ("#### -5.", "-5."),
    ("#### 18\n\nQuestion: x\n#### 20", "18"),  # the first of several
    ("####18", INVALID),
    ("#### $18", INVALID),
    ("#### １８", INVALID),
    ("The answer is 18", INVALID),
    ("#### ", INVALID),
    ("#### .", "."),
    ("", INVALID),
]


@pytest.mark.parametrize(("output", "answer"), NASTY_GSM8K)
def test_gsm8k_strict_takes_the_number_after_hashes(output, answer):
    assert gsm8k_strict_answer(output) == answer


@pytest.mark.parametrize(
    ("answer", "rationale", "equal"),
    [
        ("18", "9*2=<<9*2=18>>18\n#### 18", True),
        ("18.", "x\n#### 18", True),
        ("1,000", "x\n#### 1000", True),
        ("1000", "x\n#### 1,000", True),
        ("18.0", "x\n#### 18", False),
        ("018", "x\n#### 18", False),
        (INVALID, "x\n#### 18", False),
        ("18", "#### 3\n#### 18", True),
    ],
)
def test_gsm8k_answers_are_equal_but_for_commas_dollars_and_a_full_stop(answer, rationale, equal):
    assert gsm8k_equal(answer, rationale) is equal


@pytest.mark.parametrize(
    ("prediction", "aliases", "equal"),
    [
        (" Onion ", ["Garden onion", "ONION"], True),
        ("U.S.A", ["USA"], True),
        ("the onion", ["onion"], False),  # articles count here
        ("onion skin", ["onion"], False),
        ("「onion」", ["onion"], False),  # only ASCII punctuation goes
        ("", ["onion"], False),
        ("", ["!!!"], True),  # an alias of which nothing remains
        ("onion", [], False),
    ],
)
def test_triviaqa_is_exact_but_for_case_and_punctuation(prediction, aliases, equal):
    assert triviaqa_equal(prediction, aliases) is equal


def test_readings_equal_those_of_lm_eval():
    pytest.importorskip("lm_eval", reason="the extra eval")
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    strict = RegexFilter(r"#### (\-?[0-9\.\,]+)")
    rules = {"ignore_case": True, "regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"]}
    rng = random.Random(8)
    outputs = [output for output, _ in NASTY_GSM8K]
    parts = ["#### ", "####", "18", "1,000", "-", ".", "\n", "$", " x ", "20"]
    outputs += ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 9))) for _ in range(500)]
    for output in outputs:
        answer = gsm8k_strict_answer(output)
        assert [[answer]] == strict.apply([[output]], [{}]), output
        rationale = f"so it is {rng.choice(parts)}\n#### {rng.choice(['18', '1000', '-1,000', '.'])}"
        theirs = exact_match_hf_evaluate(predictions=[answer], references=[rationale], **rules)["exact_match"]
        assert gsm8k_equal(answer, rationale) == bool(theirs), (output, rationale)

    aliases = ["U.S.", "us", "Ünited", "a b", "A-B", "O'Hara", "ß", "İ"]
    for prediction in [*aliases, "US", "ab", "ohara", "SS", "ünited"]:
        for alias in aliases:
            theirs = exact_match_hf_evaluate(
                predictions=[prediction], references=[alias], ignore_case=True, ignore_punctuation=True
            )["exact_match"]
            assert triviaqa_equal(prediction, [alias]) == bool(theirs), (prediction, alias)
