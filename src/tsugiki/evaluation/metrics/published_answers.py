"""Answers read from outputs exactly as the published evaluations read them, faults included.

Where a rule loses a right answer (a full-width digit, "1.5.2") it is kept: these functions exist so that a number
compares with published tables. `answers.py` reads the same outputs properly.
"""

import re
import string
import unicodedata
from collections.abc import Sequence

_ASCII_NUMBER = re.compile(r"-?[0-9.,]+")
_AFTER_HASHES = re.compile(r"#### (-?[0-9.,]+)")
_UP_TO_HASHES = re.compile(r"(?s).*#### ")
_FINAL_POINT = re.compile(r"\.$")
_NO_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)

INVALID = "[invalid]"
"""What lm-eval's filter gives where its pattern finds nothing."""


def llm_jp_eval_answer(output: str) -> str:
    """llm-jp-eval 1.3: what stands before the first blank line, stripped, in NFKC. References go through NFKC, too."""
    return unicodedata.normalize("NFKC", output.split("\n\n")[0].strip())


def mgsm_number(output: str) -> int | None:
    """The last ASCII number of an output, if its value is a whole one (jp harness 0.3, MGSM).

    Full-width and kanji digits are not seen; commas go wherever they stand; a full stop or comma that stands alone is
    the last "number". Where the original raises an exception, the answer is None.
    """
    numbers = _ASCII_NUMBER.findall(output)
    try:
        value = float(numbers[-1].strip(".").replace(",", ""))
    except (IndexError, ValueError):
        return None
    return int(value) if value.is_integer() else None


def gsm8k_strict_answer(output: str) -> str:
    """The number after the first "#### ", as it stands, or `INVALID` (lm-eval's gsm8k, filter strict-match)."""
    found = _AFTER_HASHES.search(output)
    return found.group(1) if found else INVALID


def gsm8k_equal(answer: str, rationale: str) -> bool:
    """Whether an extracted answer equals the reference (a worked solution that ends in "#### N"), by lm-eval's rules.

    Commas, dollar signs, all that precedes "#### " and a final full stop are taken from both sides, in this order.
    """
    return _gsm8k_text(answer) == _gsm8k_text(rationale)


def triviaqa_equal(prediction: str, aliases: Sequence[str]) -> bool:
    """Whether a stripped output equals one of the aliases but for case and ASCII punctuation (lm-eval's triviaqa)."""
    return _bare(prediction.strip()) in map(_bare, aliases)


def _gsm8k_text(text: str) -> str:
    text = text.replace(",", "").replace("$", "")
    return _FINAL_POINT.sub("", _UP_TO_HASHES.sub("", text)).lower()


def _bare(text: str) -> str:
    return text.lower().translate(_NO_ASCII_PUNCTUATION)
