"""What is read, where it takes more than one key to judge: sources, conversations, what pieces are learned from.

Problems are given as in `recipe_checks`. Nothing reads a corpus.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from tsugiki.recipe import Recipe, SourceSection
from tsugiki.recipe_chat import ChatSection
from tsugiki.recipe_corpus import CorpusSection
from tsugiki.recipe_filters import LengthSection, QualitySection
from tsugiki.scripts import TargetCharacters, check_script, scripts_of
from tsugiki.shapes import Path, Problem


def source_problems(recipe: Recipe) -> Iterator[Problem]:
    """Every contradiction among the keys of `vocabulary` and `data`, but for its stages and ranges."""
    yield from _vocabulary(recipe)
    yield from _sources(recipe)
    yield from _filters(recipe)
    yield from _chat(recipe)


def _vocabulary(recipe: Recipe) -> Iterator[Problem]:
    vocabulary = recipe.vocabulary
    if vocabulary is None:
        return
    here: Path = ("vocabulary",)
    if (vocabulary.target_size is None) == (vocabulary.add is None):
        yield Problem(here, "needs a size: give one of target_size and add")
    if (vocabulary.language is None) == (not vocabulary.scripts):
        yield Problem(here, "needs characters: give one of language (e.g. ja) and scripts")
    try:
        if vocabulary.language is not None:
            TargetCharacters.of_language(vocabulary.language)
    except ValueError as error:
        yield Problem((*here, "language"), str(error))
    for index, script in enumerate(vocabulary.scripts or []):
        try:
            TargetCharacters([script])
        except ValueError as error:
            yield Problem((*here, "scripts", index), str(error))
    if recipe.model.architecture is not None:
        yield Problem(here, "extends a model that has been trained; with model.architecture there is none")
    for index, name in enumerate(vocabulary.sources or []):
        if name not in recipe.data.sources:
            yield Problem(
                (*here, "sources", index),
                f"no source has the name {name}; sources are {', '.join(recipe.data.sources)}",
            )
        elif recipe.data.sources[name].is_chat:
            yield Problem((*here, "sources", index), f"{name} holds conversations; pieces are learned from text")
        elif recipe.data.sources[name].store is not None:
            yield Problem((*here, "sources", index), f"{name} holds tokens (store); pieces are learned from text")
    if not vocabulary.learns_from(recipe) and not vocabulary.corpora:
        yield Problem(
            here, "has nothing to learn from: name sources, give corpora, or give the sources of this language their "
            "`language`",
        )  # fmt: skip
    for name, corpus in vocabulary.corpora.items():
        if name in recipe.data.sources:
            yield Problem((*here, "corpora", name), "is the name of a source already; list it under sources")
        yield from _corpus((*here, "corpora", name), corpus)
    if vocabulary.split_words and vocabulary.language != "ja":
        yield Problem((*here, "split_words"), "knows the words of Japanese only (language: ja)")


def _sources(recipe: Recipe) -> Iterator[Problem]:
    sources = recipe.data.sources
    if not any(source.weight > 0 for source in sources.values()):
        yield Problem(("data", "sources"), "all weights are 0: give at least one source a weight above 0")
    folded: dict[str, str] = {}
    for name, source in sources.items():
        here: Path = ("data", "sources", name)
        twin = folded.setdefault(name.lower(), name)
        if twin != name:
            yield Problem(here, f"differs from {twin} in case only, which some file systems do not tell apart")
        yield from _corpus(here, source) if source.store is None else _store(here, source)
        if source.store_held_out is not None and source.store is None:
            yield Problem((*here, "store_held_out"), "belongs beside store; of path and hub give held_out a share")
        if source.weight == 0 and not _drawn_later(recipe, name) and not recipe.holds_out(name):
            yield Problem(
                (*here, "weight"),
                "is 0 in every stage and nothing is held out: the source would never be used; remove it, "
                "or give held_out a share to watch it",
            )


def _filters(recipe: Recipe) -> Iterator[Problem]:
    """Filters that could remove nothing, or not know what."""
    for name, source in recipe.data.sources.items():
        here: Path = ("data", "sources", name, "filters")
        filters = source.filters
        if not filters.is_empty and (source.is_chat or source.store is not None):
            what = "conversations are" if source.is_chat else "tokens (store) are"
            yield Problem(here, f"belong to text; {what} not filtered: remove them")
        if filters.length is not None:
            if filters.length == LengthSection():
                yield Problem((*here, "length"), "removes nothing: give min_characters, or another of its keys")
            for unit in ("characters", "bytes"):
                least, most = (getattr(filters.length, f"{end}_{unit}") for end in ("min", "max"))
                if least is not None and most is not None and least > most:
                    yield Problem((*here, "length", f"max_{unit}"), f"{most:,} is less than min_{unit}, {least:,}")
        if filters.quality is not None and filters.quality == QualitySection():
            yield Problem((*here, "quality"), "removes nothing: give preset: swallow-v1 (Japanese), or rules")
        if filters.language is not None:
            for key in ("scripts", "min_shares"):
                for script in getattr(filters.language, key) or ():
                    try:
                        check_script(script)
                    except ValueError as error:
                        yield Problem((*here, "language", key), str(error))
        if filters.language is not None and not filters.language.scripts:
            if source.language is None:
                yield Problem((*here, "language"), "whose? give the source its `language` (ja, en …), or scripts here")
            elif scripts_of(source.language) is None:
                yield Problem(
                    (*here, "language"), f"the scripts of {source.language} are not known here: name them in scripts"
                )


def _chat(recipe: Recipe) -> Iterator[Problem]:
    """Keys of conversations without conversations, and keys of text with them."""
    chat, text_key = recipe.data.chat, SourceSection.model_fields["text_key"].default
    for name, source in recipe.data.sources.items():
        here: Path = ("data", "sources", name)
        if source.is_chat and source.text_key != text_key:
            yield Problem((*here, "text_key"), "belongs to text; a conversation's keys are known: remove it")
        if source.loss_on is not None and not source.is_chat:
            yield Problem((*here, "loss_on"), f"belongs to conversations (format: chat); format is {source.format}")
        if source.loss_weight != 1 and not recipe.has_chat:
            yield Problem((*here, "loss_weight"), "needs a source with format: chat; text alone has one weight")
    drawn = any(source.is_chat and (source.weight > 0 or _drawn_later(recipe, name))
                for name, source in recipe.data.sources.items())  # fmt: skip
    if recipe.training.loss_normalization == "conversation" and not drawn:
        yield Problem(
            ("training", "loss_normalization"),
            "conversation counts every conversation once, and none is trained on: leave it out (token), or give the "
            "source of the conversations format: chat and a weight above 0",
        )
    if chat != ChatSection() and not recipe.has_chat:
        key = next(key for key, value in ChatSection() if getattr(chat, key) != value)
        yield Problem(("data", "chat", key), "belongs to conversations; no source has format: chat")
    if chat.add_template_tokens and chat.template is None:
        yield Problem(
            ("data", "chat", "add_template_tokens"),
            "adds the markers of a named template: name it in template (the tokenizer's own has its markers)",
        )
    if chat.add_template_tokens and recipe.model.architecture is not None:
        yield Problem(
            ("data", "chat", "add_template_tokens"),
            "adds rows to a model that has been trained; with model.architecture give a tokenizer that has the markers",
        )


def _drawn_later(recipe: Recipe, name: str) -> bool:
    return any(stage.weights.get(name, 0) > 0 for stage in recipe.data.stages)


def _store(here: Path, source: SourceSection) -> Iterator[Problem]:
    """Of tokens that another program wrote, keys that would do nothing."""
    for key in ("path", "hub"):
        if getattr(source, key) is not None:
            yield Problem((*here, key), "excludes store: give one of them, or make two of it")
    if source.is_chat:
        yield Problem((*here, "format"), "chat needs texts; store holds tokens, of which nothing says what is trained")
    if source.held_out:
        yield Problem((*here, "held_out"), "chooses texts; store holds tokens: give store_held_out a store of its own")


def _corpus(here: Path, corpus: CorpusSection) -> Iterator[Problem]:
    if corpus.path is not None and corpus.hub is not None:
        yield Problem((*here, "hub"), "excludes path: give one of them, or make two of it")
    if corpus.path is None and corpus.hub is None:
        yield Problem(here, "names no data: give path (files or patterns) or hub (a data set id)")
    if corpus.hub is None:
        for key in ("subset", "revision"):
            if getattr(corpus, key) is not None:
                yield Problem((*here, key), "belongs to a hub data set; this one has none")
    try:
        text_codec = codecs.lookup(corpus.encoding)._is_text_encoding
    except (LookupError, ValueError):
        text_codec = False
    if not text_codec:
        yield Problem((*here, "encoding"), f"{corpus.encoding} is not a text encoding that Python knows")
