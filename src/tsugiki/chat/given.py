"""What a template is given beside the messages: the tools that the assistant may call, and arguments.

A model that was always shown tools, or always with `enable_thinking: false`, is another one without. So a run writes
what it gave into a file of the model's folder, which other programs pass over, and whoever asks the model reads it
there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tsugiki.chat.conversations import is_tool
from tsugiki.errors import DataError, ModelError, RecipeError
from tsugiki.files import read_json
from tsugiki.model_folder import own_files

GIVEN_FILE = "tsugiki_chat.json"


class _Written(TypedDict):
    tools: list[dict[str, Any]]
    template_kwargs: dict[str, Any]


@dataclass(frozen=True)
class Given:
    """What conversations are given that bring nothing of their own."""

    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of functions."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tools or self.template_kwargs)

    def otherwise(self, tools: Sequence[dict[str, Any]] | None, template_kwargs: Mapping[str, Any] | None) -> Given:
        """With other tools and other arguments, where they are not None."""
        return Given(
            self.tools if tools is None else tuple(tools),
            self.template_kwargs if template_kwargs is None else template_kwargs,
        )

    def as_file(self) -> bytes:
        """The content of GIVEN_FILE."""
        values = {"tools": list(self.tools), "template_kwargs": dict(self.template_kwargs)}
        return (json.dumps(values, ensure_ascii=False, indent=2) + "\n").encode()


def given_in(folder: Path) -> Given:
    """What the model in `folder` was trained with, as far as its folder says. Raises ModelError for a damaged file."""
    for path in own_files(folder, [GIVEN_FILE]):
        try:
            written = read_json(path, _Written)
        except DataError as error:
            raise ModelError(str(error)) from None
        if not all(map(is_tool, written["tools"])):
            raise ModelError(f"{path}: tools must be schemas of functions. It was damaged or written by something else")
        return Given(tuple(written["tools"]), written["template_kwargs"])
    return Given()


def tools_of(text: str, option: str) -> tuple[dict[str, Any], ...]:
    """Tools given on the command line. Raises RecipeError for what is no list of functions' schemas."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{option} {text}: not JSON ({error})") from None
    if not isinstance(found, list) or not all(map(is_tool, found)):
        raise RecipeError(
            f"{option} {text}: give a JSON list of functions' schemas, as in a file of them: {option} "
            '"$(cat tools.json)"; or [] for none'
        )
    return tuple(found)
