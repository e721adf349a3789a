"""Each verifier on answers that follow its instruction and answers that do not, written by hand."""

from typing import Any

import pytest

from tsugiki.evaluation.instructions.verifiers import COMMON, ENGLISH, JAPANESE, VERIFIERS

Case = tuple[str, dict[str, Any], list[str], list[str]]
"""Id, arguments, answers that follow, answers that do not."""

FENCED = '```json\n{"name": "Aki", "age": 7}\n```'
TABLE = "| Fruit | Price |\n|---|---:|\n| apple | 100 |\n| pear | 200 |"

CASES: list[Case] = [
    ("keywords", {"words": ["rain", "猫"]}, ["Rain fell on the 猫.", "The train left 猫"], ["Rain fell.", "猫"]),
    ("keyword_count", {"word": "sea", "at_least": 2}, ["Sea and sea.", "seaside seas"], ["One sea."]),
    ("keyword_count", {"word": "海", "at_least": 1, "at_most": 1}, ["海が見える。"], ["海と海", "山だ"]),
    ("forbidden", {"words": ["art", "new"]}, ["A part of the newspaper."], ["Modern ART.", "a new day", "art's"]),
    ("forbidden", {"words": ["雨", "AI"]}, ["晴れです。", "MAIL"], ["大雨です。", "AIは便利"]),
    ("letter_count", {"letter": "e", "at_most": 1}, ["Eat", "a cat"], ["Eel", "we see"]),
    ("letter_count", {"letter": "!", "at_least": 2}, ["Hi! Ho!", "!!"], ["Hi!"]),
    ("without_characters", {"characters": ",、"}, ["One two", "はい。"], ["One, two", "はい、そう"]),
    ("no_digits", {}, ["three cats", "三匹"], ["3 cats", "３匹", "½ of 2"]),
    ("bullets", {"at_least": 2, "at_most": 2}, ["- a\n- b", "Here:\n* **a** b\n* c", "・りんご\n・梨"], ["- a", "* a\n* b\n* c", "**a**\n---\n- b", "a - b - c"]),
    ("numbered_list", {"at_least": 3}, ["1. a\n2. b\n3. c", "１．あ\n２．い\n３．う", "1) a\n2) b\n3) c"], ["1. a\n2. b", "1.5 times\n2.5\n3.5", "In 1999. So"]),
    ("lines", {"at_least": 2, "at_most": 2}, ["a\nb", "a\n\nb\n"], ["a", "a\nb\nc"]),
    ("paragraphs", {"at_least": 2, "at_most": 2}, ["One.\n\nTwo.", "One\nstill one.\n \n\nTwo."], ["One.\nTwo.", "1\n\n2\n\n3"]),
    ("divided", {"mark": "***", "parts": 2}, ["One\n***\nTwo", "***\nOne\n***\nTwo\n***"], ["One\n\nTwo", "One *** *** Two", "a***b***c", "***"]),
    ("two_answers", {}, ["Red\n******\nBlue", "a******b"], ["Red\n******\nRed", "Red", "a******b******c", "a***b"]),
    ("paragraph_starts", {"paragraphs": 2, "number": 2, "word": "However"}, ["It rains.\n\nHowever, we go.", 'A\n\n"however" b'], ["However.\n\nNo.", "A.\n\nHowevermuch", "However", "A\n\nHowever\n\nB"]),
    ("starts_with", {"phrase": "Dear"}, ["Dear Tom,", ' "Dear Tom', "**Dear** Tom"], ["My Dear", "Dearest Tom"]),
    ("starts_with", {"phrase": "むかし"}, ["むかしむかし、", "「むかし、"], ["その昔"]),
    ("starts_with", {"phrase": "『"}, ["『空』\n青い。"], ["「空」"]),
    ("ends_with", {"phrase": "Good night."}, ["Sleep. Good night.", '"GOOD NIGHT."\n'], ["Good night. Bye.", "Good night"]),
    ("ends_with", {"phrase": "以上です。"}, ["終わり。以上です。", "「以上です。」"], ["以上です。では"]),
    ("wrapped", {"opening": '"', "closing": '"'}, ['"Hello."', ' "a" and "b" '], ['Hello "you"', '"', '""', '"Hello']),
    ("wrapped", {"opening": "「", "closing": "」"}, ["「こんにちは。」"], ["「はい」と言う", "はい"]),
    ("repeats", {"request": "Name a colour."}, ["Name a colour. Blue.", "name a colour.\n\nred"], ["Blue. Name a colour.", "Name a color. Red"]),
    ("one_of", {"options": ["yes", "no"]}, ["yes", " no\n"], ["yes.", "Yes", "yes and no"]),
    ("one_of", {"options": ["My answer is no."], "alone": False}, ["Well. My answer is no. Sorry."], ["no"]),
    ("json", {}, ['{"a": 1}', "[1, 2]", FENCED, '```JSON {"a": 1}```'], ["{a: 1}", 'Here: {"a": 1}', FENCED + "\nDone."]),
    ("json", {"keys": ["name", "age"]}, [FENCED], ['{"name": "Aki"}', '["name", "age"]', '"name age"']),
    ("table", {}, [TABLE, "Prices:\n\n" + TABLE, "a | b\n--- | ---\n1 | 2"], ["a | b", "| a |\n| 1 |", "a\n---\nb"]),
    ("table", {"columns": 2, "rows": 2}, [TABLE], [TABLE + "\n| plum | 50 |", "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |"]),
    ("code_block", {}, ["```python\nprint(1)\n```", "So:\n```\nls\n```\nDone."], ["`print(1)`", "```python\nprint(1)", "print(1)"]),
    ("headings", {"at_least": 2, "at_most": 2}, ["# A\ntext\n## B\ntext"], ["# A", "#A\n#B", "# A\n# B\n# C"]),
    ("no_markup", {}, ["Plain text.\nTwo lines - with a dash.", "3 * 4"], ["**bold**", "# A", "- a", "1. a", "`x`", "a\n| b |"]),
    ("labels", {"labels": ["Name", "Age"]}, ["Name: Aki\nAge: 7", "**Name:** Aki\n- Age： 7"], ["Age: 7\nName: Aki", "Name: Aki", "Name:\nAge: 7", "Name Aki\nAge 7"]),
    ("labels", {"labels": ["材料", "作り方"]}, ["材料：卵\n作り方：焼く。"], ["作り方：焼く。材料：卵"]),
    ("listed", {"separator": ",", "items": 3}, ["red, green, blue", "a,b,c."], ["a, b", "a, a, b", "a,\nb, c", "a, , b"]),
    ("listed", {"separator": "、", "items": 2}, ["犬、猫"], ["犬と猫", "犬、猫、鳥"]),
    ("placeholders", {"at_least": 2}, ["Dear [name], see you in [place]."], ["Dear [name]", "[] and []", "(name) (place)"]),
    ("questions", {"at_least": 2, "at_most": 2}, ["Who? Why?", "誰？なぜ？", "Who?! Why???"], ["Who?", "Who? Why? When?"]),
    ("sections", {"marker": "Section #", "at_least": 2}, ["Section 1\na\nSection 2\nb"], ["Section 1\na", "Section one, Section two", "SECTION 1\na\nSECTION 2\nb"]),
    ("sections", {"marker": "第#章", "at_least": 2, "at_most": 2}, ["第1章\nあ\n第２章\nい"], ["第1章", "第1章第2章第3章", "1章 2章"]),
    ("postscript", {"marker": "P.S."}, ["Bye.\nP.S. Call me.", "Bye.\n\np. s. Call", "Bye\n**P.S.** x"], ["P.S. Call me.", "Bye.", "Bye.\nP.P.S. Call"]),
    ("postscript", {"marker": "P.P.S"}, ["Bye.\nP.P.S. Call"], ["Bye.\nP.S. Call"]),
    ("postscript", {"marker": "追伸"}, ["では。\n追伸：また。"], ["では。"]),
    ("language", {"code": "fr"}, ["Le chat est sur la table et il dort."], ["The cat is on the table.", "猫がいる。", "123"]),
    ("language", {"code": "ja"}, ["猫がテーブルの上で眠っている。", "API は HTTP でよばれます。"], ["The cat sleeps.", "猫在桌子上睡觉"]),
    ("language", {"code": "kn"}, ["ಇದು ಒಂದು ಒಳ್ಳೆಯ ದಿನ."], ["ఇది ఒక మంచి రోజు."]),
    ("en:words", {"at_least": 3, "at_most": 4}, ["One two three.", "It's a well-known fact."], ["One two.", "a b c d e"]),
    ("en:sentences", {"at_least": 2, "at_most": 2}, ["One. Two!", "Mr. Lee paid 3.5 dollars. He left.", 'He said "Go." Then he left.', "One\nTwo", "Wait... What?"], ["One.", "A b. C d. E f."]),
    ("en:sentence_words", {"at_most": 4}, ["The cat sat. It slept."], ["The cat sat on mats. No."]),
    ("en:capitals", {}, ["THE CAT SAT ON THE MAT.", "YES!"], ["The cat", "LE CHAT EST SUR LA TABLE ET IL DORT", "123"]),
    ("en:lowercase", {}, ["the cat sat on the mat."], ["The cat", "le chat est sur la table et il dort", "123"]),
    ("en:capital_words", {"at_least": 2, "at_most": 2}, ["NASA and ESA met.", "I ran to NASA."], ["Nasa", "USA UK EU"]),
    ("en:no_contractions", {}, ["I do not know. Tom's cat is here."], ["I don't know.", "it’s here", "We'll go", "They're in"]),
    ("en:sentence_starts", {"word": "We"}, ["We run. We rest.", "we go."], ["We run. They rest.", "Wednesday came."]),
    ("en:acrostic", {"word": "sun"}, ["Shine\nup\nnow", "**S**ea\nUnder\nNight"], ["Shine up now", "Sun\nUp", "Sea\nUp\nOn\nNo"]),
    ("en:same_letter", {"letter": "b"}, ["Big bears bring bread.", "Bob's boat"], ["Big brown dogs."]),
    ("en:no_word_twice", {}, ["Every cat sleeps."], ["The cat saw the dog.", "Go, GO"]),
    ("en:highlights", {"at_least": 2, "at_most": 2}, ["*one* and **two**", "**a b** c *d*"], ["*one*", "* a\n* b", "** **  * *", "*a* *b* *c*"]),
    ("en:title", {}, ["<<My Day>>\nIt rained."], ["My Day", "<My Day>", "<< >>", "<<My\nDay>>"]),
    ("ja:characters", {"at_least": 5, "at_most": 6}, ["今日は晴れ", "今日は\n晴れ 。"], ["晴れだ。", "今日は晴れです。"]),
    ("ja:sentences", {"at_least": 2, "at_most": 2}, ["晴れだ。雨だ。", "「行く。帰る。」と言った。笑った！", "晴れ\n雨"], ["晴れだ。", "あ。い。う。"]),
    ("ja:sentence_characters", {"at_most": 6}, ["晴れです。雨だ。"], ["今日は晴れです。雨だ。"]),
    ("ja:polite", {}, ["晴れです。行きますか？", "「寒い。」と母は言いました。", "行きましょう！待ってください。", "母さんへ\n元気です。\n太郎"], ["晴れです。寒い。", "これは本である。", "本"]),
    ("ja:plain", {}, ["これは本である。面白い。", "猫が寝ている。明日も行くだろう。"], ["これは本です。", "本である。読みます。", "待ってください。", "行きません。"]),
    ("ja:sentence_end", {"ending": "のだ"}, ["寝るのだ。起きるのだ！", "「嫌だ」というのだ。"], ["寝るのだ。起きる。", "起きる。"]),
    ("ja:noun_endings", {"at_least": 2, "at_most": 2}, ["青い空。白いクリーム。", "晴れた空。大切なこと。行く。"], ["青い空。", "空だ。海だ。", "空。海。山。"]),
    ("ja:kanji", {"at_most": 0}, ["きょうははれです。", "カメラ"], ["今日"]),
    ("ja:kanji", {"at_least": 3}, ["日本国です", "人々だ国"], ["日本です"]),
    ("ja:hiragana_only", {}, ["きょうは、はれです！", "わーい。"], ["今日ははれ", "カメラだよ", "abc です", "。。。"]),
    ("ja:katakana_only", {}, ["キョウハ、ハレ！", "コーヒー・ミルク"], ["きょうハ", "晴レ", "。"]),
    ("ja:no_hiragana", {}, ["今日晴天。カメラ"], ["今日は"]),
    ("ja:no_katakana", {}, ["今日はさむいねー。"], ["カメラだ", "ｶﾒﾗだ"]),
    ("ja:no_latin", {}, ["今日は３時です。"], ["Aです", "Ａです"]),
    ("ja:kana_count", {"kana": "か", "at_least": 2, "at_most": 2}, ["かかし", "かたカナ"], ["かさ", "かかか", "がが"]),
    ("ja:furigana", {}, ["今日（きょう）は晴（は）れ。"], ["今日（きょう）は晴れ。", "きょう", "今日（キョウ）"]),
    ("ja:full_width_digits", {}, ["３時です。"], ["3時です。", "三時です。", "３時10分"]),
    ("ja:quotations", {"at_least": 2}, ["「はい」と「いいえ」"], ["「はい」", "『はい』『いいえ』", "「」「」"]),
    ("ja:title", {}, ["『空の色』\n青い。"], ["「空の色」", "『』", "『 』"]),
    ("ja:highlights", {"at_least": 2}, ["《春》と《秋》"], ["《春》", "〈春〉〈秋〉", "《》《》"]),
    ("ja:beats", {"pattern": [5, 7, 5]}, ["ふるいけや\nかわずとびこむ\nみずのおと", "あさがおに\nつるべとられて、\nもらいみず。", "きょうのひは\nきゃっとわらって\nはしりだす"], ["ふるいけや\nかわずとびこむ", "古池や\nかわずとびこむ\nみずのおと", "ふるいけ\nかわずとびこむ\nみずのおと"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES)
def test_a_verifier_takes_answers_that_follow_and_no_others(
    name: str, arguments: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    verifier = VERIFIERS[name]
    assert verifier.problem(arguments) is None
    assert [answer for answer in good if not verifier.follows(answer, arguments)] == []
    assert [answer for answer in bad if verifier.follows(answer, arguments)] == []


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES)
@pytest.mark.parametrize("empty", ["", " \n\n", "　"])
def test_an_answer_that_says_nothing_follows_nothing(
    empty: str, name: str, arguments: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    assert not VERIFIERS[name].follows(empty, arguments)


def test_every_verifier_has_a_case_and_each_language_has_enough() -> None:
    assert {name for name, *_ in CASES} == set(VERIFIERS)
    assert len(COMMON) + len(ENGLISH) >= 25
    assert len(COMMON) + len(JAPANESE) >= 25


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("keywords", {}, "keywords needs words"),
        ("keywords", {"words": []}, "words must not be empty"),
        ("keywords", {"words": ["a", 3]}, "words[1] must be text, not 3"),
        ("keywords", {"words": [""]}, "words[0] must not be empty"),
        ("json", {"words": ["a"]}, "takes no words: it takes keys"),
        ("no_digits", {"at_least": 1}, "takes no at_least: it takes nothing"),
        ("en:words", {}, "en:words needs at_least or at_most"),
        ("en:words", {"at_least": "30"}, "at_least must be a whole number, not the text '30'"),
        ("en:words", {"at_least": 3.5}, "whole number"),
        ("ja:kana_count", {"kana": "かな", "at_least": 1}, "kana"),
    ],
)  # fmt: skip
def test_arguments_that_a_verifier_does_not_take_are_named(name: str, arguments: dict[str, Any], said: str) -> None:
    problem = VERIFIERS[name].problem(arguments)
    assert problem is not None
    assert said in problem
