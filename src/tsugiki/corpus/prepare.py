"""The `prepare` stage: corpora in, one token store a source out.

This process cuts files into pieces (`inputs`, `pieces`); a pool of processes finds the documents in them and tokenises
them (`workers`); this process appends the results to bucket files by order hash (`buckets`), which are then sorted and
written to the stores. The order of documents is that of a keyed hash of (source, file, line), so the output is the same
bytes for any number of workers. A source appears whole or not at all (`folders`): a killed run leaves nothing that
looks finished, and the next one goes on from there (`unfinished`) and makes the same bytes.
"""

from collections.abc import Callable
from pathlib import Path

from tsugiki.corpus.filters.asked import Evaluation, EvaluationTexts, Filters, nothing
from tsugiki.corpus.foreign_store import foreign_manifest
from tsugiki.corpus.inputs import Deal, Progress, SourceDocuments
from tsugiki.corpus.mending import mended
from tsugiki.corpus.pack_table import make_packs
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.prepare_chat import write_conversations
from tsugiki.corpus.prepare_shards import merge_shards, prepare_shard, remove_shards
from tsugiki.corpus.prepare_text import write_documents
from tsugiki.corpus.prepared import (
    LEFT_OUT,
    MANIFEST,
    SIDE_FILES,
    SourceManifest,
    is_our_file,
    open_stores,
    source_directory,
)
from tsugiki.corpus.text_source import TextSource
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import current_manifest
from tsugiki.corpus.workers import check_not_importing, own_server
from tsugiki.errors import StorageError
from tsugiki.files import write_json, xxh3_file
from tsugiki.folders import drop_unfinished, made_anew, only_one, tidy
from tsugiki.recipe import Recipe


def prepare(
    recipe: Recipe,
    tokenizer: TextTokenizer,
    *,
    progress: Progress | None = None,
    evaluation: Callable[[], EvaluationTexts | None] = nothing,
    merge: bool = False,
    verify: bool = False,
) -> dict[str, SourceManifest]:
    """Prepare every source that is not up to date; returns all manifests by name.

    `evaluation` reads the texts that documents must not hold, once, if a source is prepared now. `merge`: put together
    what `prepare_shards` has made of each source of text. `verify`: compare every file with its digest, not its
    size alone. A shard that is damaged is made again alone, where that can be (`mending`).

    Raises DataError for sources that cannot be read, have too many bad documents, or too small a held-out part, and
    StorageError where the disk refuses.
    """
    check_not_importing()
    with own_server(), Evaluation(evaluation) as texts:
        return {
            name: _up_to_date(recipe, name, tokenizer, texts, progress, merge, verify) for name in recipe.data.sources
        }


def prepare_shards(
    recipe: Recipe,
    tokenizer: TextTokenizer,
    deal: Deal,
    *,
    progress: Progress | None = None,
    evaluation: Callable[[], EvaluationTexts | None] = nothing,
) -> None:
    """Make one part of the work of every source of text that is not up to date. Raises as `prepare` does."""
    check_not_importing()
    with own_server(), Evaluation(evaluation) as texts:
        for name in parted_sources(recipe, tokenizer):
            source = recipe.data.sources[name]
            filters = Filters.of(source, texts.index(name, source.filters))
            prepare_shard(recipe, name, tokenizer, filters, deal, progress)


def parted_sources(recipe: Recipe, tokenizer: TextTokenizer) -> list[str]:
    """The sources that parts can be made of: those of text that are not up to date."""
    return [
        name
        for name, source in recipe.data.sources.items()
        if source.store is None and not source.is_chat and current_manifest(recipe, name, tokenizer) is None
    ]


def _up_to_date(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, evaluation: Evaluation, progress: Progress | None,
    merge: bool, verify: bool,
) -> SourceManifest:  # fmt: skip
    """Prepare one source, unless it is up to date."""
    tidy(source_directory(recipe, name))
    manifest = None if verify else current_manifest(recipe, name, tokenizer)
    if manifest is None:
        with only_one(source_directory(recipe, name)):
            # Another run that shares the folder may have prepared it meanwhile.
            manifest = mended(recipe, name, tokenizer, verify)
            if manifest is None:
                return _prepare_source(recipe, name, tokenizer, evaluation, progress, merge)
    drop_unfinished(source_directory(recipe, name))
    manifest = _packed(recipe, source_directory(recipe, name), manifest)
    if progress:
        progress.finish(name, True)
    return manifest


def _packed(recipe: Recipe, directory: Path, manifest: SourceManifest) -> SourceManifest:
    """Make the table of packs for this run's length, where its windows are packs and there is none; the manifest tells
    of them."""
    length, packed = recipe.data.sequence_length, recipe.data.packing == "best_fit"
    train, _ = open_stores(directory, manifest, packed)
    if not isinstance(train, PackedStore):
        return manifest
    make_packs(train, length, divide=manifest.chat is None)
    return manifest.at_length(directory, length, packed)


def _prepare_source(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, evaluation: Evaluation, progress: Progress | None, merge: bool
) -> SourceManifest:
    target = source_directory(recipe, name)
    _check_ours(target)
    with made_anew(target) as work:
        manifest = _write_source(recipe, name, tokenizer, evaluation, work, progress, merge)
    if merge:
        remove_shards(recipe, name)
    if progress and manifest.foreign is None:
        progress.finish(name, False)
    return manifest


def _check_ours(target: Path) -> None:
    """Refuse to replace a folder that is not a prepared source."""
    others = [path.name for path in target.iterdir() if not is_our_file(path.name)] if target.is_dir() else []
    if others or (target.exists() and not target.is_dir()):
        what = f"holds other files ({', '.join(sorted(others)[:3])})" if others else "is a file"
        raise StorageError(f"{target} {what}; choose another data.prepared_dir, or move it away")


def _write_source(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, evaluation: Evaluation, work: Path,
    progress: Progress | None, merge: bool,
) -> SourceManifest:  # fmt: skip
    """Write both stores and the manifest into `work`; of what another program tokenised, the manifest alone."""
    source = recipe.data.sources[name]
    if source.store is not None:
        manifest = foreign_manifest(recipe, name, tokenizer)
        write_json(work / MANIFEST, manifest.as_json())
        return _packed(recipe, work, manifest)
    documents = SourceDocuments(recipe, name, work / LEFT_OUT, progress)
    if source.is_chat:
        manifest = write_conversations(recipe, tokenizer, work, documents)
    else:
        filters = Filters.of(source, evaluation.index(name, source.filters))
        make = merge_shards if merge else write_documents
        manifest = make(TextSource(recipe, tokenizer, documents, filters, work))
    # Tables of packs have digests of their own: others may be made later, for other lengths.
    files = [work / name for name in SIDE_FILES if (work / name).exists()]
    manifest.digests = {path.name: xxh3_file(path) for path in files}
    write_json(work / MANIFEST, manifest.as_json())
    return _packed(recipe, work, manifest)
