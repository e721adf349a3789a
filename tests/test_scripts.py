"""Characters of scripts, against Unicode's names and counts of them, and the languages that are known by code."""

import unicodedata
from itertools import chain

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.scripts import LANGUAGES, TargetCharacters

JAPANESE = TargetCharacters.of_language("ja")
EVERY = [chr(code) for code in chain(range(0xD800), range(0xE000, 0x30000))]
WORDS = {
    "ja": "日本語のカタカナー々", "zh": "汉语漢語", "ko": "한국어漢字", "th": "ภาษาไทย", "lo": "ພາສາລາວ", "km": "ភាសាខ្មែរ",
    "my": "မြန်မာဘာသာ", "bo": "བོདསྐད", "ru": "Русский", "uk": "Українська", "kk": "Қазақ", "mn": "Монгол", "el": "Ελληνικά",
    "he": "עברית", "ar": "العربية", "fa": "فارسی", "ur": "اردو", "hi": "हिन्दी", "bn": "বাংলা", "pa": "ਪੰਜਾਬੀ",
    "gu": "ગુજરાતી", "or": "ଓଡ଼ିଆ", "ta": "தமிழ்", "te": "తెలుగు", "kn": "ಕನ್ನಡ", "ml": "മലയാളം", "si": "සිංහල",
    "ka": "ქართული", "hy": "Հայերեն", "am": "አማርኛ", "dv": "ދިވެހި",
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_letters_and_leaves_english_alone(language):
    target = TargetCharacters.of_language(language)
    for script in LANGUAGES[language]:
        assert sum(map(target.is_letter, regex.findall(rf"\p{{Script={script}}}", "".join(EVERY)))) >= 24
    assert not any(map(target.is_target, map(chr, range(0x250))))
    assert not target.occur_in("“The rivers’ naïve café” – 12 € … \u0301")


@pytest.mark.parametrize("language", WORDS)
def test_a_word_of_the_language_is_one_run(language):
    target = TargetCharacters.of_language(language)
    assert target.runs(f"x{WORDS[language]}x") == [WORDS[language]]
    assert target.targets(f"x{WORDS[language]}x") == list(WORDS[language])


def test_japanese_letters_and_marks_are_those_that_unicode_names_so():
    letters = (
        "HIRAGANA LETTER",
        "KATAKANA LETTER",
        "CJK UNIFIED IDEOGRAPH",
        "CJK COMPATIBILITY IDEOGRAPH",
        "HALFWIDTH KATAKANA LETTER",
    )
    for character in EVERY:
        name = unicodedata.name(character, "")
        if name.startswith(letters):
            assert JAPANESE.is_letter(character), name
        if name.startswith(("LATIN", "GREEK", "CYRILLIC", "HANGUL", "BOPOMOFO")) and ord(character) >= 0x3040:
            assert not JAPANESE.is_target(character), name
        if name.startswith(("FULLWIDTH", "IDEOGRAPHIC")) and ord(character) < 0x16000:
            assert JAPANESE.is_target(character), name
            assert not JAPANESE.is_letter(character) or not name.startswith("FULLWIDTH"), name
    assert all(JAPANESE.is_target(chr(code)) for code in range(0x3000, 0x3040))
    assert all(map(JAPANESE.is_letter, "ー々〆ゝヽ〇"))
    assert not any(map(JAPANESE.is_letter, "。、「」・　！Ａ１〜"))


@pytest.mark.parametrize(
    "names",
    [("Hira", "Kana", "Hani"), ("HIRAGANA", "Katakana", "han")],
)
def test_a_script_is_the_same_under_each_of_its_names(names):
    target = TargetCharacters(names)
    assert not target.words_are_spaced
    assert [target.is_target(c) for c in EVERY] == [JAPANESE.is_target(c) for c in EVERY]
    assert [target.is_letter(c) for c in EVERY] == [JAPANESE.is_letter(c) for c in EVERY]


def test_scripts_of_two_words_are_known():
    assert TargetCharacters(["canadian_aboriginal"]).runs("the ᐃᓄᒃᑎᑐᑦ") == [" ᐃᓄᒃᑎᑐᑦ"]
    assert TargetCharacters(["Meetei Mayek"]).is_letter("ꯃ")


@pytest.mark.parametrize(
    "script",
    ["latin", "Latin", "LATN", "latn", "la tin", "common", "Zyyy", "zyyy", "inherited", "Zinh", "Qaai", "Zzzz"],
)
def test_scripts_that_english_is_written_with_are_refused(script):
    with pytest.raises(ValueError, match="holds characters of English"):
        TargetCharacters(["han", script])


@pytest.mark.parametrize("script", ["", "ja", "kanji", "L", "han}", "han|latin", r"han}\p{Latin", "_", "漢"])
def test_what_is_no_script_is_refused(script):
    with pytest.raises(ValueError, match="is not a script of Unicode"):
        TargetCharacters([script])


@pytest.mark.parametrize("language", ["en", "vi", "JA", "", "japanese"])
def test_a_language_without_scripts_of_its_own_is_refused(language):
    with pytest.raises(ValueError, match="name its scripts instead"):
        TargetCharacters.of_language(language)


@pytest.mark.parametrize(
    ("language", "text", "runs"),
    [
        ("ru", "Мир, и мир\nМосква 2 river", ["Мир", " и", " мир", "Москва"]),
        ("ko", "한국어 漢字를 쓴다.", ["한국어", " 漢字를", " 쓴다"]),
        ("ja", "川 は、Tシャツ\n谷", ["川", "は", "シャツ", "谷"]),
        ("th", "ภาษา ไทย", ["ภาษา", "ไทย"]),
        ("zh", "汉语 漢語", ["汉语", "漢語"]),
    ],
)
def test_runs_take_the_space_before_a_word_where_words_are_spaced(language, text, runs):
    assert TargetCharacters.of_language(language).runs(text) == runs


@pytest.mark.parametrize(("language", "mark"), [("th", "฿"), ("hi", "\u0951"), ("ka", "\u10fb")])
def test_the_block_of_a_script_is_whole(language, mark):
    target = TargetCharacters.of_language(language)
    assert target.is_target(mark)
    assert not target.is_letter(mark)


def test_code_points_that_are_no_characters_yet_are_none_of_a_block():
    assert not JAPANESE.is_target("\u3040")


@given(st.text(st.sampled_from("川は谷アー。、「Ａａ1 x\n\u3000ｱﾞ々é\u0301한ж")))
def test_the_views_of_a_text_agree(text):
    targets = [character for character in text if JAPANESE.is_target(character)]
    assert JAPANESE.targets(text) == targets
    assert JAPANESE.occur_in(text) == bool(targets)
    runs = JAPANESE.runs(text)
    assert "".join(runs) == "".join(filter(JAPANESE.is_letter, text))
    assert all(run in text for run in runs)
    assert JAPANESE.is_target("Ａ")
    assert set("".join(runs)) <= set(targets)
