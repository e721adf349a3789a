"""All filters of a source in one: what a process that tokenises asks of each document."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.buckets import RECORD
from tsugiki.corpus.filters.contamination import Index, Stretch
from tsugiki.corpus.filters.figures import Found, excerpt
from tsugiki.corpus.filters.language import Language
from tsugiki.corpus.filters.length import Length
from tsugiki.corpus.filters.quality import Quality
from tsugiki.corpus.filters.signatures import Signature, exact_hash

ODD = ("control characters", "U+FFFD", "mojibake")
"""What `workers.odd_in` may find."""


@dataclass(frozen=True)
class EvaluationIndex:
    """Where the index of the evaluation sets lies, and what it holds."""

    folder: Path
    stretch: Stretch
    sets: tuple[str, ...]


class Kept(NamedTuple):
    """A document that no rule for itself alone removes: its text, in UTF-8 too, and what is odd about it."""

    text: str
    content: bytes
    odd: list[str]


@dataclass(frozen=True)
class Judge:
    """The filters of one source; None: not asked for. It travels to every process as it is, and opens there."""

    length: Length | None = None
    quality: Quality | None = None
    language: Language | None = None
    compares: bool = False
    """Whether documents are compared with each other, at least as a whole."""
    near: Signature | None = None
    evaluation: EvaluationIndex | None = None

    def open(self) -> None:
        """Make tables and open the index, before the first document."""
        if self.language:
            self.language.open()
        if self.evaluation:
            self._index.find("")

    def removed_by(self, text: str, size: int) -> str | None:
        """`FILTER.RULE` of the rule that removes a document of so many bytes for itself alone, if any does."""
        for name, rule in (
            ("length", self.length and self.length.failed(len(text), size)),
            ("quality", self.quality and self.quality.failed(text)),
            ("language", self.language and self.language.failed(text)),
        ):
            if rule:
                return f"{name}.{rule}"
        return None

    @property
    def record(self) -> np.dtype:
        """RECORD, and what else is kept of a document where some are removed once all are known: `hit` is the number
        of the evaluation set, from 1; `odd` says what is odd about it."""
        found: list[tuple] = []
        if self.evaluation:
            found.append(("hit", "<u2"))
        if self.compares:
            found.append(("exact", "<u8"))
        if self.near:
            found.append(("keys", "<u8", (self.near.buckets,)))
        return np.dtype([*RECORD.descr, *([("odd", "u1")] if found else []), *found])

    def mark(self, records: NDArray[np.void], kept: Sequence[Kept]) -> list[Found]:
        """Fill the further fields of the records of documents that stay, whose own fields are filled; returns what they
        hold of evaluation sets."""
        names = records.dtype.names or ()
        if "odd" in names:
            records["odd"] = [sum(1 << ODD.index(name) for name in one.odd) for one in kept]
        if "exact" in names:
            records["exact"] = [exact_hash(one.content) for one in kept]
        if self.near and kept:
            records["keys"] = np.stack([self.near.keys(one.text) for one in kept])
        found: list[Found] = []
        if self.evaluation:
            for row, one in enumerate(kept):
                if hit := self._index.find(one.text):
                    records["hit"][row] = hit.set_number + 1
                    file, line = int(records["file"][row]), int(records["line"][row])
                    name = self.evaluation.sets[hit.set_number]
                    found.append({"set": name, "file": file, "line": line, "text": excerpt(hit.text)})
        return found

    @cached_property
    def _index(self) -> Index:
        assert self.evaluation is not None
        return Index(self.evaluation.folder, self.evaluation.stretch)


def odd_names(bits: int) -> list[str]:
    """What is odd about a document, as a record has it."""
    return [name for place, name in enumerate(ODD) if bits >> place & 1]
