"""A piece as people read it: bytes decoded, nothing that could steer a terminal or break a table."""

import re
import unicodedata
from typing import TYPE_CHECKING

from tsugiki.corpus.byte_alphabet import bytes_of
from tsugiki.printable import printable

if TYPE_CHECKING:
    from tsugiki.corpus.tokenizer import TextTokenizer

_MARKS = {"\n": "⏎", "\t": "⇥", " ": "␣", "\u3000": "\\u3000"}
"""How white space shows in a piece."""


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
    return "".join(_hexadecimal(run) if index % 2 else printable(run, _MARKS) for index, run in enumerate(runs))


def _decode_letters(piece: str) -> str:
    """The text of a piece spelt in the letters that stand for bytes, what is no text as surrogates; another piece as it
    is."""
    data = bytes_of(piece)
    return piece if data is None else data.decode("utf-8", "surrogateescape")


def _hexadecimal(surrogates: str) -> str:
    return f"<{surrogates.encode('utf-8', 'surrogateescape').hex(' ').upper()}>"
