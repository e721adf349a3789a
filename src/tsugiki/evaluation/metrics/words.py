"""Where words end, for metrics that count words of a language without spaces. The evaluated model has no say in it.

A signature names what the words depend on: the splitter, its dictionary and their version. It stands beside a score.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from tsugiki.errors import RecipeError
from tsugiki.evaluation.extras import need


@dataclass(frozen=True)
class Words:
    """A way to divide text into words."""

    signature: str
    split: Callable[[str], list[str]]


@cache
def words(name: str) -> Words:
    """The words called `mecab`, `nagisa` or `character`; what they need is loaded once, when it is first asked for.

    `mecab`: MeCab with unidic-lite, after NFKC (to UniDic, "ＡＢＣ" and "ABC" are different words).
    `nagisa`: nagisa's own model, which puts text into NFKC and gives an ideographic space for each space.
    `character`: every character that is no space, after NFKC.
    Raises RecipeError for another name or when the extra `eval` is missing.
    """
    if name == "mecab":
        return Words(f"mecab-unidic-lite-{_version('unidic-lite')}-nfkc", _mecab())
    if name == "nagisa":
        wakati = need("nagisa").wakati
        return Words(f"nagisa-{_version('nagisa')}", lambda text: wakati(text.strip()))
    if name == "character":
        return Words("character-nfkc", lambda text: list("".join(_nfkc(text).split())))
    raise RecipeError(f"words can be mecab, nagisa or character, not {name!r}")


def _mecab() -> Callable[[str], list[str]]:
    folder = need("unidic_lite").DICDIR  # named, since fugashi prefers a full UniDic where one is installed
    tagger = need("fugashi").Tagger(f'-O wakati -d "{folder}" -r "{folder}/mecabrc"')
    # MeCab reads up to a NUL
    return lambda text: tagger.parse(_nfkc(text).replace("\0", " ")).split()


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _version(distribution: str) -> str:
    need(distribution.replace("-", "_"))
    return version(distribution)
