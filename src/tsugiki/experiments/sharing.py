"""What trials share: the extended vocabulary and the token stores, each made once for all trials that would make the
same.

Trials are compared by what their recipes say; each stage still compares its own fingerprint, which also covers the
files. A folder that the recipe itself names is used by the trials that would fill it as the recipe does, so that what
is there already is not made again; all others get folders in the experiment's own place.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from tsugiki.recipe import Recipe
from tsugiki.recipe_corpus import CorpusSection

READ_FROM = {"path", "hub", "subset", "split", "revision", "text_key", "format", "encoding", "store", "store_held_out"}


class Places(NamedTuple):
    """Where a trial finds what it shares."""

    prepared_dir: Path
    vocabulary_dir: Path | None
    """None for a recipe without the section."""


def assign(base: Recipe, recipes: Sequence[Recipe], shared: Path) -> list[Places]:
    """The places of each recipe, below `shared` where the base recipe names none that fits."""
    settings: dict[tuple[str, str], set[str]] = {}
    for recipe in recipes:
        for name in recipe.data.sources:
            settings.setdefault((_tokenizer(recipe), name), set()).add(stored_as(recipe, name))

    def places(recipe: Recipe) -> Places:
        tokenizer = _tokenizer(recipe)
        # Sources of one name that are prepared in two ways cannot lie in one folder; any others can.
        several = {name: stored_as(recipe, name) for name in recipe.data.sources if len(settings[tokenizer, name]) > 1}
        prepared = shared / "data" / _digest([tokenizer, several])
        if base.data.prepared_dir is not None and _prepared_alike(recipe, base):
            prepared = base.data.prepared_dir
        if recipe.vocabulary is None:
            return Places(prepared, None)
        vocabulary = shared / "vocabulary" / _digest(_vocabulary(recipe))
        named = base.vocabulary.output_dir if base.vocabulary is not None else None
        if named is not None and _vocabulary(recipe) == _vocabulary(base):
            vocabulary = named
        return Places(prepared, vocabulary)

    return [places(recipe) for recipe in recipes]


def stored_as(recipe: Recipe, source: str) -> str:
    """What decides the text in a source's stores, as text that can be compared."""
    data = recipe.data
    parts = [_read_from(data.sources[source]), recipe.held_out_share(source), data.add_bos, data.add_eos,
             data.max_document_bytes]  # fmt: skip
    if data.sources[source].is_chat:  # what is longer than a window is divided
        parts += [data.chat.model_dump(mode="json"), data.sources[source].loss_on, data.sequence_length]
    return json.dumps(parts)


def _prepared_alike(recipe: Recipe, base: Recipe) -> bool:
    return _tokenizer(recipe) == _tokenizer(base) and all(
        name in base.data.sources and stored_as(recipe, name) == stored_as(base, name) for name in recipe.data.sources
    )


def _tokenizer(recipe: Recipe) -> str:
    """What decides the tokenizer."""
    model, vocabulary = recipe.model, recipe.vocabulary
    parts: list[Any] = [model.name_or_path, model.revision, model.tokenizer]
    if recipe.data.chat.add_template_tokens:
        parts.append(recipe.data.chat.template)
    if vocabulary is not None:
        learned = {name: recipe.data.sources[name] for name in vocabulary.learns_from(recipe)}
        parts += [
            vocabulary.model_dump(mode="json", exclude={"output_dir", "sources", "corpora", "initialise", "noise"}),
            {name: [_read_from(corpus), recipe.held_out_share(name)] for name, corpus in learned.items()},
            {name: [_read_from(corpus), recipe.data.held_out] for name, corpus in vocabulary.corpora.items()},
            recipe.data.max_document_bytes,
        ]
    return json.dumps(parts)


def _vocabulary(recipe: Recipe) -> list[Any]:
    """What decides the extended model; its new rows are drawn by the seed."""
    assert recipe.vocabulary is not None
    return [_tokenizer(recipe), recipe.vocabulary.initialise, recipe.vocabulary.noise, recipe.seed]


def _read_from(corpus: CorpusSection) -> dict[str, Any]:
    return corpus.model_dump(mode="json", include=READ_FROM)


def _digest(parts: Any) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(parts).encode())[:8]
