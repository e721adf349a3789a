"""A source of text becomes its two stores: documents tokenised, between BOS and EOS, in the order of their hash."""

from collections import Counter
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.buckets import RECORD, Buckets, gather
from tsugiki.corpus.fast_tokenizer import choose
from tsugiki.corpus.fingerprint import boundaries, fingerprint
from tsugiki.corpus.inputs import SourceDocuments
from tsugiki.corpus.prepared import PARTS, Counts, SourceManifest
from tsugiki.corpus.store import DOCUMENT, StoreIndex
from tsugiki.corpus.store_parts import write_parts
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.workers import TextWork, tokenise_batches
from tsugiki.recipe import Recipe


def write_documents(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, work: Path, documents: SourceDocuments
) -> SourceManifest:
    """Write both stores into `work`; returns the manifest, without digests."""
    before, after = boundaries(recipe, tokenizer)
    odd: Counter[str] = Counter()
    batches = documents.batches()
    first = next(batches, [])
    sample = [text for _, _, _, text in first]
    library = choose(tokenizer, sample, wanted=recipe.data.fast_tokenizer, size=documents.expected_bytes)
    buckets = Buckets.for_text(work, documents.expected_bytes)
    tokenise = TextWork(name, tokenizer.folder, before, after, library.fast)
    results = tokenise_batches(chain([first] if first else [], batches), tokenise, recipe.data.workers)
    with closing(buckets), closing(results):  # an error here ends the processes too, which would wait for work
        for records, tokens, found in results:
            buckets.add(records, tokens)
            odd.update(found)
    manifest = SourceManifest(
        name=name, fingerprint=fingerprint(recipe, name, tokenizer, documents.records),
        tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size, add_bos=bool(before),
        add_eos=bool(after), bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, files=documents.records, train=Counts(),
        held_out=Counts(), bad=documents.bad, bad_examples=documents.bad_examples,
        replaced_surrogates=documents.replaced_surrogates, odd=dict(sorted(odd.items())), library=library.says,
    )  # fmt: skip
    writers = {part: _Documents(work / part, tokenizer.vocabulary_size) for part in PARTS}
    write_parts(buckets, writers, manifest, recipe.held_out_share(name))
    return manifest


class _Documents:
    """A store that takes documents as buckets give them."""

    record, length_key = RECORD, "length"

    def __init__(self, prefix: Path, vocabulary_size: int):
        self._writer = StoreWriter(prefix, vocabulary_size)

    def add(self, records: NDArray[np.void], starts: NDArray[np.int64], payload: NDArray[np.int32]) -> None:
        places = np.zeros(len(records), DOCUMENT)
        for key in DOCUMENT.names or ():
            places[key] = records[key]
        tokens = gather(payload, starts, starts + records["length"])
        self._writer.add_documents(tokens, records["length"], places)

    def close(self) -> StoreIndex:
        return self._writer.close()
