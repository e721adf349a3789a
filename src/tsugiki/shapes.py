"""Values from outside against a declared shape: what of them is wrong, and at which key, in one line.

A shape is a type that pydantic checks: `dict[str, Any]`, a dataclass, a TypedDict or a list of them. It is stated
beside the code that writes the file, so that whoever reads it has the types that the annotations promise, or an error
that names the file. Checks are strict: nothing is converted but whole numbers to floats.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tsugiki.errors import DataError

T = TypeVar("T")
Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong, at one place: of a recipe, as it is told to the user."""

    path: Path
    message: str


_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def parse_json(content: bytes | str, shape: type[T], where: str) -> T:
    """The JSON value `content` in the form that `shape` declares; keys that it does not declare are left out.

    Raises DataError, naming `where` (a file, or a line of one) and the first key that is wrong.
    """
    try:
        return _adapter(shape).validate_json(content, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        if details["type"] == "json_invalid":
            reason = str(details.get("ctx", {}).get("error", "cut short"))
            raise DataError(f"{where} is not valid JSON ({reason}). {_REMEDY}") from None
        path = dotted(tuple(part for part in details["loc"] if part != "[key]"))
        problem = "is missing" if details["type"] == "missing" else explain(details)
        raise DataError(f"{where}: {path + ' ' if path else ''}{problem}. {_REMEDY}") from None


_REMEDY = "It was damaged or written by something else."


@cache
def _adapter(shape: Any) -> TypeAdapter:
    return TypeAdapter(shape)


def _plain_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", value):
        raise ValueError("is no name of a file in the same folder")
    return value


FileName = Annotated[str, AfterValidator(_plain_name)]
"""A file beside the one that names it: never a path that leads elsewhere."""


def dotted(path: Path) -> str:
    """("data", "stages", 0, "weights") -> "data.stages[0].weights"; very long keys are cut."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if len(part) <= 80 else part[:77] + "...")
    return text


def explain(details: ErrorDetails) -> str:
    """What is wrong with one value, in words that need no key before them: "must be a number, not the text 'a'"."""
    kind, value, limits = details["type"], details["input"], details.get("ctx", {})
    given = describe(value)
    if kind == "value_error":
        return str(limits.get("error", details["msg"]))
    if kind == "literal_error":
        return f"must be one of {', '.join(choices(details))}, not {given}"
    if kind in ("int_type", "int_from_float", "int_parsing"):
        hint = ""
        if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_,]*", value):
            hint = f"; write {re.sub('[_,]', '', value)}"
        return f"must be a whole number, not {given}{hint}"
    if kind in ("float_type", "float_parsing"):
        return f"must be a number, not {given}"
    if kind == "bool_type":
        return f"must be true or false, not {given}"
    if kind == "string_type":
        return f"must be text, not {given}"
    if kind in ("model_type", "dict_type", "model_attributes_type", "dataclass_type"):
        return f"must be a mapping of keys to values, not {given}"
    if kind == "list_type":
        inside = given if isinstance(value, str | int | float) else "..."
        return f"must be a list, such as [{inside.removeprefix('the text ')}], not {given}"
    if kind == "too_short":
        return "must not be empty"
    if kind == "string_too_short":
        return "must not be empty text; leave the key out instead"
    for name, words in _LIMITS.items():
        if name in limits:
            limit = limits[name]
            return f"must be {words} {f'{limit:,}' if isinstance(limit, int) else f'{limit:g}'}, not {given}"
    return f"{details['msg'][:1].lower()}{details['msg'][1:]} (given: {given})"


def choices(details: ErrorDetails) -> list[str]:
    """The values that a `literal_error` would have taken."""
    return re.findall(r"'([^']+)'", str(details.get("ctx", {}).get("expected", "")))


def describe(value: Any) -> str:
    """A short, safe description of a value; never a whole tree (aliases unfold when printed)."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:.12g}" if isinstance(value, float) else str(value)[:40]
    if isinstance(value, str):
        return f"the text {value[:40]!r}" + (" …" if len(value) > 40 else "")
    return "a list" if isinstance(value, list) else "a mapping"
