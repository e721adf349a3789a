"""Where Japanese words end, by MeCab: the word-boundary-aware training text that Swallow learned its pieces from."""

from collections.abc import Callable
from itertools import pairwise

from tsugiki.errors import RecipeError
from tsugiki.vocabulary.pieces import Base


def word_divider(base: Base) -> Callable[[str], list[str]]:
    """A function that divides a stretch of text, spelled as the base's vocabulary spells it, where words end.

    Raises RecipeError when the extra `ja` is missing.
    """
    try:
        import fugashi

        tagger = fugashi.Tagger("-O wakati")
    except (ImportError, RuntimeError):  # the library, or its dictionary
        raise RecipeError("vocabulary.split_words needs: pip install 'tsugiki[ja]'") from None

    def divide(spelling: str) -> list[str]:
        text = base.text_of(spelling)
        if text is None:
            return [spelling]
        # One letter a character, or (byte-level vocabularies) one a byte.
        length = len if len(text) == len(spelling) else _bytes_in
        ends, at = [0], 0
        for word in tagger.parse(text).split():
            start = text.find(word, at)
            if start < 0:
                return [spelling]
            at = start + len(word)
            ends.append(length(text[:at]))
        ends[-1] = len(spelling)
        return [spelling[start:end] for start, end in pairwise(ends)] or [spelling]

    return divide


def _bytes_in(text: str) -> int:
    return len(text.encode())
