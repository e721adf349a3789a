"""Which characters a new language is written with, by Unicode script.

*Letters* make up new pieces. *Marks* (the script's own punctuation, digits and symbols, and for East Asian languages
the full-width forms) get at most a piece of their own. Whatever is neither is text that the base knows, and its ids
must not change.

Scripts are those of Script_Extensions (Unicode Standard Annex 24), so that the long-vowel mark, which kana share,
belongs to both. Characters that Latin shares with a script are left out of it, unless they stand in the block of the
script's name: one sign of the baht would else keep all letters of Thai from having their first two bytes to themselves.
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

LATIN = ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "pl", "cs", "hu", "ro", "tr", "id", "vi")
"""Languages in Latin letters: their text can be told from others', but no pieces are learned for it."""

UNASSIGNED = regex.compile(r"\p{Cn}")
EAST_ASIAN = {"hiragana", "katakana", "han", "hangul", "bopomofo"}
WITHOUT_SPACES = {"hiragana", "katakana", "han", "bopomofo", "thai", "lao", "khmer", "myanmar", "tibetan"}
"""Scripts whose words have no spaces between them. Korean puts spaces around words in han too."""
EXAMPLES = {
    "hiragana": "あ", "katakana": "ア", "han": "漢", "hangul": "한", "bopomofo": "ㄅ", "thai": "ก", "lao": "ກ",
    "khmer": "ក", "myanmar": "က", "tibetan": "ཀ", "devanagari": "अ", "georgian": "ა",
}  # fmt: skip
"""A letter of each of these, by which a script is known under any of its names (Hira, hiragana, HIRAGANA)."""
SHARED = "A1\u0301\u0378"
"""A character of each script that other text shares: Latin, common, inherited, unassigned."""
WIDE_FORMS = r"\u3000-\u303F\uFF00-\uFFEF"
"""CJK Symbols and Punctuation; Halfwidth and Fullwidth Forms."""


class TargetCharacters:
    """The characters of some scripts. Raises ValueError for a script that Unicode does not know, and for Latin."""

    def __init__(self, scripts: Iterable[str]):
        self.scripts = tuple(scripts)
        names = {_common_name(script) for script in self.scripts}
        any_script = "".join(rf"\p{{scx={script}}}" for script in self.scripts)
        marks = "".join(map(_block, names)) + (WIDE_FORMS if EAST_ASIAN & names else "")
        letters = rf"[[{any_script}]--[\p{{scx=Latin}}\x00-\x7F]]"
        kinds = r"[\p{L}\p{M}\p{Nl}]"
        self._letter = regex.compile(rf"(?V1)[{letters}&&{kinds}]")
        self._target = regex.compile(rf"(?V1)[{letters}{marks}]")
        self._other = regex.compile(rf"(?V1)[^{letters}{marks}\p{{Cn}}]")
        self.words_are_spaced = not WITHOUT_SPACES & (names - {"han"} if "hangul" in names else names)
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

    def others_beginning_with(self, start: bytes) -> list[str]:
        """Characters that are no target and whose UTF-8 begins with some bytes, the first of a character's.

        Code points that Unicode has not assigned are no characters.
        """
        length = 2 if start[0] < 0xE0 else 3 if start[0] < 0xF0 else 4
        bits = start[0] & (0xFF >> (length + 1))
        for byte in start[1:]:
            bits = bits << 6 | byte & 0x3F
        open_bits = 6 * (length - len(start))
        codes = range(bits << open_bits, min((bits + 1) << open_bits, 0x110000))
        return self._other.findall("".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000))

    def occur_in(self, text: str) -> bool:
        """Whether a text has any letter or mark. The ids of a text that has none must stay as the base gives them."""
        return self._target.search(text) is not None

    def targets(self, text: str) -> list[str]:
        """Every letter and mark in a text, in order."""
        return self._target.findall(text)

    def runs(self, text: str) -> list[str]:
        """The longest stretches of letters in a text, in order; where words are spaced, with the space before them."""
        return self._runs.findall(text)


def _common_name(script: str) -> str:
    """The name in `EXAMPLES` of a script that is there, else the one given. Raises ValueError for one that is none, or
    that holds characters of other languages."""
    try:
        if not regex.fullmatch(r"[A-Za-z_ ]*[A-Za-z]", script):
            raise ValueError
        belongs = regex.compile(rf"\p{{Script={script}}}")
    except (ValueError, regex.error):
        raise ValueError(f"{script!r} is not a script of Unicode; examples are {', '.join(LANGUAGES['ja'])}") from None
    if any(map(belongs.match, SHARED)):
        raise ValueError(f"{script!r} holds characters of English and other text: their ids could not be kept")
    return next((name for name, letter in EXAMPLES.items() if belongs.match(letter)), script)


def _block(script: str) -> str:
    """The class of the characters in the block that has a script's name; nothing where there is none."""
    try:
        regex.compile(rf"\p{{Block={script}}}")
    except regex.error:
        return ""
    return rf"[\p{{Block={script}}}--\p{{Cn}}]"


def scripts_of(language: str) -> tuple[str, ...] | None:
    """The scripts of a language by its ISO 639-1 code, Latin among them; None where they are not known here."""
    return LANGUAGES.get(language) or (("latin",) if language in LATIN else None)


def check_script(script: str) -> None:
    """Raise ValueError for what Unicode does not know as a script; Latin is one."""
    try:
        if not regex.fullmatch(r"[A-Za-z_ ]*[A-Za-z]", script):
            raise ValueError
        regex.compile(rf"\p{{scx={script}}}")
    except (ValueError, regex.error):
        raise ValueError(f"{script!r} is not a script of Unicode; examples are latin, hiragana, han") from None
