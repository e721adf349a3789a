"""Which characters a new language is written with, by Unicode script.

*Letters* make up new pieces. *Marks* (the script's own punctuation, digits and symbols, and for East Asian languages
the full-width forms) get at most a piece of their own, and are no part of longer ones. Whatever is neither is text that
the base knows, and its ids must not change.

Scripts are those of Script_Extensions (Unicode Standard Annex 24), so that the long-vowel mark, which kana share,
belongs to both. Characters that Latin shares with a script are left out of it.
"""

from collections.abc import Iterable

import regex

LANGUAGES: dict[str, tuple[str, ...]] = {
    "ja": ("hiragana", "katakana", "han"), "zh": ("han",), "ko": ("hangul", "han"), "th": ("thai",), "lo": ("lao",),
    "km": ("khmer",), "my": ("myanmar",), "bo": ("tibetan",), "ru": ("cyrillic",), "uk": ("cyrillic",),
    "be": ("cyrillic",), "bg": ("cyrillic",), "sr": ("cyrillic",), "mk": ("cyrillic",), "kk": ("cyrillic",),
    "ky": ("cyrillic",), "tg": ("cyrillic",), "tt": ("cyrillic",), "mn": ("cyrillic",), "el": ("greek",),
    "he": ("hebrew",), "yi": ("hebrew",), "ar": ("arabic",), "fa": ("arabic",), "ur": ("arabic",), "ps": ("arabic",),
    "ug": ("arabic",), "hi": ("devanagari",), "mr": ("devanagari",), "ne": ("devanagari",), "sa": ("devanagari",),
    "bn": ("bengali",), "as": ("bengali",), "pa": ("gurmukhi",), "gu": ("gujarati",), "or": ("oriya",),
    "ta": ("tamil",), "te": ("telugu",), "kn": ("kannada",), "ml": ("malayalam",), "si": ("sinhala",),
    "ka": ("georgian",), "hy": ("armenian",), "am": ("ethiopic",), "ti": ("ethiopic",), "dv": ("thaana",),
}  # fmt: skip
"""Scripts of languages by their ISO 639-1 code."""

EAST_ASIAN = {"hiragana", "katakana", "han", "hangul", "bopomofo"}
WITHOUT_SPACES = {"hiragana", "katakana", "han", "bopomofo", "thai", "lao", "khmer", "myanmar", "tibetan"}
WIDE_FORMS = r"\u3000-\u303F\uFF00-\uFFEF"
"""CJK Symbols and Punctuation; Halfwidth and Fullwidth Forms."""


class TargetCharacters:
    """The characters of some scripts. Raises ValueError for a script that Unicode does not know, and for Latin."""

    def __init__(self, scripts: Iterable[str]):
        self.scripts = tuple(scripts)
        for script in self.scripts:
            try:
                known = bool(regex.compile(rf"\p{{Script={script}}}")) and script.isalpha()
            except regex.error:
                known = False
            if not known:
                raise ValueError(f"{script!r} is not a script of Unicode; examples are {', '.join(LANGUAGES['ja'])}")
            if script.lower() in ("latin", "common", "inherited", "zyyy", "zinh", "latn"):
                raise ValueError(f"{script!r} holds characters of English: its ids could not be kept")
        any_script = "".join(rf"\p{{scx={script}}}" for script in self.scripts)
        wide = WIDE_FORMS if EAST_ASIAN & {script.lower() for script in self.scripts} else ""
        letters = rf"[[{any_script}]--[\p{{scx=Latin}}\x00-\x7F]]"
        kinds = r"[\p{L}\p{M}\p{Nl}]"
        self._letter = regex.compile(rf"(?V1)[{letters}&&{kinds}]")
        self._target = regex.compile(rf"(?V1)[{letters}{wide}]")
        self.words_are_spaced = not WITHOUT_SPACES & {script.lower() for script in self.scripts}
        self._runs = regex.compile(rf"(?V1){' ?' if self.words_are_spaced else ''}[{letters}&&{kinds}]+")

    @classmethod
    def of_language(cls, language: str) -> "TargetCharacters":
        """The characters of a language of `LANGUAGES`. Raises ValueError for another."""
        if language not in LANGUAGES:
            raise ValueError(f"{language!r} is not a language with scripts of its own here: name its scripts instead")
        return cls(LANGUAGES[language])

    def is_letter(self, character: str) -> bool:
        """Whether a character may be part of a longer piece."""
        return self._letter.fullmatch(character) is not None

    def is_target(self, character: str) -> bool:
        """Whether a character is a letter or a mark: one that may have a piece of its own."""
        return self._target.fullmatch(character) is not None

    def occur_in(self, text: str) -> bool:
        """Whether a text has any letter or mark. The ids of a text that has none must stay as the base gives them."""
        return self._target.search(text) is not None

    def targets(self, text: str) -> list[str]:
        """Every letter and mark in a text, in order."""
        return self._target.findall(text)

    def runs(self, text: str) -> list[str]:
        """The longest stretches of letters in a text, in order; where words are spaced, with the space before them."""
        return self._runs.findall(text)
