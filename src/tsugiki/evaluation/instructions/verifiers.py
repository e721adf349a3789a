"""All verifiers by their ids: those of any language, then English ones (en:) and Japanese ones (ja:)."""

from collections.abc import Callable

from tsugiki.evaluation.instructions import common, english, japanese
from tsugiki.evaluation.instructions.verifier import Verifier, verifier_of

COMMON: dict[str, Callable[..., bool]] = {
    "keywords": common.keywords, "keyword_count": common.keyword_count, "forbidden": common.forbidden,
    "letter_count": common.letter_count, "without_characters": common.without_characters,
    "no_digits": common.no_digits, "bullets": common.bullets, "numbered_list": common.numbered_list,
    "lines": common.lines, "paragraphs": common.paragraphs, "divided": common.divided,
    "two_answers": common.two_answers, "paragraph_starts": common.paragraph_starts,
    "starts_with": common.starts_with, "ends_with": common.ends_with, "wrapped": common.wrapped,
    "repeats": common.repeats, "one_of": common.one_of, "json": common.json_value, "table": common.table,
    "code_block": common.code_block, "headings": common.headings, "no_markup": common.no_markup,
    "labels": common.labels, "listed": common.listed, "placeholders": common.placeholders,
    "questions": common.questions, "sections": common.sections, "postscript": common.postscript,
    "language": common.language,
}  # fmt: skip
ENGLISH: dict[str, Callable[..., bool]] = {
    "words": english.words, "sentences": english.sentences, "sentence_words": english.sentence_words,
    "capitals": english.capitals, "lowercase": english.lowercase, "capital_words": english.capital_words,
    "no_contractions": english.no_contractions, "sentence_starts": english.sentence_starts,
    "acrostic": english.acrostic, "same_letter": english.same_letter, "no_word_twice": english.no_word_twice,
    "highlights": english.highlights, "title": english.title,
}  # fmt: skip
JAPANESE: dict[str, Callable[..., bool]] = {
    "characters": japanese.characters, "sentences": japanese.sentences,
    "sentence_characters": japanese.sentence_characters, "polite": japanese.polite, "plain": japanese.plain,
    "sentence_end": japanese.sentence_end, "noun_endings": japanese.noun_endings, "kanji": japanese.kanji,
    "hiragana_only": japanese.hiragana_only, "katakana_only": japanese.katakana_only,
    "no_hiragana": japanese.no_hiragana, "no_katakana": japanese.no_katakana, "no_latin": japanese.no_latin,
    "kana_count": japanese.kana_count, "furigana": japanese.furigana,
    "full_width_digits": japanese.full_width_digits, "quotations": japanese.quotations, "title": japanese.title,
    "highlights": japanese.highlights, "beats": japanese.beats,
}  # fmt: skip

VERIFIERS: dict[str, Verifier] = {
    name: verifier_of(name, function)
    for name, function in {
        **COMMON,
        **{f"en:{name}": function for name, function in ENGLISH.items()},
        **{f"ja:{name}": function for name, function in JAPANESE.items()},
    }.items()
}
