"""A source of text while it is prepared: what is asked of it, what is read, and the folder that is filled."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsugiki.corpus.buckets import Buckets
from tsugiki.corpus.filters.asked import Filters
from tsugiki.corpus.fingerprint import boundaries, fingerprint
from tsugiki.corpus.inputs import Deal, SourceDocuments
from tsugiki.corpus.megatron import token_dtype
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.unfinished import key_of
from tsugiki.recipe import Recipe


@dataclass(frozen=True)
class TextSource:
    """All that the steps of its preparation have in common."""

    recipe: Recipe
    tokenizer: TextTokenizer
    documents: SourceDocuments
    filters: Filters
    folder: Path
    """Where stores are written, and what waits for them."""

    @property
    def name(self) -> str:
        """Of the source."""
        return self.documents.name

    @property
    def boundaries(self) -> tuple[list[int], list[int]]:
        """What stands before and after each document."""
        return boundaries(self.recipe, self.tokenizer)

    def key(self, deal: Deal) -> str:
        """Of all that decides what the buckets of a part of the work hold, but for what is in the files."""
        asked = fingerprint(self.recipe, self.name, self.tokenizer, []) + self.filters.digest
        return key_of(asked, self.documents, deal)

    def buckets(self, bits: int, *, sizes: Sequence[int] | None = None, beside: Sequence[Path] = ()) -> Buckets:
        """The buckets of its documents in `folder`: new ones, or (`sizes`) to go on with."""
        record, dtype = self.filters.judge.record, token_dtype(self.tokenizer.vocabulary_size)
        return Buckets(self.folder, bits, record=record, dtype=dtype, sizes=sizes, beside=beside)
