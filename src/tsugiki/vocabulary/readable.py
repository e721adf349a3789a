"""A piece as people read it: bytes decoded, nothing that could steer a terminal or break a table."""

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from tsugiki.corpus.audit import MARKS, printable

if TYPE_CHECKING:
    from tsugiki.corpus.tokenizer import TextTokenizer


def readable(tokenizer: "TextTokenizer", token: int) -> str:
    """The text of an id on one line; bytes that are no whole character as `<E3 80>`, a lone combining mark on a
    dotted circle, white space and control characters made visible."""
    piece, text = tokenizer.piece(token), tokenizer.decode([token])
    if "\ufffd" in text or not text:
        text = _decode_letters(piece)
    elif "▁" in piece:
        text = piece  # decoding hides the space that it stands for
    if text and unicodedata.category(text[0]).startswith("M"):
        text = "◌" + text
    runs = re.split("([\udc80-\udcff]+)", text)  # every second one holds bytes that no character was made of
    return "".join(_hexadecimal(run) if index % 2 else printable(run, MARKS) for index, run in enumerate(runs))


def _decode_letters(piece: str) -> str:
    """The text of a piece spelt in the letters that stand for bytes, what is no text as surrogates; another piece as it
    is."""
    letters = byte_letters()
    if not all(letter in letters for letter in piece):
        return piece
    return bytes(letters[letter] for letter in piece).decode("utf-8", "surrogateescape")


def _hexadecimal(surrogates: str) -> str:
    return f"<{surrogates.encode('utf-8', 'surrogateescape').hex(' ').upper()}>"


@cache
def byte_letters() -> dict[str, int]:
    """The byte that each letter stands for in byte-level vocabularies, by GPT-2's rule (openai/gpt-2, `encoder.py`):
    printable Latin-1 stands for itself, the other bytes in order are U+0100 and on."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in themselves]
    return {chr(byte): byte for byte in themselves} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def escape_markdown(text: str) -> str:
    """A line of text that Markdown shows as it is, also in a table: marks that mean something to it get a backslash."""
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", text)
