"""What the recipe says of a corpus, whether it is trained on or pieces are learned from it: where its documents lie."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tsugiki.corpus.compression import SUFFIXES
from tsugiki.corpus.readers import FORMATS
from tsugiki.recipe_chat import CHAT
from tsugiki.recipe_values import FREE, OneOf, PathList, Section, Text


class CorpusSection(Section):
    """Where documents come from: one of `path` and `hub`."""

    path: PathList | None = Field(
        default=None,
        description="A file or glob pattern, or a list of them, relative to the current directory: "
        f"{', '.join(one.endings[0] for one in FORMATS.values())}, plain or {' '.join(SUFFIXES)}."
        " ** matches any depth.",
        json_schema_extra=FREE,
    )
    hub: Text | None = Field(
        default=None, description="A data set on the hub, as `datasets` names it (needs the extra `hub`)."
    )
    subset: Text | None = Field(
        default=None, description="Configuration of the hub data set. Default: its own default."
    )
    split: Text = Field(default="train", description="Split of the hub data set.")
    revision: Text | None = Field(
        default=None,
        description="Branch, tag or commit of the hub data set, resolved to a commit once and recorded.",
    )
    text_key: Text = Field(default="text", description="Key or column that holds the document's text.")
    format: Annotated[str, OneOf(["auto", *FORMATS])] = Field(
        default="auto", description="File format; auto goes by the file name without its compression suffix."
    )
    encoding: Text = Field(
        default="utf-8", description="Text encoding of the files. Invalid bytes are counted, not guessed at."
    )

    @property
    def paths(self) -> list[str]:
        """Files and patterns as a list, empty for a hub source."""
        return list(self.path or [])

    @property
    def is_chat(self) -> bool:
        """Whether its records are conversations."""
        return self.format == CHAT
