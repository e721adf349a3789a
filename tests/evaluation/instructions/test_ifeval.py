"""Files in the format of IFEval and M-IFEval; the lines are our own, with every id that the two files have."""

import json
from pathlib import Path
from typing import Any

import pytest

from tsugiki.errors import DataError
from tsugiki.evaluation.instructions.ifeval import THEIRS, read_ifeval
from tsugiki.evaluation.instructions.scoring import judge

ENGLISH: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["rain", "sun"]}, "Sun and rain.", "Sun."),
    ("keywords:frequency", {"relation": "at least", "keyword": "sea", "frequency": 2}, "The sea, the sea.", "The sea."),
    ("keywords:frequency", {"relation": "less than", "keyword": "sea", "frequency": 2}, "The sea.", "The sea, the sea."),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A category.", "A cat."),
    ("keywords:letter_frequency", {"let_relation": "at least", "letter": "#", "let_frequency": 2}, "#a #b", "#a"),
    ("language:response_language", {"language": "de"}, "Das ist nicht gut.", "That is not good."),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 2}, "One.", "One. Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "A\n***\nB", "A\n\nB"),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "One two three", "One two"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "A.\n\nThen b.", "Then.\n\nA."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S. Hi", "Bye.\nP.S. Hi"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* **b**", "*a*"),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}, "SECTION 1\na\nSECTION 2\nb", "SECTION 1\na"),
    ("detectable_format:json_format", {}, '{"a": 1}', "a: 1"),
    ("detectable_format:title", {}, "<<Rain>>\nIt rains.", "Rain"),
    ("combination:two_responses", {}, "a\n******\nb", "a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Name a fish."}, "Name a fish. Carp.", "Carp."),
    ("startend:end_checker", {"end_phrase": "That is all."}, "Hi. That is all.", "That is all. Hi."),
    ("startend:quotation", {}, '"Hi."', "Hi."),
    ("change_case:capital_word_frequency", {"capital_relation": "less than", "capital_frequency": 2}, "ONE two", "ONE TWO"),
    ("change_case:english_capital", {}, "THIS IS IT.", "This is it."),
    ("change_case:english_lowercase", {}, "this is it.", "This is it."),
    ("punctuation:no_comma", {}, "One two", "One, two"),
]  # fmt: skip
JAPANESE: list[tuple[str, dict[str, Any], str, str]] = [
    ("ja:keywords:existence", {"keywords": ["雨"]}, "雨だ。", "雪だ。"),
    ("ja:keywords:frequency", {"relation": "未満", "keyword": "音", "frequency": 2}, "音がする。", "音と音。"),
    ("ja:keywords:forbidden_words", {"forbidden_words": ["海"]}, "山だ。", "海だ。"),
    ("ja:keywords:letter_frequency", {"let_relation": "以上", "letter": "し", "let_frequency": 2}, "しかとシマウマ", "しか"),
    ("ja:language:response_language", {"language": "fr"}, "Le chat est dans la maison.", "猫だ。"),
    ("ja:length_constraints:number_sentences", {"relation": "以上", "num_sentences": 2}, "雨だ。寒い。", "雨だ。"),
    ("ja:length_constraints:number_paragraphs", {"num_paragraphs": 2}, "雨\n***\n雪", "雨"),
    ("ja:length_constraints:number_letters", {"relation": "未満", "num_letters": 5}, "雨です。", "雨でした。"),
    ("ja:length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "首"}, "キリンだ。\n\n首が長い。", "首。\n\n足。"),
    ("ja:detectable_content:number_placeholders", {"num_placeholders": 1}, "[名前]様", "名前様"),
    ("ja:detectable_content:postscript", {"postscript_marker": "追伸"}, "では。\n追伸 またね。", "では。"),
    ("ja:detectable_format:number_bullet_lists", {"num_bullets": 2}, "・雨\n・雪", "・雨"),
    ("ja:detectable_format:number_numbered_lists", {"num_items": 2}, "1. 雨\n2. 雪", "1. 雨"),
    ("ja:detectable_format:constrained_response", {}, "はい、そうです。", "はい"),
    ("ja:detectable_format:number_highlighted_sections", {"num_highlights": 1}, "《雨》", "*雨*"),
    ("ja:detectable_format:multiple_sections", {"section_spliter": "章", "num_sections": 2}, "第1章\n雨\n第２章\n雪", "第1章\n雨"),
    ("ja:detectable_format:json_format", {}, '{"天気": "雨"}', "天気は雨"),
    ("ja:detectable_format:title", {}, "『雨』", "「雨」"),
    ("ja:detectable_format:nominal_ending", {"count": 1}, "冷たい雨。", "雨だ。"),
    ("ja:combination:two_responses", {}, "雨\n******\n雪", "雨"),
    ("ja:combination:repeat_prompt", {"prompt_to_repeat": "魚は？"}, "魚は？鯉です。", "鯉です。"),
    ("ja:startend:end_checker", {"end_phrase": "以上です。"}, "雨。以上です。", "以上です。雨。"),
    ("ja:startend:sentence_unified_end", {"ending": "ます"}, "降ります。やみます。", "降ります。雨です。"),
    ("ja:startend:quotation", {}, "「雨」", "雨"),
    ("ja:letters:furigana", {}, "雨（あめ）", "雨"),
    ("ja:letters:kansuuji", {}, "三日", "3日"),
    ("ja:letters:no_katakana", {}, "雨", "アメ"),
    ("ja:letters:katakana_only", {}, "アメ", "雨"),
    ("ja:letters:no_hiragana", {}, "雨天", "雨だ"),
    ("ja:letters:hiragana_only", {}, "あめ", "雨"),
    ("ja:letters:kanji", {"relation": "未満", "kanji_limit": 2}, "雨です", "雨天です"),
    ("ja:punctuation:no_comma", {}, "雨。", "雨、雪"),
    ("ja:punctuation:no_period", {}, "雨、雪", "雨。"),
]  # fmt: skip


def write(path: Path, cases: list[tuple[str, dict[str, Any], str, str]]) -> Path:
    """One prompt a case, with the nulls that copies on the hub have."""
    rows = [
        {"key": 900 + number, "prompt": f"Prompt {number}", "instruction_id_list": [name], "kwargs": [{"unused": None, **arguments}]}
        for number, (name, arguments, *_) in enumerate(cases)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("cases", [ENGLISH, JAPANESE], ids=["ifeval", "m-ifeval"])
def test_every_instruction_of_the_file_is_checked_by_one_of_ours(
    tmp_path: Path, cases: list[tuple[str, dict[str, Any], str, str]]
) -> None:
    prompts = read_ifeval(write(tmp_path / "input_data.jsonl", cases))
    for prompt, (name, _, good, bad) in zip(prompts, cases, strict=True):
        assert judge(prompt, good).strict == [True], name
        assert judge(prompt, bad).strict == [False], name
        assert prompt.language == ("ja" if name.startswith("ja:") else "en")
    assert {name.removeprefix("en:") for name in THEIRS} == {name for name, *_ in ENGLISH + JAPANESE}


def test_ids_and_texts_are_those_of_the_file(tmp_path: Path) -> None:
    first, *_ = read_ifeval(write(tmp_path / "input_data.jsonl", ENGLISH))
    assert (first.id, first.text) == ("900", "Prompt 0")
    assert first.instructions[0].arguments == {"words": ["rain", "sun"]}


def test_unknown_instructions_are_all_named_with_how_often_they_are_asked(tmp_path: Path) -> None:
    path = write(
        tmp_path / "fr.jsonl",
        [
            ("fr:special_character:accents", {}, "", ""),
            *ENGLISH[:1],
            ("es:letters:enie", {}, "", ""),
            ("es:letters:enie", {}, "", ""),
        ],
    )
    with pytest.raises(DataError, match=r"fr\.jsonl: .*fr:special_character:accents \(1\), es:letters:enie \(2\)"):
        read_ifeval(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is not valid JSON"),
        ('{"key": 1, "prompt": "a", "kwargs": []}', "line 1: instruction_id_list is missing"),
        ('{"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []}', "line 1: 1 instructions with arguments for 0"),
        ('{"key": 1, "prompt": "a", "instruction_id_list": [], "kwargs": []}', "line 1: no instruction"),
        ('{"key": 1, "prompt": "a", "instruction_id_list": ["keywords:existence"], "kwargs": [{}]}', "line 1: the arguments of keywords:existence"),
        ('{"key": 1, "prompt": "a", "instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": "rain"}]}', "words must be a list"),
        ('{"key": 1, "prompt": "a", "instruction_id_list": ["length_constraints:number_words"], "kwargs": [{"relation": "about", "num_words": 3}]}', "the arguments of length_constraints:number_words"),
        ("", "no prompt in it"),
    ],
)  # fmt: skip
def test_a_line_that_is_not_of_the_format_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "input_data.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_ifeval(path)
