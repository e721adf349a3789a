"""Fertility: how many tokens a tokenizer takes for a text, and how often it uses each of its ids.

Documents are encoded whole, as `prepare` encodes them, without BOS and EOS. Characters are Unicode code points and
bytes those of UTF-8, so tokenizers can be compared on any text. Each core encodes documents in a thread of its own (the
libraries let go of Python's lock), with no more memory than the documents at hand: on two cores 2.5 M characters a
second with a byte-level tokenizer, more with SentencePiece.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tsugiki.errors import DataError

if TYPE_CHECKING:
    from tsugiki.corpus.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Fertility:
    """Counts over some documents. They add up; the quotients are nan where nothing was counted."""

    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    documents: int = 0

    def __add__(self, other: "Fertility") -> "Fertility":
        return Fertility(
            self.tokens + other.tokens, self.characters + other.characters, self.bytes + other.bytes,
            self.documents + other.documents,
        )  # fmt: skip

    @property
    def tokens_per_character(self) -> float:
        return self.tokens / self.characters if self.characters else math.nan

    @property
    def characters_per_token(self) -> float:
        return self.characters / self.tokens if self.tokens else math.nan

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens if self.tokens else math.nan

    def to_json(self) -> dict[str, Any]:
        """Counts and quotients; a quotient that is not defined is null."""
        quotients = {
            name: None if math.isnan(value := getattr(self, name)) else value
            for name in ("tokens_per_character", "characters_per_token", "bytes_per_token")
        }
        return asdict(self) | quotients


Measured = tuple[Fertility, NDArray[np.int64]]
"""Fertility, and how often each id was used ([vocabulary size])."""


def measure(tokenizer: "TextTokenizer", texts: Iterable[str]) -> Measured:
    """What a tokenizer makes of some documents, read once and one by one."""
    return measure_together([tokenizer], texts)[0]


def measure_together(tokenizers: "Sequence[TextTokenizer]", texts: Iterable[str]) -> list[Measured]:
    """As `measure`, for several tokenizers in one pass over the documents.

    `texts` is read by whichever thread needs the next document, never by two at a time. What it raises is raised here.
    """
    documents, lock, stop = iter(texts), Lock(), Event()

    def work() -> list[Measured]:
        fertilities = [Fertility()] * len(tokenizers)
        uses = [np.zeros(tokenizer.vocabulary_size, np.int64) for tokenizer in tokenizers]
        while not stop.is_set():
            with lock:
                text = next(documents, None)
            if text is None:
                break
            size = len(text.encode())
            for index, tokenizer in enumerate(tokenizers):
                ids = tokenizer.encode_array(text)
                fertilities[index] += Fertility(len(ids), len(text), size, 1)
                np.add.at(uses[index], ids, 1)  # bincount would cost the whole vocabulary for each short document
        return list(zip(fertilities, uses, strict=True))

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        try:
            parts = [pool.submit(work) for _ in range(threads)]
            wait(parts, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()  # after an error or Ctrl-C the other threads end with the document at hand
    results = [part.result() for part in parts]
    return [
        (sum((fertility for fertility, _ in mine), Fertility()), sum(uses for _, uses in mine))
        for mine in zip(*results, strict=True)
    ]


@dataclass(frozen=True)
class Comparison:
    """Several tokenizers on the same text. Both mappings keep the order in which they were asked for."""

    sizes: dict[str, int]
    """Ids of each tokenizer, by its name."""
    sources: dict[str, dict[str, Fertility]]
    """By source, then by tokenizer."""

    @property
    def total(self) -> dict[str, Fertility]:
        """Over all sources, by tokenizer."""
        return {name: sum((source[name] for source in self.sources.values()), Fertility()) for name in self.sizes}

    def to_json(self) -> dict[str, Any]:
        return {
            "vocabulary_sizes": self.sizes,
            "sources": {
                source: {name: fertility.to_json() for name, fertility in figures.items()}
                for source, figures in self.sources.items()
            },
            "total": {name: fertility.to_json() for name, fertility in self.total.items()},
        }


def compare(tokenizers: "Mapping[str, TextTokenizer]", texts: Mapping[str, Iterable[str]]) -> Comparison:
    """Measure every tokenizer (by name) on every source of documents (by name).

    Raises DataError for a source that holds no text.
    """
    sources = {}
    for source, documents in texts.items():
        measured = measure_together(list(tokenizers.values()), documents)
        sources[source] = {name: fertility for name, (fertility, _) in zip(tokenizers, measured, strict=True)}
        if not next(iter(sources[source].values())).tokens:
            raise DataError(f"{source}: no text in it; name files that hold documents")
    return Comparison({name: tokenizer.vocabulary_size for name, tokenizer in tokenizers.items()}, sources)


def draw_comparison(comparison: Comparison) -> Table:
    """A line a source and tokenizer; the last column holds its tokens against the first tokenizer's."""
    first = next(iter(comparison.sizes))
    table = Table(title="Tokens for the same text (fewer a character is better)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("text", overflow="fold")
    table.add_column("tokenizer", overflow="fold")
    for heading in ("vocabulary", "tokens per\ncharacter", "bytes per\ntoken", "against\nthe first"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = list(comparison.sources.items())
    if len(rows) > 1:
        rows.append(("all", comparison.total))
    for source, figures in rows:
        for name, fertility in figures.items():
            table.add_row(
                Text(source if name == first else ""), Text(name), f"{comparison.sizes[name]:,}",
                f"{fertility.tokens_per_character:.3f}", f"{fertility.bytes_per_token:.2f}",
                f"{fertility.tokens / figures[first].tokens:.3f}",
            )  # fmt: skip
        table.add_section()
    return table
