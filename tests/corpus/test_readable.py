"""Pieces on one line, whatever bytes they are made of."""

import pytest
from extended_tokenizers import PAIRS, byte_level_pair

from tsugiki.corpus.readable import readable
from tsugiki.printable import escape_markdown


class Fake:
    """A tokenizer of one piece."""

    def __init__(self, piece: str, text: str):
        self._piece, self._text = piece, text

    def piece(self, token):
        return self._piece

    def decode(self, ids):
        return self._text


@pytest.mark.parametrize(
    ("piece", "text", "shown"),
    [
        ("▁that", "that", "▁that"),  # SentencePiece
        ("川は", "川は", "川は"),
        ("<0xE3>", "\ufffd", "<0xE3>"),
        ("\ufffd", "\ufffd", "\ufffd"),
        ("ãĢ", "\ufffd", "<E3 80>"),  # byte-level
        ("å·Ŀå", "川\ufffd", "川<E5>"),
        ("ĠĠ", "  ", "␣␣"),
        ("Ċ", "\n", "⏎"),
        ("ãĢĢ", "\u3000", "\\u3000"),
        ("Ľ", "\x1b", "\\x1b"),
        ("\u0e31\u0e49", "\u0e31\u0e49", "◌\u0e31\u0e49"),  # Thai vowel and tone without their consonant
        ("\u200d", "\u200d", "\\u200d"),
        ("<s>", "", "<s>"),
    ],
)
def test_readable(piece, text, shown):
    assert readable(Fake(piece, text), 0) == shown


def test_every_piece_of_both_families_is_one_printable_line(tmp_path):
    for make in PAIRS.values():
        _, extended = make(tmp_path / make.__name__)
        for token in range(0, extended.vocabulary_size, 7):
            text = readable(extended, token)
            assert text
            assert text.isprintable()


def test_new_pieces_of_a_byte_level_tokenizer(tmp_path):
    base, extended = byte_level_pair(tmp_path)
    shown = [readable(extended, token) for token in range(base.vocabulary_size, extended.vocabulary_size)]
    assert shown == ["<E5 B7>", "川", "<E3 81>", "は", "<E8 B0>", "谷", "の", "<E3 80>", "。", "<E9 AC>", "鬱", "川は"]


def test_escaped_markdown():
    assert escape_markdown("a|b `c` <E3 80> *x* \\ ja-literature 0.5") == (
        "a\\|b \\`c\\` \\<E3 80\\> \\*x\\* \\\\ ja-literature 0.5"
    )
