"""Strings that tokenizers stumble over, each with a name that says what is in it."""

from collections.abc import Iterable, Iterator

LONG = 100_000
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"

STRINGS: dict[str, str] = {
    "nothing": "",
    "emoji with joiners": f"{FAMILY}{FAMILY} \U0001f3f4\u200d\u2620\ufe0f",
    "emoji with modifiers": "\U0001f44d\U0001f3fd \U0001f1ef\U0001f1f5 1\ufe0f\u20e3",
    "emoji between letters": f"a{FAMILY}b 川{FAMILY}川",
    "combining marks": "e\u0301e\u0301 a\u0300\u0301\u0302\u0303\u0304 Z\u0335\u0321\u034d\u0348 o\u0308\u0304",
    "combining marks of kana": "か\u3099き\u309aく\u3099 は\u309a カ\u3099",
    "letters of Hangul, composed and not": "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165",
    "marks of other scripts": "क्षत्रिय किताब ภาษาไทย ที่ मुंबई العَرَبِيَّة עִבְרִית",
    "half-width forms": "ﾊﾝｶｸ ｶﾞｷﾞｸﾞ ﾊﾟﾋﾟ ｡｢｣､･ ｱｲｳabc",
    "full-width forms": "ＡＢＣ ａｂｃ １２３ ！？（）　全角",
    "compatibility forms": "㍿ ㌔ ㈱ ① Ⅳ ﬁ ½ K Å ℡ 豈 \U0002f800 ﷺ",
    "Latin letters with marks": "Ångström naïve Żółć İstanbul ß ǅ ĳ",
    "variation selectors": "葛\U000e0100城 辻\U000e0101 ❤\ufe0f ❤\ufe0e 〆\ufe00",
    "rare kanji": "𠮷野家 𩸽 \U00020000\U0002a6d6 \U00030000",
    "control characters": "".join(map(chr, range(0x20))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "control characters between letters": "".join(f"a{chr(code)}" for code in range(0x20)),
    "NUL": "\0",
    "NUL between letters": "a\0b\0\0川\0",
    "separators and marks of direction": "a\u2028b\u2029c\u0085d\u00a0e\u3000f\u200bg\u2060\u00adi\u202ej\u202ck\u200f",
    "byte order mark": "\ufeffabc\ufeff川",
    "private use": "\ue000\uf8ff \U000f0000 \U0010fffd",
    "unassigned": "\u0378 \U000e0fff \ufffd \ufffe \uffff \U0010ffff",
    "sign for a space": "▁",
    "signs for a space": "▁▁ ▁ a▁b 川▁川▁",
    "spellings of bytes": "<0x41> <0x0A><0xE3><0x81><0x82> <0x00>川",
    "markup like control tokens": "<s>a</s> <unk> <pad> <|endoftext|> <|im_start|>user [INST] x [/INST] <<SYS>>",
    "control tokens without spaces": "<s><s>川</s></s>\n<s>a</s>",
    "tabs": "\t\ta\tb\t\t\tc\t",
    "line ends": "a\nb\n\n\nc\n \n  \n\n    d\n",
    "line ends of Windows and old Macs": "a\r\nb\r\n\r\nc\rd\r\r川\r\n",
    "mixed scripts": "Java言語でHello、世界!привет мир שלום 123川45あaアA ΑΒΓ 한국 中文ไทย",
    "mixed scripts without spaces": "aあbいc川dЖeשfไ1ー2ｱ3Ａ",
    "digits": "0123456789 1,234,567.89 ٣٤٥ 一二三 １２３ 1e-5",
    "code": "def f(x):\n\treturn {'a': x[0] ** 2}  # 計算\n\nif __name__ == '__main__':\n    print(f(1))\n",
    "space at both ends": "  a  ",
    "space before other scripts": " 川 あ　い  う\t え",
    "a long word": "a" * LONG,
    "a long run of kana": "あ" * LONG,
    "a long run of kanji": "日本語文字列" * (LONG // 6),
    "a long run of spaces": " " * LONG,
    "a long run of digits": "1234567890" * (LONG // 10),
    "a long run of emoji": FAMILY * (LONG // 5),
    "a long line": "The river remembers the valley; 川は谷を覚えている。" * (LONG // 44),
}  # fmt: skip


def adversarial_strings(control_tokens: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names and strings: those above, runs of 1 to 40 spaces, and every control token of a tokenizer as text."""
    yield from STRINGS.items()
    for count in range(1, 41):
        spaces = " " * count
        yield f"{count} spaces", f"{spaces}a{spaces}b{spaces}\n{spaces}川{spaces}川{spaces}"
        yield f"{count} spaces in a text without others", f"{spaces}a{spaces}b{spaces}\n{spaces}"
    for token in sorted(control_tokens):
        yield f"the control token {token}", f"{token}a{token} {token}{token}\nb{token}川{token}"
        yield f"the control token {token} in a text without others", f"{token} a{token}b {token}"
