"""Where Japanese words end, by MeCab: the word-boundary-aware training text that Swallow learned its pieces from."""

from collections.abc import Callable

from tsugiki.errors import RecipeError


def japanese_words() -> Callable[[str], list[str]]:
    """A function that divides text into words. Raises RecipeError when the extra `ja` is missing."""
    try:
        import fugashi
    except ImportError:
        raise RecipeError("vocabulary.split_words needs: pip install 'tsugiki[ja]'") from None
    tagger = fugashi.Tagger("-O wakati")

    def words(text: str) -> list[str]:
        return tagger.parse(text).split()

    return words
