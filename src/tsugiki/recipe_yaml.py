"""YAML as its 1.2 core schema reads it, with the line of every key, and bounded in every direction.

PyYAML follows YAML 1.1, where `2e-5` is text, `no` and `on` are booleans, `012` is ten and `12:30` is 750; it
keeps the last of duplicate keys without a word, and nine lines of aliases can unfold to gigabytes. Here only
PyYAML's parser is used, and values are made from its nodes: scalars by the 1.2 rules
(https://yaml.org/spec/1.2.2/, 10.3.2), keys as text exactly as written, no tags, and limits on size, depth,
aliases and unfolded values.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

from tsugiki.errors import RecipeError
from tsugiki.shapes import Path, dotted

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_ALIASES = 100
MAX_VALUES = 20_000
"""Values after aliases are unfolded; Swallow's recipe has about fifty."""
MAX_DIGITS = 40

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# Control characters and lone surrogates: of no use here, and trouble in file names, terminals and UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass
class Document:
    """What was read: plain Python values, and the 1-based line on which each path is written."""

    tree: Any
    lines: dict[Path, int] = field(default_factory=dict)


def plain_value(text: str) -> Any:
    """The value of an unquoted scalar. Raises ValueError, with the reason, for unusable numbers."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_DIGITS:
        if _INT.fullmatch(text) or _HEX.fullmatch(text) or _OCTAL.fullmatch(text):
            raise ValueError(f"a number of {len(text)} digits; quote it if it is text")
    elif _INT.fullmatch(text):
        return int(text)
    elif _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    elif _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _INFINITE.fullmatch(text):
        raise ValueError(f"{text} is not a value that any key takes; quote it if it is text")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError(f"the number {text[:40]} is too large")
        return value
    return text


class _BoundedLoader(yaml.SafeLoader):
    """Composes nodes only; stops at the limits before memory or the stack is used up."""

    depth = 0
    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise _Refused(f"more than {MAX_ALIASES} aliases (*name)", event.start_mark)
        elif getattr(event, "tag", None) is not None:
            raise _Refused(f"tags such as {event.tag[:40]} are not taken; quote text instead", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return "tag:yaml.org,2002:str"  # values are resolved by `plain_value`


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


@lru_cache(maxsize=8)  # a run reads its recipe several times, and this takes most of the time
def _nodes(text: str) -> yaml.Node | None:
    return _BoundedLoader(text).get_single_node()


def read(text: str, where: str) -> Document:
    """Parse one YAML document; `where` names it in errors ("recipe.yaml", "from override: seed").

    Raises RecipeError naming every duplicate key with both lines and every unusable value, or the first place
    at which the text is not YAML.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{where}: larger than {MAX_BYTES:,} bytes, which no recipe is; is it another file?")
    try:
        node = _nodes(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{where}:{line}: a character that YAML does not allow (U+{error.character:04X})") from error
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_explain(error, where, text)) from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise RecipeError(f"{where}: not valid YAML: {error}") from error
    builder = _Builder(where)
    document = Document(builder.build(node, ()) if node is not None else None, builder.lines)
    if builder.problems:
        raise RecipeError("\n".join(builder.problems))
    return document


def _explain(error: yaml.MarkedYAMLError, where: str, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{where}:{mark.line + 1}" if mark else where
    problem = (error.problem or error.context or "cannot be read").strip()
    if isinstance(error, _Refused):
        return f"{place}: {problem}"
    line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
    hint = ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in problem:
        hint = "; indent with spaces, not tabs"
    elif "mapping values are not allowed" in problem:
        hint = "; look for wrong indentation, or text with a colon that needs quotes"
    elif any(word in f"{error.context} {problem}" for word in ("alias", "anchor", "cannot start any token")):
        hint = '; text that begins with * & @ % or ` needs quotes ("*.jsonl")'
    elif "expected a single document" in (error.context or ""):
        problem, hint = "a second document begins here", "; a recipe is one document, remove the --- line"
    return f"{place}: not valid YAML: {problem}{hint}"


class _Builder:
    """Makes Python values from nodes and remembers lines; gathers problems, not only the first."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: dict[Path, int] = {}
        self.problems: list[str] = []
        self.values = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.values += 1
        if self.values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise RecipeError(
                f"{self.where}: more than {MAX_VALUES:,} values or {MAX_DEPTH} levels once aliases unfold"
            )
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        text = node.value
        if _UNPRINTABLE.search(text):
            self._problem(node, path, "a control character or half a character in the text")
            return None
        if node.style is not None:  # quoted, or a block of text
            return text
        try:
            return plain_value(text)
        except ValueError as error:
            self._problem(node, path, str(error))
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "a key must be plain text")
                continue
            name = key.value
            if not name or _UNPRINTABLE.search(name) or "\n" in name:
                self._problem(key, path, "an empty key or one with control characters")
                continue
            below = (*path, name)
            line = key.start_mark.line + 1
            if name in first:
                lines = f"on line {first[name]}" if first[name] != line else "on the same line"
                self._problem(key, below, f"given twice, first {lines}; keep one")
                continue
            first[name] = line
            self.lines[below] = line
            mapping[name] = self.build(value, below)
        return mapping

    def _problem(self, node: yaml.Node, path: Path, message: str) -> None:
        name = f"{dotted(path)}: " if path else ""
        self.problems.append(f"{self.where}:{node.start_mark.line + 1}: {name}{message}")
