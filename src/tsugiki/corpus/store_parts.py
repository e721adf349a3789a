"""Documents in the order of their hash go to one of the two stores of a source, by their held-out draw."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.held_out import HELD_OUT_MINIMUM, below, check_held_out, enough_to_hold_out
from tsugiki.corpus.prepared import Counts, SourceManifest
from tsugiki.corpus.store import StoreIndex


class PartWriter(Protocol):
    """The store of one part. `record` is the type of its records, `length_key` their field of tokens."""

    @property
    def record(self) -> np.dtype: ...

    @property
    def length_key(self) -> str: ...

    def add(self, records: NDArray[np.void], starts: NDArray[np.int64], payload: NDArray[np.int32], /) -> None: ...

    def close(self) -> StoreIndex: ...


def write_parts(
    documents: Iterable[tuple[NDArray[np.void], NDArray[np.int64], NDArray[Any]]],
    writers: Mapping[str, PartWriter],
    manifest: SourceManifest,
    share: float,
    minimum: tuple[int, int] = HELD_OUT_MINIMUM,
) -> None:
    """Write `documents`, as `Buckets.sorted_documents` gives them, and count them in `manifest`.

    Raises DataError when the held-out part has less than `minimum`: documents and bytes.
    """
    kind = writers["train"]
    smallest = np.zeros(0, kind.record)
    for records, starts, payload in documents:
        held_out = below(records["draw"], share)
        smallest = enough_to_hold_out(np.concatenate([smallest, records]), minimum)
        for part, chosen in (("train", ~held_out), ("held_out", held_out)):
            rows = records[chosen]
            if not len(rows):
                continue
            writers[part].add(rows, starts[chosen], payload)
            counts: Counts = getattr(manifest, part)
            counts.documents += len(rows)
            counts.tokens += int(rows[kind.length_key].sum(dtype=np.int64))
            counts.bytes += int(rows["bytes"].sum())
            counts.characters += int(rows["characters"].sum())
    manifest.stores = {part: writer.close() for part, writer in writers.items()}
    if share > 0:
        check_held_out(manifest.name, manifest.held_out, smallest, minimum)
