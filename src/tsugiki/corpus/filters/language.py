"""The filter `language`: how many of a document's letters belong to the scripts of its language.

Scripts tell languages apart that are written differently, cheaply and without a model: Japanese from English, Thai from
Korean. They do not tell English from German, and Chinese from Japanese only by the kana (`min_shares`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.filters.codepoints import LETTER, codes_of, letters_of, members

MIN_SHARES: dict[str, dict[str, float]] = {"ja": {"hiragana": 0.1}}
"""What keeps a language apart from another that shares its scripts."""


@dataclass(frozen=True)
class Language:
    """Least share of letters in some scripts taken together, and in single ones."""

    scripts: tuple[str, ...]
    min_share: float
    min_shares: Mapping[str, float] = field(default_factory=dict)

    def failed(self, text: str) -> str | None:
        """The rule that a document breaks, if any. One without a letter has a share of 0."""
        codes = codes_of(text)
        letters = codes[self._letters[codes]]
        if np.count_nonzero(self._own[letters]) < self.min_share * max(len(letters), 1):
            return "min_share"
        for script, least in self.min_shares.items():
            if np.count_nonzero(self._single[script][letters]) < least * max(len(letters), 1):
                return f"min_shares.{script}"
        return None

    def open(self) -> None:
        """Make the tables now, where a process begins its work."""
        _ = self._letters, self._own, self._single

    @cached_property
    def _letters(self) -> NDArray[np.bool_]:
        return members(LETTER)

    @cached_property
    def _own(self) -> NDArray[np.bool_]:
        return members(letters_of(self.scripts))

    @cached_property
    def _single(self) -> dict[str, NDArray[np.bool_]]:
        return {script: members(letters_of([script])) for script in self.min_shares}
