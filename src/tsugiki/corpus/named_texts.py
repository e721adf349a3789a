"""Documents of files that are named on the command line: each with its place, and nothing passed over."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tsugiki.corpus.readers import FORMATS, either, format_of, read_documents
from tsugiki.corpus.records import BadRecord, Reading
from tsugiki.errors import DataError


@dataclass(frozen=True)
class Text:
    """A document and where it stands, as "file:line"."""

    place: str
    text: str


def read_texts(paths: Iterable[Path], text_key: str = "text") -> Iterator[Text]:
    """The documents of files given on the command line. Raises DataError for whatever cannot be read, by file and line:
    a lone surrogate (half of a character, which no UTF-8 text can hold) too."""
    files = [(path, _format_of(path)) for path in paths]  # all are looked at before the first is read
    return (text for path, format_name in files for text in _texts_of(path, format_name, text_key))


def _format_of(path: Path) -> str:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path} is no file; name the files of text in it")
    try:
        return format_of(path, "auto")
    except DataError:
        endings = [one.endings[0] for one in FORMATS.values()]
        raise DataError(f"{path}: its ending names no format; call it {either(endings)}") from None


def _texts_of(path: Path, format_name: str, text_key: str) -> Iterator[Text]:
    empty = True
    for item in read_documents(path, format_name, Reading(text_key, "utf-8", max_bytes=2**30)):
        if isinstance(item, BadRecord):
            raise DataError(f"{path}:{item.line}: {item.kind}: {item.detail}")
        if item.replaced:
            raise DataError(f"{path}:{item.line}: a lone surrogate, which is no character; mend the file")
        empty = False
        yield Text(f"{path}:{item.line}", item.text)
    if empty:
        raise DataError(f"{path}: no document in the whole file")
