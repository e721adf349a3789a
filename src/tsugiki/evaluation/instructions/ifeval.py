"""Files in the format of IFEval and M-IFEval: {key, prompt, instruction_id_list, kwargs}, a list of arguments each.

IFEval (541 prompts, Google, Apache-2.0) has ids such as `length_constraints:number_words`; M-IFEval (172 Japanese
prompts, Lightblue) puts a language before them, `ja:letters:kanji`. Copies on the hub state every possible argument and
leave all but some null.

Our verifiers stand for theirs and can differ in cases at the edge, so that a score is no published one: the language is
told without langdetect, English sentences are cut without punkt, "it's" is one word and not two, a postscript begins a
line, Japanese keywords are found as text and not as words of a morphological analysis, sentences that end in a noun are
known by their last characters. Where IFEval's code takes a letter at random in the place of one that is not a to z, the
one that the prompt asks for is counted here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tsugiki.errors import DataError
from tsugiki.evaluation.instructions.prompts import Prompt, checked, numbered_lines, unique
from tsugiki.shapes import parse_json

Given = Mapping[str, Any]
Ours = tuple[str, dict[str, Any]]
"""The id of a verifier and its arguments."""

RELATIONS = {"at least": "at_least", "less than": "less", "以上": "at_least", "未満": "less"}


def _range(given: Given, number: str, relation: str = "relation") -> dict[str, int]:
    """The limit that a number and its relation state."""
    stated = RELATIONS[given[relation]]
    return {"at_least": given[number]} if stated == "at_least" else {"at_most": given[number] - 1}


def _exactly(number: int) -> dict[str, int]:
    return {"at_least": number, "at_most": number}


OPTIONS = {
    "en": ["My answer is yes.", "My answer is no.", "My answer is maybe."],
    "ja": ["はい、そうです。", "いいえ、違います。", "どちらとも言えません。"],
}
"""Of `constrained_response`, which states none."""

ANY: dict[str, Callable[[Given], Ours]] = {
    "keywords:existence": lambda given: ("keywords", {"words": given["keywords"]}),
    "keywords:frequency": lambda given: (
        "keyword_count", {"word": given["keyword"].strip(), **_range(given, "frequency")}
    ),
    "keywords:forbidden_words": lambda given: ("forbidden", {"words": given["forbidden_words"]}),
    "language:response_language": lambda given: ("language", {"code": given["language"]}),
    "length_constraints:number_paragraphs": lambda given: (
        "divided", {"mark": "***", "parts": given["num_paragraphs"]}
    ),
    "length_constraints:nth_paragraph_first_word": lambda given: (
        "paragraph_starts",
        {"paragraphs": given["num_paragraphs"], "number": given["nth_paragraph"], "word": given["first_word"]},
    ),
    "detectable_content:number_placeholders": lambda given: ("placeholders", {"at_least": given["num_placeholders"]}),
    "detectable_content:postscript": lambda given: ("postscript", {"marker": given["postscript_marker"]}),
    "detectable_format:number_bullet_lists": lambda given: ("bullets", _exactly(given["num_bullets"])),
    "detectable_format:json_format": lambda given: ("json", {}),
    "combination:two_responses": lambda given: ("two_answers", {}),
    "combination:repeat_prompt": lambda given: ("repeats", {"request": given["prompt_to_repeat"]}),
    "startend:end_checker": lambda given: ("ends_with", {"phrase": given["end_phrase"]}),
}  # fmt: skip
ENGLISH: dict[str, Callable[[Given], Ours]] = {
    "keywords:letter_frequency": lambda given: (
        "letter_count", {"letter": given["letter"], **_range(given, "let_frequency", "let_relation")}
    ),
    "length_constraints:number_sentences": lambda given: ("en:sentences", _range(given, "num_sentences")),
    "length_constraints:number_words": lambda given: ("en:words", _range(given, "num_words")),
    "detectable_format:constrained_response": lambda given: ("one_of", {"options": OPTIONS["en"], "alone": False}),
    "detectable_format:number_highlighted_sections": lambda given: (
        "en:highlights", {"at_least": given["num_highlights"]}
    ),
    "detectable_format:multiple_sections": lambda given: (
        "sections", {"marker": f"{given['section_spliter'].strip()} #", "at_least": given["num_sections"]}
    ),
    "detectable_format:title": lambda given: ("en:title", {}),
    "change_case:capital_word_frequency": lambda given: (
        "en:capital_words", _range(given, "capital_frequency", "capital_relation")
    ),
    "change_case:english_capital": lambda given: ("en:capitals", {}),
    "change_case:english_lowercase": lambda given: ("en:lowercase", {}),
    "punctuation:no_comma": lambda given: ("without_characters", {"characters": ","}),
    "startend:quotation": lambda given: ("wrapped", {"opening": '"', "closing": '"'}),
}  # fmt: skip
JAPANESE: dict[str, Callable[[Given], Ours]] = {
    "keywords:letter_frequency": lambda given: (
        "ja:kana_count", {"kana": given["letter"], **_range(given, "let_frequency", "let_relation")}
    ),
    "length_constraints:number_sentences": lambda given: ("ja:sentences", _range(given, "num_sentences")),
    "length_constraints:number_letters": lambda given: ("ja:characters", _range(given, "num_letters")),
    "detectable_format:number_numbered_lists": lambda given: ("numbered_list", _exactly(given["num_items"])),
    "detectable_format:constrained_response": lambda given: ("one_of", {"options": OPTIONS["ja"], "alone": False}),
    "detectable_format:number_highlighted_sections": lambda given: (
        "ja:highlights", {"at_least": given["num_highlights"]}
    ),
    "detectable_format:multiple_sections": lambda given: (
        "sections", {"marker": f"第#{given['section_spliter'].strip()}", "at_least": given["num_sections"]}
    ),
    "detectable_format:title": lambda given: ("ja:title", {}),
    "detectable_format:nominal_ending": lambda given: ("ja:noun_endings", {"at_least": given["count"]}),
    "letters:furigana": lambda given: ("ja:furigana", {}),
    "letters:kansuuji": lambda given: ("no_digits", {}),
    "letters:no_katakana": lambda given: ("ja:no_katakana", {}),
    "letters:katakana_only": lambda given: ("ja:katakana_only", {}),
    "letters:no_hiragana": lambda given: ("ja:no_hiragana", {}),
    "letters:hiragana_only": lambda given: ("ja:hiragana_only", {}),
    "letters:kanji": lambda given: ("ja:kanji", _range(given, "kanji_limit")),
    "punctuation:no_comma": lambda given: ("without_characters", {"characters": "、"}),
    "punctuation:no_period": lambda given: ("without_characters", {"characters": "。"}),
    "startend:quotation": lambda given: ("wrapped", {"opening": "「", "closing": "」"}),
    "startend:sentence_unified_end": lambda given: ("ja:sentence_end", {"ending": given["ending"]}),
}  # fmt: skip

THEIRS: dict[str, Callable[[Given], Ours]] = {
    **ANY,
    **ENGLISH,
    **{f"en:{name}": ours for name, ours in {**ANY, **ENGLISH}.items()},
    **{f"ja:{name}": ours for name, ours in {**ANY, **JAPANESE}.items()},
}
"""Their ids: the verifier and the arguments that stand for one with its arguments."""


class _Line(TypedDict):
    key: int | str
    prompt: str
    instruction_id_list: list[str]
    kwargs: list[dict[str, Any]]


def read_ifeval(path: Path) -> list[Prompt]:
    """The prompts of a file of IFEval or M-IFEval. Raises DataError with the line of what is wrong; where instructions
    are not known, one that names them all, with how many prompts have them."""
    prompts: list[Prompt] = []
    unknown: dict[str, int] = {}
    for place, content in numbered_lines(path):
        line: _Line = parse_json(content, _Line, place)
        names = line["instruction_id_list"]
        if len(names) != len(line["kwargs"]):
            raise DataError(f"{place}: {len(names)} instructions with arguments for {len(line['kwargs'])}")
        new = [name for name in names if name not in THEIRS]
        for name in new:
            unknown[name] = unknown.get(name, 0) + 1
        if not new:
            pairs = [_ours(name, given, place) for name, given in zip(names, line["kwargs"], strict=True)]
            language = "ja" if any(name.startswith("ja:") for name in names) else "en"
            prompts.append(Prompt(str(line["key"]), line["prompt"], language, checked(pairs, place)))
    if unknown:
        found = ", ".join(f"{name} ({count:,})" for name, count in unknown.items())
        raise DataError(f"{path}: instructions that cannot be checked here: {found}. Take out the lines that have them")
    return unique(prompts, path)


def _ours(name: str, given: Given, place: str) -> Ours:
    try:
        return THEIRS[name]({key: value for key, value in given.items() if value is not None})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{place}: the arguments of {name} are not those of IFEval ({error!r})") from None
