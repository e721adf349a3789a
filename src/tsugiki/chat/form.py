"""The form in which a model is asked: its tokenizer, a template, what that is given, and the token that ends an answer.

Training makes its prompts by one, and so does whoever asks the model afterwards: `tsugiki chat`, the instruction
checks, a run's own samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tsugiki.chat.end_token import EndToken, find_end_token
from tsugiki.chat.given import Given
from tsugiki.chat.rendering import Renderer
from tsugiki.chat.templates import NAMED, ChatTemplate, choose_template
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.errors import ModelError


class ChatForm:
    """Writes conversations for one model, and knows where its answers end."""

    def __init__(self, tokenizer: ChatTokenizer, template: ChatTemplate, given: Given, *, append_eos: bool):
        """`append_eos`: where the template writes no end token, answers end in the tokenizer's EOS. Raises ModelError
        where there is no end token."""
        self.tokenizer = tokenizer
        self.renderer = Renderer(tokenizer, template, given)
        self.end: EndToken = find_end_token(self.renderer, append_eos)
        if self.end.piece not in tokenizer.specials:
            self.renderer.also_in_answers = (self.end.piece,)

    @property
    def ends(self) -> tuple[int | None, int]:
        """What ends an answer beside what the model's configurations name: the tokenizer's EOS (None: it has none),
        and the end token."""
        return self.tokenizer.eos_id, self.end.id


@dataclass(frozen=True)
class Otherwise:
    """The template of models that have none of their own."""

    name: str
    add_bos: bool


def open_form(
    folder: Path,
    given: Given,
    name: str | None = None,
    *,
    add_bos: bool = False,
    otherwise: Otherwise | None = None,
) -> ChatForm:
    """The form in which the model in `folder` is asked: by its tokenizer's own template, or the one of `name` (of
    `NAMED`); by `otherwise` where the tokenizer has none. `add_bos`: a BOS before what has none.

    Raises ModelError where there is no template or it cannot be used, RecipeError for a name that is not known.
    """
    tokenizer = ChatTokenizer.from_folder(folder)
    if name is None and not tokenizer.templates:
        if otherwise is None:
            raise ModelError(
                f"{folder}: this tokenizer has no chat template; name one by --template (in a recipe "
                f"evaluation.template): {', '.join(sorted(NAMED))}"
            )
        name, add_bos = otherwise.name, add_bos or otherwise.add_bos
    template = choose_template(tokenizer, name, tools=bool(given.tools), add_bos=add_bos)
    return ChatForm(tokenizer, template, given, append_eos=True)
