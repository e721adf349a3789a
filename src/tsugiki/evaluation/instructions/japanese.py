"""Verifiers of instructions for Japanese text."""

import regex

from tsugiki.evaluation.instructions.text import QUOTED, lines, within
from tsugiki.evaluation.instructions.text import japanese_sentences as sentences_of
from tsugiki.evaluation.instructions.verifier import Character, Text

END_MARKS = '。．！？!?」』）)"” '
POLITE = regex.compile(
    r"(?:です|ます|でした|ました|ません|ませんでした|ましょう|でしょう|ください|下さい|ございます)(?:か|ね|よ|よね|が|けど|から|ので)?$"
)
PLAIN_POLITE = regex.compile(r"(?:です|ます|でした|ました|ません|ましょう|でしょう|ください|下さい)")
DE_ARU = regex.compile(
    r"(?:である|であった|だ|だった|であろう|だろう|ではない|ない|なかった|[うくぐすつぬぶむるただい])(?:か|から|ため)?$"
)
NOUN_END = regex.compile(r"(?:[\p{Han}\p{Katakana}ー]|こと|もの|とき|ところ|ため|はず|わけ|それ|これ|ここ|そこ)$")
STOPPED = regex.compile(r"[。．！？!?][」』）)\"”]*$")
SMALL = "ゃゅょぁぃぅぇぉゎャュョァィゥェォヮ"
"""Kana that make one beat with the one before them; っ, ん and ー are beats of their own."""
FURIGANA = regex.compile(r"\p{Han}+(?:[（(][\p{Hiragana}ー]+[）)])?")


def _ends(sentences: list[str]) -> list[str]:
    """Sentences without their stops, and without quotations inside them, as far as their ends are concerned."""
    return [_without_quotations(sentence).rstrip(END_MARKS) for sentence in sentences]


def _stopped(text: str) -> list[str]:
    """The sentences that have a stop: a heading, an address or a signature has no style. All where none has one."""
    found = sentences_of(text)
    return [sentence for sentence in found if STOPPED.search(sentence)] or found


def _without_quotations(sentence: str) -> str:
    """A sentence that is one quotation keeps its words."""
    rest = QUOTED.sub("", sentence)
    return rest if rest.strip(END_MARKS) else sentence


def characters(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of characters, punctuation included, spaces and line breaks not."""
    return within(len("".join(text.split())), at_least, at_most)


def sentences(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of sentences."""
    return within(len(sentences_of(text)), at_least, at_most)


def sentence_characters(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of characters of every sentence, its stop included."""
    return all(within(len(sentence), at_least, at_most) for sentence in sentences_of(text))


def polite(text: str) -> bool:
    """Every sentence ends as です・ます style does."""
    return all(POLITE.search(end) for end in _ends(_stopped(text)))


def plain(text: str) -> bool:
    """である style: every sentence ends in である, だ or another plain form, and none is polite."""
    ends = _ends(_stopped(text))
    return all(DE_ARU.search(end) and not PLAIN_POLITE.search(end[-6:]) for end in ends)


def sentence_end(text: str, *, ending: Text) -> bool:
    """Every sentence ends with the same words."""
    ends = _ends(_stopped(text))
    return bool(ends) and all(end.endswith(ending) for end in ends)


def noun_endings(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of sentences that end in a noun (体言止め), told by their last characters: kanji, katakana, or a
    formal noun such as こと."""
    return within(sum(bool(NOUN_END.search(end)) for end in _ends(sentences_of(text))), at_least, at_most)


def kanji(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of kanji; `at_most` 0 forbids them."""
    return within(len(regex.findall(r"\p{Han}", text)), at_least, at_most)


def hiragana_only(text: str) -> bool:
    """No letter but hiragana; punctuation and digits are let pass."""
    return not regex.search(r"[^\P{L}\p{Hiragana}ー]", text) and bool(regex.search(r"\p{Hiragana}", text))


def katakana_only(text: str) -> bool:
    """No letter but katakana; punctuation and digits are let pass."""
    return not regex.search(r"[^\P{L}\p{Katakana}ー]", text) and bool(regex.search(r"\p{Katakana}", text))


def no_hiragana(text: str) -> bool:
    """No hiragana."""
    return not regex.search(r"\p{Hiragana}", text)


def no_katakana(text: str) -> bool:
    """No katakana, of either width."""
    return not regex.search(r"\p{Katakana}", text)


def no_latin(text: str) -> bool:
    """No Latin letters, of either width."""
    return not regex.search(r"\p{Latin}", text)


def kana_count(text: str, *, kana: Character, at_least: int | None = None, at_most: int | None = None) -> bool:
    """How often a hiragana occurs, the katakana of the same sound counted with it."""
    katakana = chr(ord(kana) + 0x60)
    return within(text.count(kana) + text.count(katakana), at_least, at_most)


def furigana(text: str) -> bool:
    """Every run of kanji is followed by its reading in brackets; there is at least one."""
    found = FURIGANA.findall(text)
    return bool(found) and all(one[-1] in "）)" for one in found)


def full_width_digits(text: str) -> bool:
    """Digits are full-width ones, and there is one."""
    return bool(regex.search(r"[０-９]", text)) and not regex.search(r"[0-9]", text)


def quotations(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of passages in 「」."""
    return within(len(regex.findall(r"「[^「」]+」", text)), at_least, at_most)


def title(text: str) -> bool:
    """A title in 『』."""
    return regex.search(r"『[^\n『』]*[^\s『』][^\n『』]*』", text) is not None


def highlights(text: str, *, at_least: int | None = None, at_most: int | None = None) -> bool:
    """The number of passages in 《》."""
    return within(len(regex.findall(r"《[^\n《》]*[^\s《》][^\n《》]*》", text)), at_least, at_most)


def beats(text: str, *, pattern: list[int]) -> bool:
    """Lines in kana with these numbers of beats, such as 5, 7 and 5 of a haiku."""
    found = [regex.sub(r"[\s　、。！？「」]", "", line) for line in lines(text)]
    return all(regex.fullmatch(r"[\p{Hiragana}\p{Katakana}ー]+", line) for line in found) and pattern == [
        sum(kana not in SMALL for kana in line) for line in found
    ]
