"""JSON in corpora: an object a line, or (of conversations) one array of objects. No key may stand twice, and nothing is
read that JSON does not have."""

import json
from collections.abc import Iterator
from typing import Any

from tsugiki.corpus.compression import FileDigest, Openable, read_chunks
from tsugiki.corpus.pieces import Found, Lines, Piece, TooLong, cut_lines, given
from tsugiki.corpus.records import (
    BOM,
    BadRecord,
    Document,
    Reading,
    checked_text,
    decoded,
    excerpt,
    perhaps_chat,
    too_long,
)
from tsugiki.errors import DataError


class JsonLines(Lines):
    """One JSON object a line."""

    def items(self, how: Reading) -> Iterator[Found]:
        """The text of each object, or all of it."""
        for number, line in self.lines(how):
            if isinstance(line, BadRecord):
                yield line
            elif how.as_records:
                yield Document(line, number)
            else:
                record = parse_object(line, number)
                yield record if isinstance(record, BadRecord) else _document(record, how.text_key, number)


def cut_json(path: Openable, how: Reading, digest: FileDigest) -> Iterator[Piece]:
    """JSON Lines; of records, also a file that is one array of them."""
    if how.as_records and _is_array(path):
        yield from given(read_array)(path, how, digest)
        return
    for piece in cut_lines(path, how, digest):
        yield piece if isinstance(piece, TooLong) else JsonLines(piece.first, piece.data)


def _document(record: dict[str, Any], text_key: str, number: int) -> Document | BadRecord:
    if text_key not in record:
        has = ", ".join(map(repr, list(record)[:8])) or "none"
        return BadRecord("missing key", number, f"no key {text_key!r}; it has {has[:200]}{perhaps_chat(record)}")
    return checked_text(record[text_key], number, text_key)


def parse_object(text: str, number: int) -> dict[str, Any] | BadRecord:
    """The JSON object that a text is, or what is wrong with it."""
    try:
        record = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except _DuplicateKeyError as error:
        return BadRecord("duplicate key", number, f"key {error} stands twice")
    except RecursionError:
        return BadRecord("malformed", number, "nested too deeply")
    except ValueError as error:
        return BadRecord("malformed", number, f"not one JSON object: {error}: {excerpt(text)}")
    if not isinstance(record, dict):
        hint = " (a JSON array; write one object a line)" if isinstance(record, list) else ""
        return BadRecord("malformed", number, f"a {type(record).__name__}, not an object{hint}: {excerpt(text)}")
    return record


class _DuplicateKeyError(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(repr(next(key for key, _ in pairs if key in seen or seen.add(key))))  # type: ignore[func-returns-value]
    return record


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _is_array(path: Openable) -> bool:
    for chunk in read_chunks(path, FileDigest()):
        if text := chunk.removeprefix(BOM).lstrip():
            return text.startswith(b"[")
    return False


def read_array(path: Openable, how: Reading, digest: FileDigest) -> Iterator[Found]:
    """The elements of an array, which is held in memory. Raises DataError where it cannot be read to its end."""
    text = decoded(b"".join(read_chunks(path, digest)).removeprefix(BOM), 1, how.encoding)
    if isinstance(text, BadRecord):
        raise DataError(f"{path}: an array of records that cannot be read: {text.detail}")
    decoder, place, number = json.JSONDecoder(), _skip(text, text.find("[") + 1), 0
    if text[place : place + 1] == "]":
        place += 1
    else:
        while True:
            number += 1
            try:
                _, end = decoder.raw_decode(text, place)
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else error
                raise DataError(f"{path}: element {number:,} of its array cannot be read: {reason}") from None
            element = text[place:end]
            yield too_long(number, how) if len(element.encode()) > how.max_bytes else Document(element, number)
            place = _skip(text, end)
            mark, place = text[place : place + 1], _skip(text, place + 1)
            if mark == "]":
                break
            if mark != ",":
                raise DataError(
                    f"{path}: behind element {number:,} of its array stands neither , nor ]: it is cut short"
                )
    if text[place:].strip():
        raise DataError(f"{path}: more stands behind its array; write one array, or one record a line")


def _skip(text: str, place: int) -> int:
    """The place of the next character that is no white space of JSON."""
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place
