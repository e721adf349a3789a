"""Corpora damaged in every way: documents and bad records that can be told, or one message that names the file."""

import bz2
import gzip
import io
import json
import lzma
import os
from random import Random

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from bad_inputs import damaged, damaged_lines, refusal

from tsugiki.corpus.readers import format_of, read_documents
from tsugiki.corpus.records import BadRecord, Document, Reading
from tsugiki.errors import DataError

CASES = int(os.environ.get("TSUGIKI_SOAK_INPUTS", "100"))
ROWS = [{"text": f"Document {n}: the river. 川は覚えている。", "id": n} for n in range(100)]
LINES = "".join(json.dumps(row, ensure_ascii=row["id"] % 2 == 0) + "\n" for row in ROWS).encode()
COMPRESSIONS = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}  # fmt: skip
TYPES = [
    pyarrow.string(), pyarrow.binary(), pyarrow.int64(), pyarrow.list_(pyarrow.string()), pyarrow.null(), pyarrow.bool_(),
    pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), pyarrow.struct([("text", pyarrow.string())]),
    pyarrow.timestamp("ns"), pyarrow.string_view(), pyarrow.decimal128(5, 2), pyarrow.map_(pyarrow.string(), pyarrow.string()),
]  # fmt: skip


def parquet(table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, row_group_size=40)
    return buffer.getvalue()


def strange_parquet(rng: Random) -> bytes:
    """A sound file whose text column is not there, there twice, or of another type."""
    kind, count = rng.choice(TYPES), rng.randrange(5)
    values = ["a\0b", " ", "fine", None, "川"][:count]
    textual = kind in (pyarrow.string(), pyarrow.binary(), pyarrow.string_view())
    column = pyarrow.array(values, kind) if textual else pyarrow.nulls(count, kind)
    names = rng.choice([["text"], ["Text"], ["text "], ["text", "text"], []])
    return parquet(pyarrow.Table.from_arrays([column] * len(names), names=names))


def read_all(path) -> None:
    for item in read_documents(path, format_of(path, "auto"), Reading("text", "utf-8", max_bytes=50_000)):
        if isinstance(item, Document):
            assert item.text.encode("utf-8").strip()
        else:
            assert isinstance(item, BadRecord)
            assert item.line > 0
            assert item.kind
            assert len(item.detail) < 1000
            assert item.detail.isprintable()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ending", [*(f".jsonl{end}" for end in COMPRESSIONS), ".txt", ".txt.zst", ".parquet"])
def test_a_damaged_corpus_is_told_by_file_or_record(tmp_path, ending):
    path, refused = tmp_path / f"corpus{ending}", 0
    sound = parquet(pyarrow.Table.from_pylist(ROWS))
    for seed in range(CASES):
        rng = Random(seed)
        if ending == ".parquet":
            content = damaged(rng, sound) if rng.random() < 0.7 else strange_parquet(rng)
        else:
            compress = COMPRESSIONS[path.suffix if path.suffix in COMPRESSIONS else ""]
            content = compress(damaged_lines(rng, LINES) if rng.random() < 0.6 else LINES)
            if rng.random() < 0.6:
                content = damaged(rng, content)
        path.write_bytes(content)
        said = refusal(read_all, path, DataError, seed)
        if said is not None:
            refused += 1
            assert str(path) in said, f"seed {seed}"
            assert len(said) < 1000, f"seed {seed}"
    assert refused < CASES
