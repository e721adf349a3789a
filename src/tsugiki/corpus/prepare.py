"""The `prepare` stage: corpora in, one token store a source out.

A reader in this process streams documents (`inputs`); a pool of processes tokenises them (`workers`); this process
appends the results to bucket files by order hash (`buckets`), which are then sorted and written to the stores. The
order of documents is that of a keyed hash of (source, file, line), so the output is the same bytes for any number of
workers. A source appears whole or not at all (`folders`): a killed run leaves nothing that looks finished, and the next
run makes the same bytes.
"""

from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tsugiki.corpus.buckets import RECORD, Buckets, gather
from tsugiki.corpus.fingerprint import boundaries, fingerprint
from tsugiki.corpus.held_out import below, check_held_out, enough_to_hold_out
from tsugiki.corpus.inputs import Progress, SourceDocuments
from tsugiki.corpus.prepared import FILE_NAMES, LEFT_OUT, MANIFEST, PARTS, Counts, SourceManifest, source_directory
from tsugiki.corpus.store import DOCUMENT, StoreWriter, store_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import current_manifest
from tsugiki.corpus.workers import check_not_importing, own_server, tokenise_batches
from tsugiki.errors import StorageError
from tsugiki.files import write_json, xxh3_file
from tsugiki.folders import made_anew, only_one, tidy
from tsugiki.recipe import Recipe


def prepare(recipe: Recipe, tokenizer: TextTokenizer, *, progress: Progress | None = None) -> dict[str, SourceManifest]:
    """Prepare every source that is not up to date; returns all manifests by name.

    Raises DataError for sources that cannot be read, have too many bad documents, or too small a held-out part, and
    StorageError where the disk refuses.
    """
    check_not_importing()
    with own_server():
        return {name: _up_to_date(recipe, name, tokenizer, progress) for name in recipe.data.sources}


def _up_to_date(recipe: Recipe, name: str, tokenizer: TextTokenizer, progress: Progress | None) -> SourceManifest:
    """Prepare one source, unless it is up to date."""
    tidy(source_directory(recipe, name))
    manifest = current_manifest(recipe, name, tokenizer)
    if manifest is None:
        with only_one(source_directory(recipe, name)):
            # Another run that shares the folder may have prepared it meanwhile.
            manifest = current_manifest(recipe, name, tokenizer)
            if manifest is None:
                return _prepare_source(recipe, name, tokenizer, progress)
    if progress:
        progress.finish(name, True)
    return manifest


def _prepare_source(recipe: Recipe, name: str, tokenizer: TextTokenizer, progress: Progress | None) -> SourceManifest:
    target = source_directory(recipe, name)
    _check_ours(target)
    with made_anew(target) as work:
        manifest = _write_source(recipe, name, tokenizer, work, progress)
    if progress:
        progress.finish(name, False)
    return manifest


def _check_ours(target: Path) -> None:
    """Refuse to replace a folder that is not a prepared source."""
    others = [path.name for path in target.iterdir() if path.name not in FILE_NAMES] if target.is_dir() else []
    if others or (target.exists() and not target.is_dir()):
        what = f"holds other files ({', '.join(sorted(others)[:3])})" if others else "is a file"
        raise StorageError(f"{target} {what}; choose another data.prepared_dir, or move it away")


def _write_source(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, work: Path, progress: Progress | None
) -> SourceManifest:
    """Write both stores and the manifest into `work`."""
    before, after = boundaries(recipe, tokenizer)
    documents = SourceDocuments(recipe, name, work / LEFT_OUT, progress)
    buckets = Buckets.for_text(work, documents.expected_bytes)
    odd: Counter[str] = Counter()
    settings = {"source": name, "before": before, "after": after}
    results = tokenise_batches(documents.batches(), tokenizer.folder, settings, recipe.data.workers)
    with closing(buckets), closing(results):  # an error here ends the processes too, which would wait for work
        for records, tokens, found in results:
            buckets.add(records, tokens)
            odd.update(found)
    manifest = SourceManifest(
        name=name, fingerprint=fingerprint(recipe, name, tokenizer, documents.records),
        tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size, add_bos=bool(before),
        add_eos=bool(after), bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, files=documents.records, train=Counts(),
        held_out=Counts(), bad=documents.bad, bad_examples=documents.bad_examples,
        replaced_surrogates=documents.replaced_surrogates, odd=dict(sorted(odd.items())),
    )  # fmt: skip
    _write_stores(work, buckets, manifest, recipe.held_out_share(name))
    files = [path for part in PARTS for path in store_files(work / part)]
    if documents.bad:
        files.append(work / LEFT_OUT)
    manifest.digests = {path.name: xxh3_file(path) for path in files}
    write_json(work / MANIFEST, asdict(manifest))
    return manifest


def _write_stores(work: Path, buckets: Buckets, manifest: SourceManifest, share: float) -> None:
    """Append the documents in order to the two stores. Raises DataError when the held-out part is too small."""
    writers = {part: StoreWriter(work / part, manifest.vocabulary_size) for part in PARTS}
    smallest = np.zeros(0, RECORD)
    for records, starts, tokens in buckets.sorted_documents():
        held_out = below(records["draw"], share)
        smallest = enough_to_hold_out(np.concatenate([smallest, records]))
        for part, chosen in (("train", ~held_out), ("held_out", held_out)):
            rows, begin = records[chosen], starts[chosen]
            if not len(rows):
                continue
            places = np.zeros(len(rows), DOCUMENT)
            for key in DOCUMENT.names or ():
                places[key] = rows[key]
            writers[part].add_documents(gather(tokens, begin, begin + rows["length"]), rows["length"], places)
            counts: Counts = getattr(manifest, part)
            counts.documents += len(rows)
            counts.tokens += int(rows["length"].sum(dtype=np.int64))
            counts.bytes += int(rows["bytes"].sum())
            counts.characters += int(rows["characters"].sum())
    for writer in writers.values():
        writer.close()
    if share > 0:
        check_held_out(manifest.name, manifest.held_out, smallest)
