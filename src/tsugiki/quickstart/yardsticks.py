"""The yardsticks of the quickstart's table, on exactly the held-out documents that the model was scored on."""

from collections.abc import Sequence
from pathlib import Path

from tsugiki.corpus.readers import Document
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.yardsticks import WINDOW_BYTES, unigram_bits_per_byte, xz_bits_per_byte
from tsugiki.files import read_json, write_json
from tsugiki.quickstart.base import read_texts
from tsugiki.quickstart.corpora import Corpus, read_file


def measure(
    directory: Path, corpora: Sequence[Corpus], documents: int, most_bytes: int = WINDOW_BYTES
) -> dict[str, dict[str, float]]:
    """By source: `xz` and `unigram` bits per byte of its first `documents` held-out documents given its training text
    (of sources that are not to be learnt, the last `most_bytes` of it).

    Kept in `yardsticks.json` (compressing takes about two seconds a megabyte).
    """
    path = directory / "yardsticks.json"
    found: dict[str, dict[str, float]] = read_json(path) if path.exists() else {}
    for corpus in corpora:
        if corpus.name not in found:
            training = "\n".join(read_texts(corpus, held_out=False)).encode()
            training = training[-(WINDOW_BYTES if corpus.role == "target" else min(most_bytes, WINDOW_BYTES)) :]
            held_out = "\n".join(scored_texts(directory / "data" / corpus.name, corpus, documents)).encode()
            found[corpus.name] = {
                "xz": xz_bits_per_byte(training, held_out),
                "unigram": unigram_bits_per_byte(training, held_out),
            }
            write_json(path, found)
    return found


def scored_texts(prepared: Path, corpus: Corpus, documents: int) -> list[str]:
    """Texts of the first documents of the held-out store, found again in the files by line."""
    rows = TokenStore(prepared / "held_out").documents[:documents]
    wanted = {(int(row["file"]), int(row["line"])) for row in rows}
    texts = []
    for index, path in enumerate(map(Path, corpus.files())):
        lines = {line for file, line in wanted if file == index}
        for item in read_file(path) if lines else ():
            if isinstance(item, Document) and item.line in lines:
                texts.append(item.text)
    return texts
