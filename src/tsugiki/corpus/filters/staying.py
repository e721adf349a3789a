"""Documents that were tokenised, in the keyed order, without those that filters remove once all of them are known."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.buckets import RECORD
from tsugiki.corpus.filters.duplicates import Duplicate, duplicates
from tsugiki.corpus.row_files import narrowed

Block = tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.generic]]
"""Records in order, where the tokens of each begin, tokens."""
Remove = Callable[[str, NDArray[np.void], NDArray[np.generic]], None]
"""Told of a document that goes: FILTER.RULE, its record, its tokens."""


def find_duplicates(folder: Path, blocks: Iterable[NDArray[np.void]]) -> NDArray[np.uint8]:
    """A `Duplicate` for each document, in the order in which `blocks` give their records, which is the keyed one.

    What is compared lies column by column in files of `folder` meanwhile: 8 bytes a document and bucket.
    """
    paths: list[Path] = []
    try:
        for records in blocks:
            columns = [records["exact"]]
            if "keys" in (records.dtype.names or ()):
                columns += list(records["keys"].T)
            if not paths:
                paths = [folder / f"compared-{number:03d}" for number in range(len(columns))]
                for path in paths:
                    path.write_bytes(b"")
            for path, column in zip(paths, columns, strict=True):
                with path.open("ab") as file:
                    file.write(column.tobytes())
        if not paths:
            return np.zeros(0, np.uint8)
        read = (np.fromfile(path, "<u8") for path in paths)  # one at a time: maps of all would stay in memory
        return duplicates(next(read), read)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def staying(
    blocks: Iterable[Block], found: NDArray[np.uint8] | None, sets: Sequence[str], remove: Remove
) -> Iterator[Block]:
    """The documents that are no duplicates and hold no evaluation text, as RECORD; `found`: of all documents the
    `Duplicate`, in their order."""
    place = 0
    for records, starts, payload in blocks:
        again = np.zeros(len(records), np.uint8) if found is None else found[place : place + len(records)]
        place += len(records)
        hit = records["hit"] if "hit" in (records.dtype.names or ()) else np.zeros(len(records), np.uint16)
        stays = (again == Duplicate.NONE) & (hit == 0)
        for row in np.flatnonzero(~stays).tolist():
            rule = (
                f"duplicates.{Duplicate(again[row]).name.lower()}"
                if again[row]
                else f"decontamination.{sets[hit[row] - 1]}"
            )
            start = int(starts[row])
            remove(rule, records[row], payload[start : start + int(records["length"][row])])
        yield narrowed(records[stays], RECORD), starts[stays], payload
