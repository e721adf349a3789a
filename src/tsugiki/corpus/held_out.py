"""Which documents are held out: a rule over a document's text alone, and how much makes figures that are no noise.

Adding files moves no document from one side to the other, and duplicates fall on the same side.
"""

import math

import numpy as np
import xxhash

from tsugiki.corpus.prepared import Counts
from tsugiki.errors import DataError

HELD_OUT_MINIMUM = (20, 20_000)
"""Documents and UTF-8 bytes below which held-out figures would be noise."""
CONVERSATIONS_MINIMUM = (20, 5_000)
"""The same of conversations, which are shorter than documents."""


def held_out_draw(text: bytes) -> int:
    """A number below 2^64 that depends on a document's UTF-8 text alone."""
    return xxhash.xxh3_64_intdigest(b"held-out\0" + text)


def is_held_out(text: bytes, share: float) -> bool:
    """Whether a document is held out, by its UTF-8 text alone."""
    return bool(below(np.array([held_out_draw(text)], np.uint64), share)[0])


def below(draws: np.ndarray, share: float) -> np.ndarray:
    """Of each draw whether its document is held out."""
    return draws / 2.0**64 < share


def enough_to_hold_out(records: np.ndarray, minimum: tuple[int, int] = HELD_OUT_MINIMUM) -> np.ndarray:
    """Those records with the smallest draws that suffice for a held-out part (all, if they do not)."""
    documents, size = minimum
    records = records[np.argsort(records["draw"], kind="stable")]
    enough = np.cumsum(records["bytes"]) >= size
    enough[: documents - 1] = False
    return records[: int(np.argmax(enough)) + 1] if enough.any() else records


def check_held_out(
    name: str, counts: Counts, smallest: np.ndarray, minimum: tuple[int, int] = HELD_OUT_MINIMUM
) -> None:
    """Raise DataError, naming a share that works, when figures from a source's held-out part would be noise.

    `smallest`: what `enough_to_hold_out` gave for all its documents.
    """
    documents, size = minimum
    if counts.documents >= documents and counts.bytes >= size:
        return
    remedy = "the source is too small for one: give it more text, or set held_out to 0"
    if len(smallest) >= documents and int(smallest["bytes"].sum()) >= size:
        needed = _round_up((int(smallest["draw"][-1]) + 1) / 2.0**64)
        if needed <= 0.5:
            remedy = f"set data.sources.{name}.held_out to {needed:g}, or to 0 for no held-out part"
    raise DataError(
        f"source {name}: its held-out part has {counts.documents} documents and {counts.bytes:,} bytes; "
        f"figures need at least {documents} and {size:,}: {remedy}"
    )


def _round_up(share: float) -> float:
    """To two digits, never down."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    rounded = float(f"{math.ceil(share / unit) * unit:.2g}")
    return rounded if rounded > share else float(f"{rounded + unit:.2g}")
