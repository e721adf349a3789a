"""A source of text becomes its two stores: documents tokenised, between BOS and EOS, in the order of their hash."""

from collections import Counter
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.buckets import RECORD, Buckets, bits_for, gather
from tsugiki.corpus.fast_tokenizer import choose
from tsugiki.corpus.fingerprint import boundaries, fingerprint
from tsugiki.corpus.inputs import Counted, SourceDocuments
from tsugiki.corpus.megatron import token_dtype
from tsugiki.corpus.prepared import PARTS, Counts, SourceManifest
from tsugiki.corpus.store import DOCUMENT, StoreIndex
from tsugiki.corpus.store_parts import write_parts
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.unfinished import Saver, Unfinished, find_unfinished, forget, key_of
from tsugiki.corpus.workers import TextWork, tokenise_batches
from tsugiki.errors import DataError
from tsugiki.folders import empty
from tsugiki.recipe import Recipe


def write_documents(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, work: Path, documents: SourceDocuments
) -> SourceManifest:
    """Write both stores into `work`, going on with what an interrupted call has left there; returns the manifest,
    without digests."""
    before, after = boundaries(recipe, tokenizer)
    key = key_of(fingerprint(recipe, name, tokenizer, []), [file.name for file in documents.files])
    state = find_unfinished(work, key, documents)
    dtype = token_dtype(tokenizer.vocabulary_size)
    if state is None:
        empty(work)
        state = Unfinished(key, bits_for(documents.expected_bytes))
        buckets = Buckets(work, state.bits, dtype=dtype)
    else:
        state.restore(documents)
        buckets = Buckets(work, state.bits, dtype=dtype, sizes=state.sizes)
    try:
        with closing(buckets):
            _tokenise(
                recipe,
                tokenizer,
                TextWork(name, documents.how, tokenizer.folder, before, after),
                work,
                documents,
                buckets,
                state,
            )
        documents.check()
        manifest = SourceManifest(
            name=name, fingerprint=fingerprint(recipe, name, tokenizer, documents.records),
            tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size,
            add_bos=bool(before), add_eos=bool(after), bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id,
            files=documents.records, train=Counts(), held_out=Counts(), bad=documents.bad,
            bad_examples=documents.bad_examples, replaced_surrogates=documents.replaced_surrogates,
            split_documents=documents.split, split_into=documents.parts,
            odd=dict(sorted(state.odd.items())), library=state.library,
        )  # fmt: skip
        writers = {part: _Documents(work / part, tokenizer.vocabulary_size) for part in PARTS}
        write_parts(buckets, writers, manifest, recipe.held_out_share(name))
    except DataError:  # to be mended before it can go on, and then perhaps not from here
        forget(work)
        raise
    buckets.remove()
    forget(work)
    return manifest


def _tokenise(
    recipe: Recipe, tokenizer: TextTokenizer, work: TextWork, folder: Path, documents: SourceDocuments,
    buckets: Buckets, state: Unfinished,
) -> None:  # fmt: skip
    """Put all documents behind the place that `state` names into the buckets, as tokens."""
    batches = documents.batches(state.position)
    first = next(batches, None)
    if first is None:
        return
    sample = [document.text for _, _, document in first.items(documents.how, Counted())]
    library = choose(tokenizer, sample, wanted=recipe.data.fast_tokenizer, size=documents.expected_bytes)
    work.fast, state.library = library.fast, library.says
    odd, saver = Counter(state.odd), Saver(state, folder, buckets, documents)
    with closing(tokenise_batches(chain([first], batches), work, recipe.data.workers)) as results:
        for batch, found in results:
            buckets.add(found.records, found.tokens)
            odd.update(found.odd)
            documents.take(batch, found.counted)
            state.odd = dict(odd)
            saver.reached(batch.end)


class _Documents:
    """A store that takes documents as buckets give them."""

    record, length_key = RECORD, "length"

    def __init__(self, prefix: Path, vocabulary_size: int):
        self._writer = StoreWriter(prefix, vocabulary_size)

    def add(self, records: NDArray[np.void], starts: NDArray[np.int64], payload: NDArray[np.generic]) -> None:
        places = np.zeros(len(records), DOCUMENT)
        for key in DOCUMENT.names or ():
            places[key] = records[key]
        tokens = gather(payload, starts, starts + records["length"])
        self._writer.add_documents(tokens, records["length"], places)

    def close(self) -> StoreIndex:
        return self._writer.close()
