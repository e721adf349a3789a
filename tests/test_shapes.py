"""Values of another shape than declared are named by file and key; those of the right shape come back as they are."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from typing_extensions import TypedDict

from tsugiki.errors import DataError
from tsugiki.shapes import FileName, parse_json


class Part(TypedDict):
    size: int
    shares: dict[str, float]


@dataclass
class Whole:
    name: str
    parts: list[Part]
    files: dict[FileName, int]


GOOD: dict[str, Any] = {"name": "接ぎ木", "parts": [{"size": 3, "shares": {"a": 1}}], "files": {"a-1.bin": 2}}


def test_what_has_the_shape_comes_back_with_its_types():
    assert parse_json(json.dumps(GOOD), Whole, "f") == Whole(**GOOD)
    assert parse_json(b'{"a": [1, null]}', dict[str, Any], "f") == {"a": [1, None]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 7}, "f: name must be text, not 7"),
        ({"name": None}, "f: name must be text, not empty"),
        ({"parts": {}}, "f: parts must be a list, such as [...], not a mapping"),
        ({"parts": [[]]}, "f: parts[0] must be a mapping of keys to values, not a list"),
        ({"parts": [{"size": True, "shares": {}}]}, "f: parts[0].size must be a whole number, not true"),
        ({"parts": [{"size": 1.5, "shares": {}}]}, "f: parts[0].size must be a whole number, not 1.5"),
        ({"parts": [{"size": 1}]}, "f: parts[0].shares is missing"),
        ({"parts": [{"size": 1, "shares": {"a": "2"}}]}, "f: parts[0].shares.a must be a number, not the text '2'"),
        ({"files": {"../a": 1}}, "f: files.../a is no name of a file in the same folder"),
        ({"files": {"/dev/zero": 1}}, "f: files./dev/zero is no name of a file in the same folder"),
        ({"files": {"": 1}}, "f: files. is no name of a file in the same folder"),
    ],
)
def test_the_first_wrong_value_is_named_with_its_key(change, said):
    with pytest.raises(DataError) as caught:
        parse_json(json.dumps(GOOD | change), Whole, "f")
    assert str(caught.value) == f"{said}. It was damaged or written by something else."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "f is not valid JSON (EOF while parsing a value at line 1 column 0)"),
        (b'{"name": ', "f is not valid JSON (EOF while parsing a value at line 1 column 9)"),
        (b'{"name": "\xff"}', "f is not valid JSON"),
        (b"\xff\xfe{\0", "f is not valid JSON"),
        (b"[" * 100_000, "f is not valid JSON (recursion limit exceeded"),
        (b"[]", "f: must be a mapping of keys to values, not a list"),
        (b"null", "f: must be a mapping of keys to values, not empty"),
    ],
)
def test_what_is_no_json_object_is_refused(content, said):
    with pytest.raises(DataError) as caught:
        parse_json(content, dict[str, Any], "f")
    assert str(caught.value).startswith(said)
