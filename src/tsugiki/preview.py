"""Training samples shown before step 1: what `tsugiki validate` and `tsugiki sample` print.

A wrong text key, a missing BOS or EOS, a control string or a wrong shift is seen here. Prepared stores that are up to
date are read as training will read them; without them the first documents of each source are tokenised into a
temporary store, so that validating needs no preparing.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tsugiki.corpus.audit import ChatReading, describe_sample, render_sample
from tsugiki.corpus.chat_source import chat_tokenizer, conversation_encoder
from tsugiki.corpus.conversation_excerpt import Extent, excerpt_store, template_segments
from tsugiki.corpus.conversation_text import MarkedLine
from tsugiki.corpus.fingerprint import boundaries
from tsugiki.corpus.foreign_store import foreign_manifest
from tsugiki.corpus.held_out import below, check_held_out, enough_to_hold_out, held_out_draw
from tsugiki.corpus.inputs import SourceDocuments
from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.pack_table import make_packs
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.planned import describe_plan
from tsugiki.corpus.prepared import Counts, open_prepared, open_stores
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import is_ready
from tsugiki.corpus.windows import WindowReader
from tsugiki.errors import DataError, RecipeError
from tsugiki.files import read_json
from tsugiki.lora_size import about_lora
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps
from tsugiki.recipe_inputs import load_base_tokenizer, load_tokenizer, tokenizer_before_markers
from tsugiki.recipe_length import describe_length, in_steps
from tsugiki.vocabulary.made_from import folder_here, is_made
from tsugiki.vocabulary.template_tokens import markers_to_add, write_tokenizer

PREVIEW_DOCUMENTS = 200
"""Of each source that are looked at, and more where they do not fill the windows that are shown."""
PREVIEW_CHARACTERS = 1_000_000
"""Of each source at most, or what surely fills a window where that is more."""
DRAW = [("draw", np.uint64), ("bytes", np.int64)]
"""Of a document what decides whether it is held out, and its size."""
CHARACTERS_A_TOKEN = 16
"""More than a token of ordinary text stands for (about 4 in English)."""


@dataclass(frozen=True)
class _Excerpt:
    """The first documents of a source, with what `corpus.audit` asks of a prepared one."""

    train: TokenStore
    manifest: Any
    documents: SourceDocuments | None = None
    """None of what another program tokenised."""


@dataclass(frozen=True)
class _Files:
    files: list[dict[str, Any]]


def preview_samples(recipe: Recipe, count: int) -> Iterator[str | MarkedLine]:
    """Lines that show the first `count` training samples, inputs beside targets, and the planned shares."""
    if recipe.vocabulary is not None and not is_made(recipe):
        yield "vocabulary not extended with these settings yet: samples are shown as the base's tokenizer divides them"
        unmarked = load_base_tokenizer(recipe)
    else:
        unmarked = tokenizer_before_markers(recipe)
    with _with_markers(recipe, unmarked) as tokenizer:
        yield from _previewed(recipe, tokenizer, count)


@contextmanager
def _with_markers(recipe: Recipe, tokenizer: TextTokenizer) -> Iterator[TextTokenizer]:
    """The tokenizer with the markers that the recipe adds for its chat template, until the block ends."""
    if not markers_to_add(recipe, tokenizer):
        yield tokenizer
        return
    with tempfile.TemporaryDirectory(prefix="tsugiki-tokenizer-") as folder:
        write_tokenizer(recipe, tokenizer, Path(folder))
        yield TextTokenizer.from_folder(Path(folder))


def _previewed(recipe: Recipe, tokenizer: TextTokenizer, count: int) -> Iterator[str | MarkedLine]:
    _require_rows(recipe, tokenizer)
    with _open(recipe, tokenizer, count) as (sources, prepared):
        mixture = Mixture.from_recipe(recipe, {name: source.train for name, source in sources.items()})
        if prepared:
            asked, recipe = recipe, in_steps(recipe, {name: source.train for name, source in sources.items()})
            if recipe is not asked:
                yield f"length     {describe_length(asked, recipe)}"
            samples = total_steps(recipe) * recipe.training.global_batch_size
            mixture.check(samples)
            for line in describe_plan(mixture, samples, sources, recipe.data.sequence_length):
                yield f"data       {line}"
        else:
            yield "data       not prepared yet: the samples below come from the first documents of each source"
            for name, excerpt in sources.items():
                if excerpt.documents is None:
                    shown = "; shown in windows, packed once it is prepared" * (recipe.data.packing == "best_fit")
                    yield f"data       {name}: tokens made {excerpt.manifest.library}{shown}"
                    continue
                bad, seen = sum(excerpt.documents.bad.values()), excerpt.documents.seen
                if bad:
                    first = excerpt.documents.bad_examples[0]
                    yield f"data       {name}: {bad:,} of the first {seen:,} documents cannot be used, first {first}"
        reader, chat = _reader(recipe, sources, mixture), _chat_reading(recipe, tokenizer, sources)
        for sample in mixture.sample_numbers(range(count)).tolist():
            yield ""
            yield from render_sample(describe_sample(reader, tokenizer, sample, chat))


def _reader(recipe: Recipe, sources: Mapping[str, Any], mixture: Mixture) -> WindowReader:
    """What reads samples as training will."""
    weights = {name: source.loss_weight for name, source in recipe.data.sources.items()}
    return WindowReader(
        sources, mixture, recipe.data.sequence_length, recipe.data.isolate_documents, weights,
        recipe.training.loss_normalization == "conversation",
    )  # fmt: skip


def _chat_reading(recipe: Recipe, tokenizer: TextTokenizer, sources: Mapping[str, Any]) -> ChatReading | None:
    """What shows the conversations of a recipe that has some."""
    if not recipe.has_chat:
        return None

    def segments(name: str, conversations: Sequence[int]) -> Any:
        files = [str(entry["path"]) for entry in sources[name].manifest.files]
        return template_segments(
            conversation_encoder(recipe, name, tokenizer.folder), recipe.data.sources[name], sources[name].train,
            files, conversations,
        )  # fmt: skip

    return ChatReading(chat_tokenizer(tokenizer.folder), segments)


def preview_adapters(recipe: Recipe) -> Iterator[str]:
    """What `training.lora` trains, where the recipe has it and its model is here. Raises RecipeError for a name that no
    layer of the model has."""
    lora, folder = recipe.training.lora, folder_here(recipe)
    if lora is None or folder is None:
        return
    yield about_lora(lora, folder)
    if lora.names_layers:  # what transformers calls them, it alone knows; to import it takes seconds
        from tsugiki.model.adapters import require_layers

        require_layers(folder, lora)


def _require_rows(recipe: Recipe, tokenizer: TextTokenizer) -> None:
    """Raises RecipeError where text becomes ids that the model has no rows for: training would end at the first of
    them. Of a model that is not on this machine yet nothing is known."""
    config: dict[str, Any] = recipe.model.architecture or {}
    if recipe.model.name_or_path is not None:
        folder = folder_here(recipe)
        config = read_json(folder / "config.json") if folder and (folder / "config.json").is_file() else {}
    inner = config.get("text_config")
    rows = (inner if isinstance(inner, dict) else config).get("vocab_size", config.get("vocab_size"))
    before, after = boundaries(recipe, tokenizer)
    largest = max(tokenizer.largest_piece, *before, *after, -1)
    if isinstance(rows, int) and largest >= rows:
        key = "name_or_path" if recipe.model.tokenizer is None else "tokenizer"
        raise RecipeError(
            f"model.{key}: the tokenizer in {tokenizer.folder} makes ids up to {largest:,}, and the model has rows for "
            f"{rows:,} (vocab_size): it belongs to another model. Name the model's own tokenizer"
        )


def show_sample(recipe: Recipe, number: int) -> Iterator[str | MarkedLine]:
    """Lines that show global sample `number` of the prepared data: documents by file and line, text, targets."""
    tokenizer = load_tokenizer(recipe)
    sources = open_prepared(recipe, tokenizer)
    mixture = Mixture.from_recipe(recipe, {name: source.train for name, source in sources.items()})
    audit = describe_sample(
        _reader(recipe, sources, mixture), tokenizer, number, _chat_reading(recipe, tokenizer, sources)
    )
    yield from render_sample(audit, characters=4000)


@contextmanager
def _open(recipe: Recipe, tokenizer: TextTokenizer, count: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """The sources, and whether they are the prepared ones (else excerpts of `count` windows, until the block ends)."""
    if all(is_ready(recipe, name, tokenizer) for name in recipe.data.sources):
        yield dict(open_prepared(recipe, tokenizer)), True
        return
    found, problems = {}, []
    with tempfile.TemporaryDirectory(prefix="tsugiki-preview-") as folder:
        for name in recipe.data.sources:
            try:
                found[name] = _excerpt(recipe, name, tokenizer, count, Path(folder))
            except DataError as error:
                problems.append(str(error))
        if problems:  # of all sources together: each may cost its reader a look at the files
            raise DataError("\n".join(problems))
        yield found, False


def _excerpt(recipe: Recipe, name: str, tokenizer: TextTokenizer, count: int, folder: Path) -> _Excerpt:
    """A source's first documents: as many tokenised, each whole, as fill the windows that may be shown; the others are
    read alone, for what cannot be used and for the held-out part. What another program tokenised is opened whole,
    and in windows: to pack it may take minutes."""
    if recipe.data.sources[name].store is not None:
        manifest = foreign_manifest(recipe, name, tokenizer)
        return _Excerpt(open_stores(folder, manifest)[0], manifest)
    documents = SourceDocuments(recipe, name, folder / f"{name}.left-out")
    length = recipe.data.sequence_length
    wanted = max(count, 1) * length  # and one token more, the last target
    most = max(PREVIEW_CHARACTERS, CHARACTERS_A_TOKEN * length)
    if recipe.data.sources[name].is_chat:
        extent = Extent(PREVIEW_DOCUMENTS, wanted, most)
        return _as_prepared(excerpt_store(recipe, tokenizer, documents, folder / name, extent), documents)
    before, after = boundaries(recipe, tokenizer)
    writer = StoreWriter(folder / name, tokenizer.vocabulary_size)
    taken = characters = filled = 0
    draws: list[tuple[int, int]] = []
    for file, _, document in documents.documents():
        text, line = document.text, document.line
        content = text.encode("utf-8")
        if filled <= wanted:
            tokens = [*before, *tokenizer.encode(text), *after]
            writer.add_document(tokens, file, line, len(content), len(text))
            filled += len(tokens)
        draws.append((held_out_draw(content), len(content)))
        taken, characters = taken + 1, characters + len(text)
        # Short documents in long windows are a sound source: they are read until they fill them.
        if (taken >= PREVIEW_DOCUMENTS and filled > wanted) or characters >= most:
            break
    else:  # the whole source has been read
        share, records = recipe.held_out_share(name), np.array(draws, DRAW)
        chosen = records[below(records["draw"], share)]
        if share > 0 and taken:
            counts = Counts(documents=len(chosen), bytes=int(chosen["bytes"].sum()))
            check_held_out(name, counts, enough_to_hold_out(records))
    if not taken:
        raise DataError(f"source {name}: no document can be read from it")
    if recipe.data.packing == "best_fit":
        packed = PackedStore(folder / name, writer.close())
        make_packs(packed, length, divide=True)
        return _as_prepared(packed, documents)
    return _as_prepared(TokenStore(folder / name, writer.close()), documents)


def _as_prepared(store: TokenStore, documents: SourceDocuments) -> _Excerpt:
    files = [{"name": file.name, "path": str(getattr(file, "path", file.name))} for file in documents.files]
    return _Excerpt(store, _Files(files), documents)
