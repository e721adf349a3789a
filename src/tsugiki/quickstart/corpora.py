"""The sources of a quickstart: the embedded text, or the files of a folder that the user names.

A source is *target* (the language or field to be learnt), *replay* (English, which the base knows and must not
forget) or *other* (code, formulas: mixed in with a small weight). For the user's files the language is taken from a
sample of the text; a name such as `de-books.jsonl` decides where the text leaves it open.
"""

import glob
import heapq
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tsugiki.corpus.compression import compression_of
from tsugiki.corpus.held_out import HELD_OUT_MINIMUM, held_out_draw
from tsugiki.corpus.readers import format_of, read_documents
from tsugiki.corpus.records import BadRecord, Document, Reading
from tsugiki.errors import DataError, RecipeError
from tsugiki.files import write_atomically
from tsugiki.quickstart.mathematics import documents
from tsugiki.recipe_values import RESERVED_NAMES

TEXT = Path(__file__).parent / "text"
MATHEMATICS_SEED = 1
MATHEMATICS_DOCUMENTS = 400
HELD_OUT = 0.17
"""Of the embedded text: at least 20 documents and 20 kB of each source."""

LANGUAGES = frozenset(
    ("ar", "de", "en", "es", "fa", "fr", "he", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "th", "tr",
     "uk", "vi", "zh")
)  # fmt: skip
NAMED = re.compile(r"([a-z]{2})(?:[-_.].*)?", re.IGNORECASE)
SAMPLE_CHARACTERS = 200_000
COMMON_ENGLISH = frozenset(
    ("the", "of", "and", "to", "in", "a", "is", "that", "it", "for", "was", "as", "with", "be", "by", "on", "not", "he",
     "his", "this", "are")
)  # fmt: skip
SCRIPTS = (  # language, characters that give it away, share of all letters from which on it is taken for that
    ("ja", re.compile("[\u3041-\u30ff]"), 0.1),
    ("ko", re.compile("[\uac00-\ud7a3]"), 0.2),
    ("zh", re.compile("[\u4e00-\u9fff]"), 0.3),
    ("ru", re.compile("[\u0400-\u04ff]"), 0.3),
    ("ar", re.compile("[\u0600-\u06ff]"), 0.3),
    ("th", re.compile("[\u0e00-\u0e7f]"), 0.3),
    ("hi", re.compile("[\u0900-\u097f]"), 0.3),
)
SAME_SCRIPT = {"ru": ("uk",), "ar": ("fa",), "zh": ("ja",)}
"""Languages that a name may say where the script alone gives another."""
SYMBOLS = re.compile(r"[(){}\[\]<>=;_|\\]")
MOST_SYMBOLS = 0.05
"""Of all characters but spaces: prose has below 0.02, manuals 0.04, source code and LaTeX 0.06 and more."""
LEAST_LETTERS = 0.6
"""Of all characters but spaces, in prose."""

HELD_OUT_MARGIN = 1.2
"""Times the least that `prepare` takes, so that a few documents more or less do not matter."""
LEAST_HELD_OUT = 0.02
LARGEST_HELD_OUT = 0.3
"""A source of which more would have to be held out to measure anything is left out."""


@dataclass(frozen=True)
class Corpus:
    """One source of the quickstart's recipes."""

    name: str
    paths: list[str]
    language: str
    role: str
    """target, replay or other"""
    documents: int
    size: int
    """UTF-8 bytes of all documents' text"""
    held_out: float
    bad: float = 0.0
    """Share of records that are not documents; a few are tolerated."""

    def files(self) -> list[Path]:
        """The files that `paths` (patterns, as a recipe has them) stand for, in the order in which they are read."""
        return sorted({Path(name) for pattern in self.paths for name in glob.glob(pattern)})  # noqa: PTH207


class SmallestDraws:
    """The documents that are held out first, as many as a held-out part needs: memory for those alone."""

    def __init__(self) -> None:
        self._largest_first: list[tuple[int, int]] = []
        self._size = 0
        self._needed = [HELD_OUT_MARGIN * least for least in HELD_OUT_MINIMUM]

    def add(self, text: bytes) -> None:
        """Consider one document's UTF-8 text."""
        heapq.heappush(self._largest_first, (-held_out_draw(text), len(text)))
        self._size += len(text)
        documents, size = self._needed
        while len(self._largest_first) - 1 >= documents and self._size - self._largest_first[0][1] >= size:
            self._size -= heapq.heappop(self._largest_first)[1]

    def share(self) -> float | None:
        """The smallest share, in whole thousandths, that holds them out; None when the source has too few."""
        documents, size = self._needed
        if len(self._largest_first) < documents or self._size < size:
            return None
        return (math.floor(-self._largest_first[0][0] / 2.0**64 * 1000) + 1) / 1000


@dataclass
class Found:
    """What a folder holds: the sources that can be used, and why others cannot."""

    corpora: list[Corpus] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def embedded_corpora(directory: Path) -> list[Corpus]:
    """Write the embedded text as three corpora into `directory` (unless it is there), ready to be opened."""
    texts = {
        "japanese": ("ja", "target", HELD_OUT, _embedded("ja")),
        "english": ("en", "replay", HELD_OUT, _embedded("en")),
        "mathematics": ("math", "other", HELD_OUT / 2, list(documents(MATHEMATICS_SEED, MATHEMATICS_DOCUMENTS))),
    }
    corpora = []
    for name, (language, role, held_out, contents) in texts.items():
        path = directory / f"{name}.jsonl"
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in contents)
        if not path.exists() or path.read_text(encoding="utf-8") != lines:
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lines)
        size = sum(len(text.encode()) for text in contents)
        corpora.append(Corpus(name, [str(path)], language, role, len(contents), size, held_out))
    return corpora


def _embedded(language: str) -> list[str]:
    files = sorted(TEXT.glob(f"{language}-*.jsonl"))
    return [json.loads(line)["text"] for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def find_corpora(folder: Path) -> Found:
    """The sources in a folder: each data file, and each subfolder with data files in it, is one.

    Every file is read once to count its documents. Raises RecipeError when the folder does not hold at least one
    source to learn and one in English (or, with English alone, one named otherwise) to compare with.
    """
    if not folder.is_dir():
        raise RecipeError(f"--corpora: {folder} is not a folder")
    found = Found()
    taken: set[str] = set()
    for entry in sorted(folder.iterdir()):
        files = sorted(path for path in (entry.rglob("*") if entry.is_dir() else [entry]) if _is_data(path, folder))
        if not files:
            continue
        name = _source_name(entry, taken)
        corpus = _examine(name, entry, files, found.left_out)
        if corpus:
            taken.add(name.lower())
            found.corpora.append(corpus)
    return Found(_with_roles(folder, found), found.left_out)


def _is_data(path: Path, folder: Path) -> bool:
    """Whether a file's name says a format that we read, and nothing on its way from `folder` is hidden. A README
    is about data, not data."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    if hidden or not path.is_file() or path.name.lower().startswith(("readme", "licen")):
        return False
    try:
        format_of(path, "auto")
    except DataError:
        return False
    return True


def _source_name(entry: Path, taken: set[str]) -> str:
    """The file's or folder's name without its endings, made such that a recipe takes it: its characters, no name that
    Windows reserves, none that differs from another (`taken`, in lower case) in case only."""
    stem = entry.name
    if entry.is_file():
        stem = Path(stem).stem if compression_of(entry) else stem
        stem = Path(stem).stem
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:56] or "source"
    if base.split(".")[0].lower() in RESERVED_NAMES:
        base = f"text-{base}"
    name, number = base, 2
    while name.lower() in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _examine(name: str, entry: Path, files: list[Path], left_out: list[str]) -> Corpus | None:
    """Count and sample a source; None, with the reason in `left_out`, when it cannot serve."""
    count = size = bad = 0
    draws = SmallestDraws()
    sample: list[str] = []
    sampled, example = 0, ""
    try:
        for item in (item for path in files for item in read_file(path)):
            if isinstance(item, BadRecord):
                bad += 1
                example = example or item.detail
                continue
            content = item.text.encode()
            draws.add(content)
            count, size = count + 1, size + len(content)
            if sampled < SAMPLE_CHARACTERS:
                sample.append(item.text[:5_000])
                sampled += len(sample[-1])
    except DataError as error:  # a file that is empty, cut off or damaged
        left_out.append(str(error))
        return None
    if bad > 0.05 * (count + bad):
        left_out.append(f"{entry.name}: {bad:,} of {count + bad:,} records are not documents ({example})")
        return None
    share = draws.share()
    if share is None or share > LARGEST_HELD_OUT:
        left_out.append(
            f"{entry.name}: {count:,} documents and {size:,} bytes are too few to hold some out (about 100 documents "
            "and 100 kB are needed; a text file is one document, JSON Lines have one a line)"
        )
        return None
    paths = [glob.escape(str(path)) for path in files]
    language = language_of(entry.name, "\n".join(sample))
    return Corpus(name, paths, language, "", count, size, max(share, LEAST_HELD_OUT), bad / max(count + bad, 1))


def read_file(path: Path) -> Iterator[Document | BadRecord]:
    """What `prepare` would read of a file of a quickstart's source."""
    return read_documents(path, format_of(path, "auto"), Reading("text", "utf-8", max_bytes=64 << 20))


def language_of(name: str, sample: str) -> str:
    """The language of a source: what its text shows; its name's where the text shows a script that languages share, or
    prose of no language that is known here."""
    shown, named = language_of_text(sample), language_of_name(name)
    if named and (shown is None or named in SAME_SCRIPT.get(shown, ())):
        return named
    return shown or "other"


def language_of_name(name: str) -> str | None:
    """`ja` of `ja-books.jsonl`, `ja.txt`, or a folder `ja`; None where the name does not begin with a language."""
    match = NAMED.fullmatch(name)
    code = match.group(1).lower() if match else None
    return code if code in LANGUAGES else None


def language_of_text(text: str) -> str | None:
    """A guess by script; for Latin letters `other` where symbols are frequent (code, formulas) or letters few, `en`
    where common English words are frequent, and None for other prose."""
    characters = Counter(text)
    letters = sum(count for character, count in characters.items() if character.isalpha())
    if not letters:
        return "other"
    for language, pattern, share in SCRIPTS:
        if _count(pattern, characters) / letters >= share:
            return language
    written = sum(count for character, count in characters.items() if not character.isspace())
    if _count(SYMBOLS, characters) / written > MOST_SYMBOLS or letters / written < LEAST_LETTERS:
        return "other"
    words = re.findall(r"[a-z]+", text.lower())
    common = sum(word in COMMON_ENGLISH for word in words)
    return "en" if words and common / len(words) >= 0.2 else None


def _count(kind: re.Pattern[str], characters: Counter[str]) -> int:
    """Of how many characters a pattern of one is true."""
    return sum(count for character, count in characters.items() if kind.match(character))


def _with_roles(folder: Path, found: Found) -> list[Corpus]:
    """Targets: the language besides English with most text, else what is in no known language."""
    sizes: dict[str, int] = {}
    for corpus in found.corpora:
        if corpus.language not in ("en", "other"):
            sizes[corpus.language] = sizes.get(corpus.language, 0) + corpus.size
    target = max(sizes, key=lambda language: sizes[language]) if sizes else "other"
    roles = {"en": "replay", target: "target"}
    corpora = [
        Corpus(**{**vars(corpus), "role": roles.get(corpus.language, "other")})
        for corpus in found.corpora
    ]  # fmt: skip
    if {"target", "replay"} - {corpus.role for corpus in corpora}:
        seen = ", ".join(f"{corpus.name} ({corpus.language})" for corpus in corpora) or "nothing"
        reasons = "".join(f"\n  left out: {reason}" for reason in found.left_out)
        raise RecipeError(
            f"--corpora {folder}: a source in English and one in another language are needed; usable here: {seen}. "
            f"Where the language was not seen, begin the file's name with it, such as de-books.jsonl{reasons}"
        )
    return sorted(corpora, key=lambda corpus: ("target", "replay", "other").index(corpus.role))
