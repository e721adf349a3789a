"""All filters of a source in one: what a process that tokenises asks of each document."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.filters.contamination import Hit, Index, Stretch
from tsugiki.corpus.filters.language import Language
from tsugiki.corpus.filters.length import Length
from tsugiki.corpus.filters.quality import Quality
from tsugiki.corpus.filters.signatures import Signature, exact_hash


@dataclass(frozen=True)
class EvaluationIndex:
    """Where the index of the evaluation sets lies, and what it holds."""

    folder: Path
    stretch: Stretch
    sets: tuple[str, ...]


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
    def fields(self) -> list[tuple]:
        """What is kept of each document that stays, as fields of a record: `hit` is the number of the evaluation set,
        from 1."""
        found: list[tuple] = []
        if self.evaluation:
            found.append(("hit", "<u2"))
        if self.compares:
            found.append(("exact", "<u8"))
        if self.near:
            found.append(("keys", "<u8", (self.near.buckets,)))
        return found

    def mark(self, records: NDArray[np.void], texts: list[str], contents: list[bytes]) -> list[Hit | None]:
        """Fill the fields of the documents that stay; returns the stretch of an evaluation set in each, if there is
        one."""
        hits: list[Hit | None] = [None] * len(texts)
        if self.evaluation:
            hits = [self._index.find(text) for text in texts]
            records["hit"] = [hit.set_number + 1 if hit else 0 for hit in hits]
        if self.compares:
            records["exact"] = [exact_hash(content) for content in contents]
        if self.near and texts:
            records["keys"] = np.stack([self.near.keys(text) for text in texts])
        return hits

    @cached_property
    def _index(self) -> Index:
        assert self.evaluation is not None
        return Index(self.evaluation.folder, self.evaluation.stretch)
