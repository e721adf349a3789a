"""A source of text becomes its two stores: documents tokenised, between BOS and EOS, in the order of their hash."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.buckets import RECORD, Buckets, gather
from tsugiki.corpus.fast_tokenizer import choose
from tsugiki.corpus.filters.figures import SAMPLE_CHARACTERS, SAMPLES, FilterFigures
from tsugiki.corpus.filters.judge import odd_names
from tsugiki.corpus.filters.staying import find_duplicates, staying
from tsugiki.corpus.fingerprint import fingerprint
from tsugiki.corpus.inputs import Counted, SourceDocuments
from tsugiki.corpus.prepared import PARTS, Counts, SourceManifest
from tsugiki.corpus.records import BadRecord
from tsugiki.corpus.store import DOCUMENT, Shard, StoreIndex
from tsugiki.corpus.store_parts import write_parts
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.text_source import TextSource
from tsugiki.corpus.unfinished import Saver, UnfinishedText, begin_or_go_on, gone_on_with
from tsugiki.corpus.workers import TextWork, tokenise_batches
from tsugiki.errors import DataError


def write_documents(source: TextSource) -> SourceManifest:
    """Write both stores, going on with what an interrupted call has left in the folder; returns the manifest, without
    digests."""
    with gone_on_with(source.folder):
        state, buckets = tokenise_documents(source)
        manifest = write_stores(source, state, buckets)
        buckets.remove()
    return manifest


def tokenise_documents(source: TextSource) -> tuple[UnfinishedText, Buckets]:
    """All documents as tokens in buckets, and what else was found of them; goes on with what an interrupted call has
    left in the folder."""
    documents, tokenizer, judge = source.documents, source.tokenizer, source.filters.judge
    state = begin_or_go_on(source.folder, source.key(documents.deal), documents, UnfinishedText)
    with closing(source.buckets(state.bits, sizes=state.sizes or None)) as buckets:
        opener, size = tokenizer.engine.opener(), tokenizer.vocabulary_size
        work = TextWork(source.name, documents.how, opener, size, *source.boundaries, judge=judge)
        _tokenise(source, work, buckets, state)
    return state, buckets


def write_stores(source: TextSource, state: UnfinishedText, buckets: Buckets) -> SourceManifest:
    """Both stores, of what is in the buckets; the manifest, without digests. Raises DataError where the source cannot
    be used."""
    recipe, tokenizer, documents, filters = source.recipe, source.tokenizer, source.documents, source.filters
    judge, files = filters.judge, documents.every_record()
    before, after = source.boundaries
    documents.check()
    _require_some(documents, state.filtered)
    manifest = SourceManifest(
        name=source.name, fingerprint=fingerprint(recipe, source.name, tokenizer, files),
        tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size, add_bos=bool(before),
        add_eos=bool(after), bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, files=files, train=Counts(),
        held_out=Counts(), bad=documents.bad, bad_examples=documents.bad_examples,
        replaced_surrogates=documents.replaced_surrogates, split_documents=documents.split,
        split_into=documents.parts, library=state.library,
    )  # fmt: skip
    writers = {part: DocumentWriter(source.folder / part, tokenizer.vocabulary_size) for part in PARTS}
    found = find_duplicates(source.folder, buckets.sorted_records()) if judge.compares else None
    removal = _Removal(source, state)
    sets = judge.evaluation.sets if judge.evaluation else ()
    kept = staying(buckets.sorted_documents(), found, sets, removal)
    write_parts(kept, writers, manifest, recipe.held_out_share(source.name))
    manifest.odd = {kind: count for kind, count in sorted(state.odd.items()) if count}
    if filters.named or filters.sets:
        manifest.filtered = replace(state.filtered, evaluation=filters.sets)
    return manifest


def _tokenise(source: TextSource, work: TextWork, buckets: Buckets, state: UnfinishedText) -> None:
    """Put all documents behind the place that `state` names into the buckets, as tokens."""
    documents, data = source.documents, source.recipe.data
    batches = documents.batches(state.position)
    first = next(batches, None)
    if first is None:
        return
    sample = [document.text for _, _, document in first.items(documents.how, Counted())]
    library = choose(source.tokenizer, sample, wanted=data.fast_tokenizer, size=documents.expected_bytes)
    work.fast = library.faster
    state.says(library)
    odd, saver = Counter(state.odd), Saver(state, source.folder, buckets, documents)
    with closing(tokenise_batches(chain([first], batches), work, data.workers)) as results:
        for batch, found in results:
            buckets.add(found.records, found.tokens)
            odd.update(found.odd)
            left_out = []
            for file, line, rule, text in found.removed:
                shown = state.filtered.count(rule, documents.files[file].name, line, text)
                left_out.append((file, BadRecord(f"filtered: {rule}", line, shown)))
            documents.take(batch, found.counted, left_out)
            state.keep_hits(found.hits)
            state.odd = dict(odd)
            saver.reached(batch.end)


def _require_some(documents: SourceDocuments, filtered: FilterFigures) -> None:
    """Raise DataError where filters have left nothing to train on."""
    good = documents.seen - sum(documents.bad.values()) + documents.parts - documents.split
    if filtered.total == good:
        rules = ", ".join(f"{rule} {count:,}" for rule, count in sorted(filtered.removed.items()))
        raise DataError(
            f"source {documents.name}: its filters removed all {good:,} documents ({rules}): see its `filters`"
        )


class _Removal:
    """Told of documents that go after all have been read: counts and lists them."""

    def __init__(self, source: TextSource, state: UnfinishedText):
        self._state, self._documents, self._tokenizer = state, source.documents, source.tokenizer
        self._before = len(source.boundaries[0])
        self._hits = {(hit["file"], hit["line"]): hit["text"] for hit in state.hits}

    def __call__(self, rule: str, record: NDArray[np.void], tokens: NDArray[np.generic]) -> None:
        file, line = int(record["file"]), int(record["line"])
        text = self._hits.get((file, line), "") if rule.startswith("decontamination.") else ""
        if not text and self._state.filtered.removed.get(rule, 0) < SAMPLES:
            text = self._tokenizer.decode(tokens[self._before : self._before + SAMPLE_CHARACTERS].tolist())
        shown = self._state.filtered.count(rule, self._documents.files[file].name, line, text)
        self._documents.list_left_out(file, BadRecord(f"filtered: {rule}", line, shown))
        for name in odd_names(int(record["odd"])):
            self._state.odd[name] -= 1


class DocumentWriter:
    """A store that takes documents as buckets give them."""

    record, length_key = RECORD, "length"

    def __init__(self, prefix: Path, vocabulary_size: int, finished: Sequence[Shard] = ()):
        self._writer = StoreWriter(prefix, vocabulary_size, finished=finished)

    def add(self, records: NDArray[np.void], starts: NDArray[np.int64], payload: NDArray[np.generic]) -> None:
        places = np.zeros(len(records), DOCUMENT)
        for key in DOCUMENT.names or ():
            places[key] = records[key]
        tokens = gather(payload, starts, starts + records["length"])
        self._writer.add_documents(tokens, records["length"], places)

    def close(self) -> StoreIndex:
        return self._writer.close()
