"""What text costs that no piece was learned from: each author of a corpus held out in turn, whole documents.

    python benchmarks/vocabulary_authors.py --corpora DIR                                Mistral v0.1, 32,000 -> 42,880
    python benchmarks/vocabulary_authors.py --corpora DIR --tokenizer FOLDER --add 4000  another base

DIR holds ja-literature.jsonl.zst, whose key `source` names the author in its second part (cards/000148/…),
ja-pydocs.jsonl.zst, learned from as well, and en-books.jsonl.zst, whose ids must not change. The tokenizer of Mistral
v0.1 comes from the package mistral-common. Writes docs/results/vocabulary-authors.md, a section a base. About a minute
an author on two CPU cores.
"""

import argparse
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard
from real_model import ROOT
from tokenizers import Tokenizer

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.learn import count_tokens, learn
from tsugiki.vocabulary.pieces import Base

PAGE = "vocabulary-authors.md"
SAMPLE_CHARACTERS, KEPT_BACK = 20_000_000, 0.04
"""As the stage takes by default; the share on which the number of single characters is chosen."""
MAX_LENGTH = 16


@dataclass(frozen=True)
class Row:
    """One author held out."""

    author: str
    characters: int
    before: float
    after: float
    """Tokens per character."""
    single: int
    seconds: float
    changed: int
    """Documents in English with other ids than the base gives."""


def documents(path: Path) -> Iterator[tuple[str, str]]:
    """(author, text) of each document."""
    with path.open("rb") as file:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
            record = json.loads(line)
            yield record["source"].split("/")[min(1, record["source"].count("/"))], record["text"]


def mistral_folder(folder: Path) -> Path:
    """A folder with the tokenizer of Mistral v0.1."""
    import mistral_common

    found = next(Path(mistral_common.__file__).parent.rglob("tokenizer.model.v1"))
    shutil.copyfile(found, folder / "tokenizer.model")
    return folder


def changed_documents(tokenizer: TextTokenizer, extended: Tokenizer, texts: list[str]) -> int:
    """How many texts get other ids than by the base's own files; for Mistral that is SentencePiece itself."""
    changed = 0
    for batch in (texts[start : start + 50] for start in range(0, len(texts), 50)):  # a batch takes much memory
        encoded = extended.encode_batch_fast(batch, add_special_tokens=False)
        old = tokenizer.engine.encode_batch(batch)
        changed += sum(before != after.ids for before, after in zip(old, encoded, strict=True))
    return changed


def hold_out(
    tokenizer: TextTokenizer, base: Base, author: str, literature: list[tuple[str, str]], others: list[str],
    english: list[str], count: int,
) -> Row:  # fmt: skip
    """Learn from all but one author, and count on that one. `base` is the tokenizer opened for extension."""
    held_out = [text for name, text in literature if name == author]
    training = [text for name, text in literature if name != author] + others
    random.Random(0).shuffle(training)
    while sum(map(len, training)) > SAMPLE_CHARACTERS:
        training.pop()
    kept = round(KEPT_BACK * len(training))
    begun = time.perf_counter()
    learnt = learn(base, training[kept:], training[:kept], count, max_length=MAX_LENGTH)
    seconds = time.perf_counter() - begun
    characters = sum(map(len, held_out))
    extended = base.state(learnt.pieces)
    return Row(
        author, characters, count_tokens(base.state([]), held_out) / characters,
        count_tokens(extended, held_out) / characters, learnt.single, seconds,
        changed_documents(tokenizer, Tokenizer.from_str(json.dumps(extended)), english),
    )  # fmt: skip


def render(title: str, rows: list[Row], authors: int, documents_in_english: int) -> str:
    """The section of a base; `authors` is how many the corpus has."""
    lines = [
        f"## {title}",
        "",
        "| author held out | characters | tokens/char before | after | ratio | single characters | learning, s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.author} | {row.characters:,} | {row.before:.3f} | {row.after:.3f} | "
            f"{row.after / row.before:.3f} | {row.single:,} | {row.seconds:.0f} |"
        )
    before, after = (sum(getattr(row, name) for row in rows) / len(rows) for name in ("before", "after"))
    lines.append(f"| mean | | {before:.3f} | {after:.3f} | {after / before:.3f} | | |")
    changed = max(row.changed for row in rows)
    if len(rows) < authors:
        lines += ["", f"The {len(rows)} of {authors} authors with most text."]
    lines += ["", f"English documents with other ids than the base's: {changed} of {documents_in_english:,}."]
    return "\n".join(lines) + "\n"


def with_section(page: str, title: str, section: str) -> str:
    """The page with the section of a base, in place of an earlier one."""
    head = (
        "# Authors held out in turn\n\n`python benchmarks/vocabulary_authors.py`: pieces learned from 20 million "
        "characters of the other authors and of documentation; tokens per character of whole documents of the author.\n"
    )
    kept = [part for part in page.split("\n## ")[1:] if not part.startswith(f"{title}: ")]
    return "\n## ".join([head, *kept, section.removeprefix("## ")])


def main() -> int:
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("data"), help="folder of the three corpora (data)")
    parser.add_argument("--tokenizer", type=Path, help="folder of another base's tokenizer")
    parser.add_argument("--title", help="what the section is called (default: the folder's name)")
    parser.add_argument("--add", type=int, default=10_880, help="pieces to add (10,880)")
    parser.add_argument("--authors", type=int, help="how many of the authors, those with most text first (all)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results", help="folder of the page")
    options = parser.parse_args()
    literature = list(documents(options.corpora / "ja-literature.jsonl.zst"))
    others = [text for _, text in documents(options.corpora / "ja-pydocs.jsonl.zst")]
    english = [text for _, text in documents(options.corpora / "en-books.jsonl.zst")]
    size: dict[str, int] = {}
    for author, text in literature:
        size[author] = size.get(author, 0) + len(text)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = TextTokenizer.from_folder(options.tokenizer or mistral_folder(Path(folder)))
        base = open_base(tokenizer, TargetCharacters.of_language("ja"))
    title = options.title or (options.tokenizer.name if options.tokenizer else "Mistral v0.1")
    rows = []
    for author in sorted(size, key=lambda name: -size[name])[: options.authors]:
        rows.append(hold_out(tokenizer, base, author, literature, others, english, options.add))
        print(rows[-1], flush=True)
    section = render(f"{title}: {base.used:,} + {options.add:,} pieces", rows, len(size), len(english))
    page = options.output / PAGE
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(with_section(before, title, section), encoding="utf-8")
    print(section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
