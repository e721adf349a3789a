"""A conversation with a chat model: its prompts are those that training masks, made by the same renderer.

Each turn is read anew, as a server does that keeps nothing: the ids of the model's own answer need not be those that
the template's text of it has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tsugiki.chat.appearance import require_messages
from tsugiki.chat.conversations import Message
from tsugiki.chat.form import open_form
from tsugiki.chat.given import given_in
from tsugiki.chat.streaming import TextStream
from tsugiki.errors import DataError
from tsugiki.model.cached.call import most_positions
from tsugiki.model.generate import new_tokens, open_model, stop_ids


class Talk:
    """One model, and what has been said."""

    def __init__(
        self,
        folder: Path,
        *,
        template: str | None = None,
        tools: Sequence[dict[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        max_new_tokens: int = 1024,
        temperature: float = 0.7,
        top_p: float = 0.9,
        seed: int = 0,
    ):
        """The model in `folder` with its own chat template, or the one called `template`, given `tools` and
        `template_kwargs`, by default what the model was trained with, and today's date. temperature 0 takes the
        likeliest token; else answers are drawn, one after another from one generator.

        Raises ModelError where there is no template or the model cannot be loaded, RecipeError for a name of none,
        DataError for tools that the template does not write.
        """
        given = given_in(folder).otherwise(tools, template_kwargs)
        dated = {"today": date.today().isoformat(), **given.template_kwargs}
        form = open_form(folder, replace(given, template_kwargs=dated), template)
        self.tokenizer, self._renderer = form.tokenizer, form.renderer
        require_messages((), given.tools, self._renderer.render([Message("user", "a")], generation_prompt=True))
        self._model = open_model(folder)
        self.positions = most_positions(self._model)
        self._stops = stop_ids(self._model, *form.ends)
        self._temperature, self._top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)
        self.max_new_tokens = max_new_tokens
        self.system: str | None = None
        self.turns: list[Message] = []
        self.cut: str | None = None
        """Why the last answer ended without the model's ending it; None where it did."""

    def set_system(self, text: str) -> None:
        """Let `text` be the system prompt from now on, none where it is empty. Raises DataError, and changes nothing,
        where the template has no place for one."""
        if text:
            probe = [Message("system", text), Message("user", "a")]
            require_messages(probe, (), self._renderer.render(probe, generation_prompt=True))
        self.system = text or None

    def prompt_ids(self, turns: Sequence[Message]) -> list[int]:
        """What the model is given to answer `turns`, the system prompt before them. Raises DataError where the template
        does not take them."""
        system = [Message("system", self.system)] if self.system is not None else []
        return self._renderer.prompt_ids([*system, *turns])

    def ask(self, text: str) -> Iterator[str]:
        """The answer to `text`, piece by piece. However far it is read, it is what the model has said; one that is
        left before its first word was never asked for.

        Raises DataError, and forgets `text`, where the template refuses it or the model has no positions left.
        """
        turns = [*self.turns, Message("user", text)]
        prompt = self.prompt_ids(turns)
        room = None if self.positions is None else self.positions - len(prompt)
        if room is not None and room < 1:
            raise DataError(
                f"the conversation would have {len(prompt):,} tokens, and the model has {self.positions:,} positions"
            )
        limit = self.max_new_tokens if room is None else min(self.max_new_tokens, room)
        tokens = new_tokens(
            self._model, prompt, temperature=self._temperature, top_p=self._top_p, generator=self._generator,
            stop_ids=self._stops,
        )  # fmt: skip
        stream, count, said, ended = TextStream(self.tokenizer), 0, "", False
        try:
            for token in islice(tokens, limit):
                count += 1
                piece = stream.add(token)
                said += piece
                yield piece
            piece = stream.rest()
            said += piece
            yield piece
            ended = True
        finally:
            if said or ended:
                self.turns = [*turns, Message("assistant", said)]
        if count < limit:
            self.cut = None
        elif limit == room:
            self.cut = f"the model's {self.positions:,} positions are full; /reset begins anew"
        else:
            self.cut = f"it has {limit:,} tokens (--max-new-tokens)"

    def reset(self) -> None:
        """Forget what was said; the system prompt stays."""
        self.turns = []
