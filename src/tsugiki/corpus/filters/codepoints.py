"""Text as an array of code points, on which rules are computed without a loop over characters."""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import regex
from numpy.typing import NDArray

CODE_POINTS = 0x110000
LETTER = r"[\p{L}\p{M}\p{Nl}]"
SURROGATES = range(0xD800, 0xE000)


def codes_of(text: str) -> NDArray[np.uint32]:
    """The code points of a text. It holds no lone surrogate: readers replace them."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


@cache
def members(pattern: str) -> NDArray[np.bool_]:
    """Of every code point whether a pattern of one character (of `regex`) matches it."""
    found = np.zeros(CODE_POINTS, bool)
    found[codes_of("".join(regex.findall(pattern, _all_characters())))] = True
    return found


def letters_of(scripts: Iterable[str]) -> str:
    """The pattern of one letter of some scripts, by Script_Extensions: the long-vowel mark is a letter of both kana."""
    own = "".join("\\p{scx=" + script + "}" for script in scripts)
    return f"(?V1)[[{own}]&&{LETTER}]"


@cache
def _all_characters() -> str:
    return np.delete(np.arange(CODE_POINTS, dtype="<u4"), SURROGATES).tobytes().decode("utf-32-le")


def classes(*groups: Callable[[NDArray[np.uint32]], NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Of every code point the number (from 1) of the last group that has it, 0 for none."""
    codes = np.arange(CODE_POINTS, dtype=np.uint32)
    table = np.zeros(CODE_POINTS, np.uint8)
    for number, group in enumerate(groups, 1):
        table[group(codes)] = number
    return table
