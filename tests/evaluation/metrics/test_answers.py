"""Answers are found in nasty outputs: full width, commas, none, several, cut short, empty."""

import pytest

from tsugiki.evaluation.metrics.answers import answer_or_nothing, number_answer, option_answer, short_answer, yes_or_no


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("5+6=11。答えは11です。", "11"),
        ("答えは１１です。", "11"),
        ("答えは1,234円です。", "1234"),
        ("答えは１，２３４円です。", "1234"),
        ("答えは12.0です", "12"),
        ("答えは－5度です。", "-5"),
        ("答えは−５度です。", "-5"),
        ("答えはマイナス5度です。", "-5"),
        ("答えは十二個です。", "12"),
        ("答えは約3万円です。", "30000"),
        ("答えは：\n18個", "18"),
        ("答えは次の通りです。18個です。", "18"),
        ("答えは12（3×4）です。", "12"),
        ("答えは3×4=12です。", "12"),
        ("答えは10-3=7です。残りは2人です。", "7"),
        ("答えは一人あたり5個です。", "5"),
        ("答え：42", "42"),
        ("答 42", "42"),
        ("最初の答えは3です。最後の答えは7です。", "7"),
        ("答えは18です。これは全部で20個のうちです。", "18"),
        ("答えは18です。\n\n問題：3個のりんご\nステップごとの答え：答えは3です。", "18"),
        ("18個残ります。十分です。", "18"),
        ("3個と4個で7個", "7"),
        ("十二個です。", "12"),
        ("十二", "12"),
        ("面積は20cm²", "20"),
        ("9*2=<<9*2=18>>18\n#### 18", "18"),
        ("#### $1,000.00", "1000"),
        ("#### 18\n\nQuestion: Tom has 3.\nAnswer: #### 5", "18"),
        ("####18", "18"),
        ("The answer is $18. That is 3 more.", "18"),
        ("The answer is -5.", "-5"),
        (r"so \boxed{18} it is 1", "18"),
        ("答えは1/2です。", "0.5"),
        ("全部で1,2", "2"),
        ("答えは", None),
        ("5個あるので、答えは", "5"),  # cut short: the last number, which is all there is
        ("わかりません。", None),
        ("一緒に行きます。", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_the_number_that_is_given_as_the_answer(output, number):
    assert number_answer(output) == number


def test_a_model_that_repeats_a_digit_for_ever_breaks_nothing():
    assert len(number_answer("9" * 5000)) >= 5000


@pytest.mark.parametrize(
    ("output", "option"),
    [
        ("3", 3),
        ("３", 3),
        ("③", 3),
        (" 3\n", 3),
        ("3.電子レンジ", 3),
        ("2.3Dプリンター", 2),
        ("3番です", 3),
        ("選択肢2", 2),
        ("0か3で迷うが、答えは3です。", 3),
        ("答えは電子レンジです。番号は4", 4),
        ("5つの選択肢のうち2", 2),
        ("10人なら3", 3),
        ("0.5", None),
        ("1,000", None),
        ("-1", None),
        ("12", None),
        ("5", None),
        ("電子レンジ", None),
        ("", None),
        ("2\n\n質問：次\n4", 2),
    ],
)
def test_the_option_that_is_chosen(output, option):
    assert option_answer(output) == option


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("YES", "YES"),
        ("yes.", "YES"),
        ("Ｙｅｓ", "YES"),
        ("「はい」", "YES"),
        ("はい、そうです。", "YES"),
        ("yesです", "YES"),
        ("NO", "NO"),
        ("\nno\n", "NO"),
        ("いいえ。", "NO"),
        ("Noah", None),
        ("yesterday", None),
        ("ノーベル", None),
        ("東京", None),
        ("答えはYES", None),
        ("", None),
    ],
)
def test_yes_and_no(output, answer):
    assert yes_or_no(output) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (" 東京\n大阪", "東京"),
        ("\n\n 東京", "東京"),
        ("ﾄｳｷｮｳ　", "トウキョウ"),
        ("東京\r\n", "東京"),
        (" \n\u3000\n", ""),
        ("", ""),
    ],
)
def test_a_short_answer_is_the_first_line_with_something_on_it(output, answer):
    assert short_answer(output) == answer


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (" unanswerable", ""),
        ("Unanswerable.\n\nTitle: x", ""),
        ("No answer", ""),
        ("", ""),
        ("no", "no"),
        ("an unanswerable question", "an unanswerable question"),
        (" Denver Broncos.\n", "Denver Broncos."),
    ],
)
def test_saying_that_there_is_no_answer_is_the_empty_answer(output, answer):
    assert answer_or_nothing(output) == answer
