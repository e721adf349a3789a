"""The language of an answer, told by its script, by letters that one language alone has, and by its commonest words.

It serves whole answers, a sentence or longer, in the languages that instructions of this kind ask for; it is no general
detector. A word of another language (a name, a term) changes nothing.
"""

from collections import Counter

import regex

SCRIPTS = {
    "Hangul": "ko", "Thai": "th", "Hebrew": "he", "Bengali": "bn", "Gurmukhi": "pa", "Gujarati": "gu", "Tamil": "ta",
    "Telugu": "te", "Kannada": "kn", "Malayalam": "ml", "Greek": "el",
}  # fmt: skip
"""Scripts that are written in one language among those told apart here."""
SHARED = ("Latin", "Cyrillic", "Arabic", "Devanagari")
KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
LETTER = regex.compile(r"\p{L}")
WORD = regex.compile(r"[\p{L}\p{M}']+")

OWN_LETTERS = {
    "Cyrillic": {"uk": "іїєґ", "ru": "ыэё"},
    "Arabic": {"ur": "ٹڈڑںےھ", "fa": "پچژگک"},
    "Devanagari": {"mr": "ळ"},
}  # fmt: skip
"""Letters that tell a language from the others of its script; the first language with one of them is taken."""
WITHOUT_OWN = {"Cyrillic": "bg", "Arabic": "ar"}
"""The language of a script that has no letter of its own."""

WORDS = {
    "Latin": {
        "en": "the of and to in is it that for was on are as with his they at be this have from or by not but what all "
        "were when we there can an your which their will if do how about my our you he she i has a no any so its them "
        "been would who out up more than only also use very into because these must write",
        "fr": "le la les de des et en un une est que qui dans pour pas sur au aux ce il elle nous vous je du avec son "
        "sa ses sont plus par mais ou cette à",
        "de": "der die das und ist in den von zu mit sich auf für nicht es ein eine als auch dem des an wir ich sie er "
        "aus bei oder werden wird haben sind",
        "es": "el la los las de y en que un una es por con para su se no del al lo como más pero sus este está son muy "
        "todo nos",
        "it": "il lo la gli le di e è che un una per con non si in del della dei delle sono ma come più anche questo "
        "nel ha al",
        "pt": "o os as de e que um uma é em para com não do da dos das no na por mais se como mas ao são você muito "
        "também a",
        "nl": "de het een en van is in op dat te zijn met voor niet aan er ook om als maar bij wordt naar uit ik je",
        "vi": "và là của có trong cho không được một những các với người này khi đã để tôi bạn như ở rất nhiều",
        "fi": "ja on ei se että oli hän mutta ovat kun myös joka tai niin sekä ole voi kuin olla minä tämä sen hyvin",
        "pl": "i w na się z nie do jest że to jak po co tak za od przez dla ale są jego który być oraz może o",
        "sw": "ya na wa kwa ni katika la za kuwa hii au kama lakini pia watu hiyo yake sana mtu cha vya huo wao",
        "id": "yang dan di untuk dengan ini itu dari dalam tidak pada adalah akan juga ke bisa atau anda saya",
        "sv": "och att det är en som på för av med den till inte har om ett jag var så de",
        "tr": "ve bir bu için da de ile çok olarak daha gibi var olan kadar en ne ama o her",
    },
    "Devanagari": {
        "hi": "है हैं और का की के में को से पर यह एक नहीं भी कि था थी थे लिए जो हम आप अपने तो ने हो",
        "mr": "आहे आहेत आणि मध्ये हे ही तो ते या एक नाही साठी च्या होते होता केले आपण मी तुम्ही खूप करण्यासाठी",
        "ne": "छ छन् र को मा हो यो पनि लागि गर्न भएको तर हामी तपाईं एक थियो गरेको हुन्छ लाई ले धेरै",
    },
}  # fmt: skip
LISTS = {script: {code: frozenset(words.split()) for code, words in lists.items()} for script, lists in WORDS.items()}
ENOUGH = 0.1
"""The share of words that must be among the commonest of a language: running text of each has more than twice that."""


def language_of(text: str) -> str | None:
    """The code (ISO 639-1) of the language that most of a text is in; None where nothing tells."""
    script = _script(text)
    if script in ("Han", "Hiragana", "Katakana"):
        return "ja" if KANA.search(text) else "zh"
    if script not in SHARED:
        return SCRIPTS.get(script or "")
    lowered = text.lower()
    for code, letters in OWN_LETTERS.get(script, {}).items():
        if any(letter in lowered for letter in letters):
            return code
    return WITHOUT_OWN.get(script) or _by_words(lowered, LISTS[script])


def _script(text: str) -> str | None:
    """The script of most letters. A kanji or kana says as much as three letters of an alphabet."""
    counts: Counter[str] = Counter()
    for script in (*SHARED, *SCRIPTS, "Han", "Hiragana", "Katakana"):
        found = len(regex.findall(rf"\p{{{script}}}", text))
        counts[script] = found * (3 if script in ("Han", "Hiragana", "Katakana") else 1)
    counts["Han"] += counts.pop("Hiragana") + counts.pop("Katakana")
    script, found = counts.most_common(1)[0]
    return script if found else None


def _by_words(lowered: str, lists: dict[str, frozenset[str]]) -> str | None:
    words = set(WORD.findall(lowered))  # a word said often says no more of the language
    shares = {code: sum(word in common for word in words) / max(1, len(words)) for code, common in lists.items()}
    best = max(shares, key=lambda code: shares[code])
    return best if shares[best] >= ENOUGH else None
