"""A part of each corpus, cut into passages, so that a few dozen of them held out are many items and cheap to score.

    python experiments/passages.py FOLDER --corpora CORPORA ja=ja-literature:9000000 en=en-books:8000000

writes ja.jsonl and en.jsonl, of about so many bytes, from the files ja-literature.jsonl.zst and en-books.jsonl.zst of
CORPORA: one JSON object with a `text` a line, Zstandard-compressed. Made again, they are the same bytes.
"""

import argparse
import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from tsugiki.corpus.records import Document
from tsugiki.files import write_atomically
from tsugiki.quickstart.corpora import read_file

PASSAGE = 2_000
"""Characters of a passage, or a line more."""


def part_of(path: Path, size: int) -> Iterator[str]:
    """Passages of a corpus, spread over it, of about `size` bytes in all."""
    texts = [found.text for found in read_file(path) if isinstance(found, Document)]
    texts.sort(key=lambda text: blake2b(text.encode(), digest_size=8).digest())
    for text in texts:
        if size <= 0:
            return
        size -= len(text.encode())
        yield from passages(text)


def passages(text: str) -> Iterator[str]:
    """A document cut at ends of lines."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        lines.append(line)
        if sum(map(len, lines)) >= PASSAGE:
            yield "".join(lines)
            lines = []
    if "".join(lines).strip():
        yield "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("parts", nargs="+", metavar="SOURCE=FILE:BYTES")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        source, _, rest = part.partition("=")
        name, _, size = rest.partition(":")
        texts = part_of(arguments.corpora / f"{name}.jsonl.zst", int(size))
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        write_atomically(arguments.folder / f"{source}.jsonl", "".join(lines))


if __name__ == "__main__":
    main()
