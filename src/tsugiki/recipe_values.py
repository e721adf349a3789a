"""The kinds of values that a recipe's keys take: what each accepts, and how it is put into one form.

`recipe` gives the keys themselves. Limits stand before validators: behind them they would not be in the JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import CoreSchema, core_schema

SOURCE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
RESERVED_NAMES = {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
_RESERVED_ANY_CASE = "|".join("".join(f"[{c}{c.upper()}]" for c in name) for name in sorted(RESERVED_NAMES))
SOURCE_NAMES: JsonDict = {
    "propertyNames": {
        "pattern": f"^{SOURCE_NAME.pattern}$",
        "not": {"pattern": rf"^({_RESERVED_ANY_CASE})(\.|$)"},
    }
}
"""The rule of source names for editors: pydantic's JSON Schema leaves keys open."""


def whole_number(value: Any) -> Any:
    """`100e9` is a float to YAML and a count to its writer; a fraction stays a float and is refused later."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _expand_home(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("~"):
        try:
            return str(Path(value).expanduser())
        except RuntimeError as error:
            raise ValueError(f"names a home directory that is not known ({value})") from error
    return value


def _as_path(value: Any) -> Any:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be text that names a file or folder")
    return Path(_expand_home(value))


def _as_list(value: Any) -> Any:
    """One path or name may be written without brackets; the model always holds a list."""
    return [value] if isinstance(value, str) else value


def _source_name(value: str) -> str:
    """A source's name becomes a folder, so it must be a plain file name on every system."""
    if not SOURCE_NAME.fullmatch(value):
        raise ValueError("a source is named by 1 to 64 of A-Z a-z 0-9 . _ - and does not start with a dot")
    if value.split(".")[0].lower() in RESERVED_NAMES:
        raise ValueError("this name is reserved by Windows and cannot be a folder there; choose another")
    return value


Count = Annotated[int, Field(ge=1, le=10**15), BeforeValidator(whole_number)]
CountOrZero = Annotated[int, Field(ge=0, le=10**15), BeforeValidator(whole_number)]
Steps = Annotated[int, Field(ge=1, le=10**12), BeforeValidator(whole_number)]
Listed = Annotated[int, Field(ge=1, le=10**6), BeforeValidator(whole_number)]
"""Of what is held in a list: the windows of a step, new pieces. With `Steps`, every window of a run has a number below
2^62."""
SampleRange = Annotated[list[CountOrZero], Field(min_length=2, max_length=2)]
"""[a, b): from the first number on, up to but without the second."""
Processes = Annotated[int, Field(ge=1, le=1024), BeforeValidator(whole_number)]
Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[str, Field(min_length=1), BeforeValidator(_expand_home)]
FilePath = Annotated[
    Path, BeforeValidator(_as_path), WithJsonSchema({"type": "string", "format": "path", "minLength": 1})
]
_TEXT_SCHEMA = {"type": "string", "minLength": 1}
PathList = Annotated[
    list[PathText],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}]}),
]
TextList = Annotated[
    list[Text],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}]}),
]
SourceName = Annotated[str, AfterValidator(_source_name)]


class OneOf:
    """Makes text one of the names of a table, as `Literal` does of names that are written out:
    `Annotated[str, OneOf(TABLE)]`."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(self.names)


Weight = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=0, lt=1)]


FREE: JsonDict = {"resume": "free"}
EXTENDING: JsonDict = {"resume": "extending"}
"""What may happen to a key when a run is resumed; see `recipe`."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are strict and finite, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())
