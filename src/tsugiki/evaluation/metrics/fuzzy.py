"""The fuzzy ratio that published Japanese tables call "character F1".

It is fuzzywuzzy's `token_sort_ratio` over 100: an edit ratio of the sorted words, rounded to a whole percent. It says
nothing about characters in common ("ab" against "ba" is 0.5), and it deletes accented Latin letters. It is here to
compare with published tables; `squad.character_f1` is what the name promises.
"""

import re

from tsugiki.evaluation.extras import need

_DELETED = dict.fromkeys(range(0x80, 0x100))
_NOT_A_WORD = re.compile(r"\W")


def fuzzy_ratio(prediction: str, reference: str) -> float:
    """Similarity in 0..1, in steps of 0.01, as fuzzywuzzy 0.18 with python-Levenshtein gives it.

    Two texts of which nothing remains (only symbols, say) are equal and score 1; an empty one against another scores 0.
    Raises RecipeError when rapidfuzz is missing.
    """
    first, second = _sorted_words(prediction), _sorted_words(reference)
    if first == second:
        return 1.0
    # rapidfuzz's own token_sort_ratio keeps U+0080–U+00FF and takes "_" for a space. `round` goes to the even
    # neighbour at one half, as there: 62.5 becomes 62.
    return round(need("rapidfuzz.fuzz").ratio(first, second)) / 100


def _sorted_words(text: str) -> str:
    """Lower-case words in order of code points, one space apart. The digits of other scripts are words, "・" is not."""
    return " ".join(sorted(_NOT_A_WORD.sub(" ", text.translate(_DELETED)).lower().split()))
