"""datatrove's token files: `NAME.ds` (ids end to end), `NAME.ds.index` (u64 end of each document, in tokens, no header)
and `NAME.ds.metadata` (tokenizer and bytes an id, `tokenizer|2`; number of tokens). Source of the format:
huggingface/datatrove, pipeline/tokens/tokenizer.py.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.megatron import NEAR
from tsugiki.errors import DataError

DTYPES: dict[int, np.dtype] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


class DatatroveIndex:
    """Where the documents of one file of `tokens` tokens begin, looked up in the mapped index when asked.

    What is read is checked as it is read. Raises DataError, naming the file.
    """

    def __init__(self, path: Path, tokens: int):
        self._path, self._tokens = path, tokens
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
        if size % 8:
            raise DataError(f"{path}: {size:,} bytes are no list of numbers of 8 bytes each")
        self.documents = size // 8
        whole = np.memmap(path, "<u8", "r") if size else np.zeros(0, "<u8")
        self._ends = np.asarray(whole)
        self.starts(self.documents, self.documents + 1)

    def starts(self, first: int, last: int) -> NDArray[np.int64]:
        """Where documents `first` … `last` - 1 begin, in tokens; entry `documents` is the end of the last one."""
        before = max(first - 2, 0)
        found = self._ends[before : last - 1].astype(np.int64)
        bounds = found if before else np.concatenate([np.zeros(1, np.int64), found])
        ends_right = last <= self.documents or bounds[-1] == self._tokens
        if bounds[0] < 0 or bounds[-1] > self._tokens or np.any(np.diff(bounds) < 0) or not ends_right:
            raise DataError(f"{self._path}: damaged: its ends of documents are not those of {self._tokens:,} tokens")
        return bounds[len(bounds) - (last - first) :]

    def first_from(self, token: int) -> int:
        """The first document that begins at token `token` or behind; `documents` where none does."""
        low, high = 0, self.documents
        while high - low > NEAR:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._ends.item(middle) < token else (low, middle)
        end = low + int(np.searchsorted(self._ends[low:high], np.uint64(max(token, 0))))
        found = min(0 if token <= 0 else end + 1, self.documents)
        around = self.starts(max(found - 1, 0), found + 1)
        if around[-1] < token <= self._tokens or (found > 0 and around[0] >= token):
            raise DataError(f"{self._path}: damaged: its ends of documents are not in order")
        return found


def token_type(path: Path) -> np.dtype:
    """The type of the ids of a `.ds`, by its size and the index. Raises DataError where they do not fit each other."""
    index = path.with_name(path.name + ".index")
    try:
        size, entries = path.stat().st_size, index.stat().st_size // 8
        with index.open("rb") as file:
            file.seek(max(8 * entries - 8, 0))
            tokens = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None
    for itemsize, dtype in DTYPES.items():
        if tokens * itemsize == size:
            return dtype
    raise DataError(f"{path}: {size:,} bytes are not the {tokens:,} tokens that {index.name} ends with")


def named_tokenizer(path: Path) -> str | None:
    """The tokenizer that a `.ds` was made with, as its metadata name it; None where there are none."""
    try:
        first = path.with_name(path.name + ".metadata").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    return first.split("|")[0][:200] or None
