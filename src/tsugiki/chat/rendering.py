"""A conversation as its template writes it, by transformers' sandboxed Jinja.

Given the same messages, text and ids are those of `apply_chat_template`, but that what the messages spell like a
control token stays text (see `control_strings`). What anybody sends to the model is made here, for training and for
talking.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from tsugiki.chat.control_strings import Rendering, mark, unmark, unused_characters
from tsugiki.chat.conversations import Conversation, Message
from tsugiki.chat.given import Given
from tsugiki.chat.templates import ChatTemplate
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.errors import DataError, RecipeError
from tsugiki.printable import one_line

_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


class Renderer:
    """Writes messages by one template for one tokenizer. `given` is what conversations get that bring nothing of their
    own; `today` among its arguments is the date (2026-01-31) for templates that write the day's."""

    def __init__(self, tokenizer: ChatTokenizer, template: ChatTemplate, given: Given | None = None):
        self.tokenizer = tokenizer
        self.template = template
        self.given = given or Given()
        self.template_kwargs = dict(self.given.template_kwargs)
        self._source = with_fixed_date(template.source, self.template_kwargs.pop("today", None))
        self.written = tuple(
            piece
            for piece, (_, special) in tokenizer.added.items()
            if special or (piece in template.source and not piece.isspace())
        )
        """The control tokens: added tokens that are flagged special, and those that the template writes itself."""
        self.also_in_answers: tuple[str, ...] = ()
        """Control tokens not flagged special that an assistant's message cannot spell either: the end token."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        generation_prompt: bool,
        tools: Sequence[dict[str, Any]] = (),
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Rendering:
        """The text of `messages`, with the prompt for an answer behind it where `generation_prompt` asks for one.
        `tools` and `template_kwargs` are the conversation's own, if it has some.

        Raises DataError with the template's own words where it refuses them.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        turns = [message.as_dict() for message in messages]
        offered = list(tools or self.given.tools)
        kwargs = {**self.template_kwargs, **(template_kwargs or {})}
        answers = (*self.tokenizer.specials, *self.also_in_answers)
        try:
            marks = unused_characters([turns, offered, kwargs])
            turns = [mark(turn, answers if turn["role"] == "assistant" else self.written, marks) for turn in turns]
            text = render_jinja_template(
                conversations=[turns],
                tools=mark(offered, self.written, marks) or None,
                chat_template=self._source,
                add_generation_prompt=generation_prompt,
                **{**self.tokenizer.special_tokens, **mark(kwargs, self.written, marks)},
            )[0][0]
        except Exception as error:  # a template is a program: it raises whatever its expressions do
            said = one_line(str(error) or type(error).__name__, 300)
            raise DataError(
                f"the chat template ({self.template.name}) does not take this conversation: {said}"
            ) from None
        return unmark(text, self.written + self.also_in_answers, marks)

    def generation_blocks(self, conversation: Conversation, count: int) -> list[tuple[int, int]]:
        """Where, in the rendering of the first `count` messages, stands what the template itself marks as generated;
        empty where it has no such blocks."""
        from transformers.utils.chat_template_utils import render_jinja_template

        if not _BLOCK.search(self._source):
            return []
        turns = [message.as_dict() for message in conversation.messages[:count]]
        kwargs = {**self.template_kwargs, **conversation.template_kwargs}
        return render_jinja_template(
            conversations=[turns],
            tools=list(conversation.tools or self.given.tools) or None,
            chat_template=self._source,
            return_assistant_tokens_mask=True,
            **{**self.tokenizer.special_tokens, **kwargs},
        )[1][0]

    def prompt_ids(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The ids that a model is given to answer `messages`, in training as in use."""
        prompt = self.render(messages, generation_prompt=True, tools=tools, template_kwargs=template_kwargs)
        return self.tokenizer.encode(prompt)


def with_fixed_date(source: str, today: Any) -> str:
    """A template that asks for the date of the day, with `today` in its place; without one, asking is refused, since
    the ids of a conversation must not change overnight. Raises RecipeError for what is no date."""
    if "strftime_now" not in source:
        return source
    answer = (
        "{{- raise_exception('it writes the date of the day; give it one: template_kwargs: {today: 2026-01-31}') -}}"
    )
    if today is not None:
        try:
            day = date.fromisoformat(str(today))
        except ValueError:
            raise RecipeError(f"template_kwargs.today must be a date such as 2026-01-31, not {today!r}") from None
        cases = {found[1]: day.strftime(found[1]) for found in _CLOCK.findall(source)}
        known = "".join(
            f"{{%- {'el' if number else ''}if format == {form!r} -%}}{{{{- {written!r} -}}}}"
            for number, (form, written) in enumerate(cases.items())
        )
        answer = f"{known}{{%- else -%}}{answer}{{%- endif -%}}" if known else answer
    # The empty expression keeps white space at the beginning of the template, which a block would take.
    return f"{{%- macro strftime_now(format) -%}}{answer}{{%- endmacro -%}}{{{{- '' }}}}{source}"
