"""The recipe's section `data.chat`: how the conversations of all sources with `format: chat` are written and masked."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from tsugiki.chat.conversations import Role, is_tool
from tsugiki.chat.given import Given
from tsugiki.chat.templates import NAMED
from tsugiki.recipe_values import OneOf, Section
from tsugiki.shapes import describe

CHAT = "chat"
"""What a source's `format` says where its records are conversations."""

LOSS_ON = ("assistant", "completion", "last", "all")


def _loss_on(value: Any) -> Any:
    """A word, or roles in a list; one message for both (pydantic would give one for each)."""
    roles = get_args(Role)
    if value in LOSS_ON or (isinstance(value, list) and value and all(role in roles for role in value)):
        return value
    wrong = next((role for role in value if role not in roles), None) if isinstance(value, list) else value
    near = get_close_matches(str(wrong), LOSS_ON if wrong is value else roles, 1)
    raise ValueError(
        f"must be one of {', '.join(LOSS_ON)}, or a list of roles ({', '.join(roles)}), not {describe(wrong)}"
        + (f"; did you mean {near[0]}?" if near else "")
    )


LossOn = Annotated[
    str | list[str],
    BeforeValidator(_loss_on),
    WithJsonSchema({"anyOf": [
        {"enum": list(LOSS_ON)},
        {"type": "array", "items": {"enum": list(get_args(Role))}, "minItems": 1},
    ]}),
]  # fmt: skip


def _tool(value: dict[str, Any]) -> dict[str, Any]:
    if not is_tool(value):
        raise ValueError("must be the schema of a function, alone or under the key function")
    return value


Tool = Annotated[dict[str, Any], AfterValidator(_tool)]


class ChatSection(Section):
    """How conversations are written, for all sources of format chat."""

    template: Annotated[str, OneOf(NAMED)] | None = Field(
        default=None,
        description="A chat template by name, for a base that has none. Default: the tokenizer's own. The exported"
        " model carries what was used.",
    )
    template_kwargs: dict[str, Any] = Field(
        default={},
        description="What the template is given beside the messages, e.g. enable_thinking: false, or today: 2026-01-31"
        " for one that writes the date. A record's own template_kwargs go before these.",
    )
    tools: list[Tool] = Field(
        default=[],
        description="JSON schemas of functions that the assistant may call, for records that name none. The exported"
        " model says so, and is asked with them.",
    )
    append_eos: bool = Field(
        default=False,
        description="End each answer with the tokenizer's EOS where the template writes no token there; without one a"
        " model would not learn to stop, and preparing is refused.",
    )
    add_template_tokens: bool = Field(
        default=False,
        description="Give a named template the markers that the tokenizer does not have, as new tokens with rows of"
        " their own. Off: such a template is refused.",
    )
    rewritten_history: Literal["each", "last", "refuse"] = Field(
        default="each",
        description="Where a template writes earlier turns otherwise once a later one is asked. each: a sample for"
        " every such turn, as the model is given it. last: the last one alone. refuse: no such conversation.",
    )

    @property
    def given(self) -> Given:
        """What the template is given beside conversations that bring nothing of their own."""
        return Given(tuple(self.tools), self.template_kwargs)
