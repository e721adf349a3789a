"""Where Japanese words end, by MeCab: the word-boundary-aware training text that Swallow learned its pieces from."""

from collections.abc import Callable
from itertools import pairwise

from tsugiki.errors import RecipeError


def word_divider() -> Callable[[str], list[str]]:
    """A function that divides text where words end; its parts joined are the text.

    Raises RecipeError when the extra `ja` is missing.
    """
    try:
        import fugashi

        tagger = fugashi.Tagger("-O wakati")
    except (ImportError, RuntimeError):  # the library, or its dictionary
        raise RecipeError("vocabulary.split_words needs: pip install 'tsugiki[ja]'") from None

    def divide(text: str) -> list[str]:
        ends = [0]
        for word in tagger.parse(text).split():  # MeCab takes spaces away
            start = text.find(word, ends[-1])
            if start < 0:
                return [text]
            ends.append(start + len(word))
        ends[-1] = len(text)
        return [text[start:end] for start, end in pairwise(ends)] or [text]

    return divide
