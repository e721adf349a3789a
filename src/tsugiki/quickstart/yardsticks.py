"""The yardsticks of the quickstart's table: what two parameterless models make of the same text.

Both are scored on exactly the held-out documents that the model was scored on, and are given as much of each source's
training text as the model has read: all of it where the run reads the source once or more, else as many documents.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tsugiki.corpus.prepared import SourceManifest, source_directory
from tsugiki.corpus.records import Document
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.yardsticks import WINDOW_BYTES, unigram_bits_per_byte, xz_bits_per_byte
from tsugiki.files import read_json, write_json
from tsugiki.quickstart.corpora import Corpus, read_file
from tsugiki.recipe import Recipe

LEAST_BYTES = 100_000
"""Of training text, for a source that the run hardly reads."""


def measure(
    directory: Path, corpora: Sequence[Corpus], read: Mapping[str, float], documents: int
) -> dict[str, dict[str, float]]:
    """By source: `xz` and `unigram` bits per byte of its first `documents` held-out documents given `read` bytes of its
    training text.

    Kept in `yardsticks.json` (compressing takes about two seconds a megabyte).
    """
    path = directory / "yardsticks.json"
    found: dict[str, dict[str, float]] = read_json(path) if path.exists() else {}
    for corpus in corpora:
        if corpus.name not in found:
            prepared = directory / "data" / "base" / corpus.name
            limit = int(min(max(read[corpus.name], LEAST_BYTES), WINDOW_BYTES))
            training = "\n".join(training_texts(prepared, corpus, limit)).encode()
            held_out = "\n".join(scored_texts(prepared, corpus, documents)).encode()
            found[corpus.name] = {
                "xz": xz_bits_per_byte(training, held_out),
                "unigram": unigram_bits_per_byte(training, held_out),
                "training_bytes": len(training),
            }
            write_json(path, found)
    return found


def bytes_read(recipes: Sequence[Recipe]) -> dict[str, float]:
    """UTF-8 bytes of each source's text that these runs draw, one after the other."""
    read: dict[str, float] = {}
    for recipe in recipes:
        tokens = (recipe.training.max_steps or 0) * recipe.training.global_batch_size * recipe.data.sequence_length
        total = sum(source.weight for source in recipe.data.sources.values())
        for name, source in recipe.data.sources.items():
            train = SourceManifest.read(source_directory(recipe, name) / "manifest.json").train
            read[name] = read.get(name, 0.0) + source.weight / total * tokens * train.bytes / train.tokens
    return read


def training_texts(prepared: Path, corpus: Corpus, limit: int) -> list[str]:
    """Texts from the beginning of the training store (which is in random order) up to `limit` bytes, in the order of
    the files."""
    rows = TokenStore(prepared / "train").documents()
    count = int(np.searchsorted(np.cumsum(rows["bytes"]), limit)) + 1
    return _texts(corpus, rows[:count])


def scored_texts(prepared: Path, corpus: Corpus, documents: int) -> list[str]:
    """Texts of the first documents of the held-out store, in the order of the files."""
    return _texts(corpus, TokenStore(prepared / "held_out").documents(0, documents))


def _texts(corpus: Corpus, rows: np.ndarray) -> list[str]:
    """Documents of a store (rows of `corpus.store.DOCUMENT`), found again in the files by line."""
    texts = []
    for index, path in enumerate(corpus.files()):
        lines = set(rows["line"][rows["file"] == index].tolist())
        for item in read_file(path) if lines else ():
            if isinstance(item, Document) and item.line in lines:
                texts.append(item.text)
    return texts
