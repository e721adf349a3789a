"""What decides the bytes of a prepared source: a recipe's settings, the tokenizer, and the files that were read."""

from typing import NotRequired

import xxhash
from typing_extensions import TypedDict

from tsugiki.corpus.chat_source import chat_parts
from tsugiki.corpus.filters.asked import filter_parts
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError
from tsugiki.recipe import Recipe

RULE_VERSION = 1
"""Of the order of documents, the held-out rule and what surrounds a document. Part of every fingerprint."""


class InputRecord(TypedDict):
    """A file that was read, as the manifest of a prepared source keeps it."""

    name: str
    """Below the folder that the recipe's patterns share: the same where the corpus is moved as a whole."""
    path: str
    size: int
    mtime_ns: int
    digest: str
    commit: NotRequired[str | None]
    """Of a hub data set."""


def boundaries(recipe: Recipe, tokenizer: TextTokenizer) -> tuple[list[int], list[int]]:
    """What stands before and after each document: [BOS] or [], and [EOS] or [].

    Raises DataError when asked for a token that the tokenizer lacks.
    """
    add_bos = tokenizer.default_add_bos if recipe.data.add_bos is None else recipe.data.add_bos
    add_eos = tokenizer.default_add_eos if recipe.data.add_eos is None else recipe.data.add_eos
    return (
        _asked_for(add_bos, tokenizer.bos_id, "add_bos", tokenizer),
        _asked_for(add_eos, tokenizer.eos_id, "add_eos", tokenizer),
    )


def _asked_for(wanted: bool, token: int | None, key: str, tokenizer: TextTokenizer) -> list[int]:
    if wanted and token is None:
        raise DataError(f"data.{key} is true, but the tokenizer in {tokenizer.folder} has no such token")
    return [token] if wanted and token is not None else []


def fingerprint(recipe: Recipe, name: str, tokenizer: TextTokenizer, files: list[InputRecord]) -> str:
    """Of everything that decides the bytes of a prepared source. File contents enter by size and digest."""
    source = recipe.data.sources[name]
    before, after = boundaries(recipe, tokenizer)
    parts = [
        RULE_VERSION, name, tokenizer.fingerprint, bool(before), bool(after), recipe.held_out_share(name),
        source.format, source.text_key, source.encoding, source.hub, source.subset, source.split, source.revision,
        recipe.data.max_document_bytes, recipe.data.split_documents,
        [(entry["name"], entry["size"], entry["digest"]) for entry in files],
    ]  # fmt: skip
    if source.store is not None:
        parts.append("tokenised by another program")
    parts += filter_parts(source)
    if source.is_chat:
        parts += chat_parts(recipe, name, tokenizer.folder)
    return xxhash.xxh3_128_hexdigest(repr(parts).encode())
