"""Rows of evaluation files, whatever the format: each knows its place and gives typed values or says what is wrong.

Read whole: the largest set, SQuAD2 with its training split, takes a few hundred megabytes. Nothing is guessed: a value
that is missing, empty or of another type is an error that names file, place and key.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.corpus.compression import read_chunks
from tsugiki.corpus.records import SURROGATE
from tsugiki.errors import DataError

BOM = "\ufeff"
MAX_FIELD = 1 << 24
"""Characters of a CSV field; the module's own limit (131,072) is shorter than the longest articles."""


@dataclass(frozen=True)
class Row:
    """One object of a file and where it stands, such as `…/test.jsonl: line 3`."""

    place: str
    values: dict[str, Any]

    def error(self, what: str) -> DataError:
        """An error at this place."""
        return DataError(f"{self.place}: {what}. Put the set's original file there (`tsugiki data fetch`)")

    def text(self, key: str) -> str:
        """A string that says something, exactly as it stands."""
        return self._checked(self._value(key), repr(key))

    def texts(self, key: str) -> list[str]:
        """A list of strings that say something; it may be empty."""
        return [self._checked(value, f"{key!r}[{index}]") for index, value in enumerate(self._list(key))]

    def integer(self, key: str) -> int:
        """A whole number, or a string of ASCII digits (some files quote their labels)."""
        value = self._value(key)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"{key!r} is {value!r:.40}, not a whole number")
        return value

    def label(self, key: str, choices: int) -> int:
        """The index of the right choice, from 0."""
        value = self.integer(key)
        if not 0 <= value < choices:
            raise self.error(f"{key!r} is {value}, but there are {choices} choices (0 to {choices - 1})")
        return value

    def row(self, key: str) -> "Row":
        """An object inside this one."""
        value = self._value(key)
        if not isinstance(value, dict):
            raise self.error(f"{key!r} is {type(value).__name__}, not an object")
        return Row(f"{self.place}.{key}", value)

    def rows(self, key: str) -> list["Row"]:
        """A list of objects inside this one."""
        return objects(self._list(key), f"{self.place}.{key}")

    def _value(self, key: str) -> Any:
        if key not in self.values:
            has = ", ".join(map(repr, list(self.values)[:8])) or "none"
            raise self.error(f"no key {key!r} (it has {has[:200]})")
        return self.values[key]

    def _list(self, key: str) -> list[Any]:
        value = self._value(key)
        if not isinstance(value, list):
            raise self.error(f"{key!r} is {type(value).__name__}, not a list")
        return value

    def _checked(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise self.error(f"{name} is {type(value).__name__}, not text")
        if not value.strip():
            raise self.error(f"{name} is empty")
        if SURROGATE.search(value):
            raise self.error(f"{name} holds half of a surrogate pair, which no tokenizer takes")
        return value


def read_rows(path: Path) -> list[Row]:
    """The objects of a JSON Lines, JSON (an array), CSV (with a header) or Parquet file, by its name and beginning.

    Raises DataError when the file is empty, damaged or of another format.
    """
    if path.suffix == ".parquet":
        rows = _read_parquet(path)
    elif path.suffix == ".csv":
        rows = _read_csv(path)
    else:
        content = read_text(path)
        rows = objects(_json(content, path), str(path)) if content.lstrip().startswith("[") else _lines(content, path)
    if not rows:
        raise DataError(f"{path}: the file holds no items. Put the set's original file there (`tsugiki data fetch`)")
    return rows


def read_object(path: Path) -> Row:
    """The one object of a JSON file. Raises DataError."""
    value = _json(read_text(path), path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: this is a JSON {type(value).__name__}, and an object was expected")
    return Row(str(path), value)


def read_text(path: Path) -> str:
    """A text file, plain or compressed, as UTF-8 without its byte order mark.

    Raises DataError for an empty, damaged or wrongly encoded file, and for one that is not what its name says.
    """
    content = b"".join(read_chunks(path))
    try:
        return content.decode("utf-8").removeprefix(BOM)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8 text. Convert the file (iconv) or fetch it again") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, split at `\\n` only, without their endings; the last may lack one."""
    lines = read_text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def objects(values: Any, place: str) -> list[Row]:
    """Rows of a JSON array of objects."""
    if not isinstance(values, list):
        raise DataError(f"{place}: this is {type(values).__name__}, and a list was expected")
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(f"{place}[{index}]: this is {type(value).__name__}, and an object was expected")
    return [Row(f"{place}[{index}]", value) for index, value in enumerate(values)]


def _lines(content: str, path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            value = _json(line, f"{path}: line {number}")
            if not isinstance(value, dict):
                raise DataError(f"{path}: line {number}: this is {type(value).__name__}, and an object was expected")
            rows.append(Row(f"{path}: line {number}", value))
    return rows


def _json(content: str, place: Path | str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{place}: not valid JSON ({error}). Put the set's original file there (`tsugiki data fetch`)"
        ) from None


def _read_csv(path: Path) -> list[Row]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    rows = []
    limit = csv.field_size_limit(MAX_FIELD)  # a setting of the whole process, so it is put back
    try:
        for values in reader:
            row = Row(f"{path}: line {reader.line_num}", values)
            if None in values or None in values.values():
                raise row.error(f"other than {len(reader.fieldnames or [])} fields")
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.reader.line_num}: not valid CSV ({error})") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True).read()
        values = table.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a Parquet file that can be read to its end ({error})") from None
    return [Row(f"{path}: row {number}", value) for number, value in enumerate(values, 1)]
