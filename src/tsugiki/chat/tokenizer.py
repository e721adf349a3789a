"""The tokenizer of a conversation: text with control tokens to ids, as transformers' tokenizer of the model gives them.

Documents are encoded by `corpus.tokenizer`, in which no text becomes a control token. In a conversation the template's
markers must, and what the messages spell must not; so a `Rendering` is encoded in stretches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsugiki.chat.control_strings import Rendering
from tsugiki.corpus.tokenizer_engines import without_control_tokens
from tsugiki.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ANCHORS = ("\n", ")", "0", "a")
"""What a stretch may be encoded behind, to see how it goes on from other text. None is part of a merge with most text;
where one is, the next is tried."""


class ChatTokenizer:
    """Encodes renderings. `special_tokens` are the names that a template may use (`bos_token`, `eos_token` ...)."""

    def __init__(self, description: str, special_tokens: Mapping[str, str], templates: Any, where: str):
        """`description` is the content of a tokenizer.json; `templates` the tokenizer's own chat template, or several
        by name; `where` names the tokenizer in errors."""
        from tokenizers import Tokenizer

        self.where = where
        self.special_tokens = dict(special_tokens)
        self.templates = templates
        self._marked = Tokenizer.from_str(description)
        self._marked.no_truncation()
        self._marked.no_padding()
        self._marked.encode_special_tokens = False
        added = self._marked.get_added_tokens_decoder()
        self.added = {token.content: (number, token.special) for number, token in added.items()}
        """Id of each added token, and whether it is flagged special."""

    @classmethod
    def from_transformers(cls, tokenizer: Any, where: str | None = None) -> ChatTokenizer:
        """Of a transformers tokenizer. Raises ModelError where it is not one of the tokenizers library."""
        place = where or str(tokenizer.name_or_path)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                f"{place}: chat needs a tokenizer of the tokenizers library; save a tokenizer.json with it"
            )
        names = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        return cls(backend.to_str(), names, tokenizer.chat_template, place)

    @classmethod
    def from_folder(cls, folder: Path) -> ChatTokenizer:
        """Of a model's folder, as AutoTokenizer loads it. Raises ModelError where it does not."""
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # whatever a broken file makes the library raise
            raise ModelError(f"{folder}: AutoTokenizer does not load it: {type(error).__name__}: {error}") from None
        return cls.from_transformers(loaded, str(folder))

    @cached_property
    def _plain(self) -> Tokenizer:
        """In which no text spells a control token: made when a message first does, since most never do."""
        from tokenizers import Tokenizer

        # Whitespace that was added (Gemma has runs of newlines) is ordinary text.
        hidden = [piece for piece in self.added if not piece.isspace()]
        plain = Tokenizer.from_str(without_control_tokens(self._marked.to_str(), hidden))
        plain.no_truncation()
        plain.no_padding()
        return plain

    @cached_property
    def specials(self) -> tuple[str, ...]:
        """The added tokens that are flagged special."""
        return tuple(piece for piece, (_, special) in self.added.items() if special)

    def single(self, piece: str) -> int | None:
        """The id that a piece alone is encoded as, where that is one added token."""
        return self.added[piece][0] if piece in self.added else None

    @property
    def bos_id(self) -> int | None:
        return self.single(self.special_tokens.get("bos_token", ""))

    @property
    def eos_id(self) -> int | None:
        return self.single(self.special_tokens.get("eos_token", ""))

    def encode(self, rendering: Rendering) -> list[int]:
        """Ids of a rendering. Nothing is added; without plain stretches they are those of its text as a whole."""
        if not rendering.plain:
            return self._ids(rendering.text)
        start = rendering.plain[0][0]
        return self._ids(rendering.text[:start]) + self._stretches(rendering, start)

    def encode_after(self, rendering: Rendering, start: int) -> list[int]:
        """Ids of what stands behind the first `start` characters, a token beginning there: as the text goes on, so
        without the space that SentencePiece puts before a text."""
        return self._stretches(rendering, start)

    def decode(self, ids: list[int], *, skip_special: bool = False) -> str:
        """The text of ids, control tokens included unless they are skipped."""
        return self._marked.decode(ids, skip_special_tokens=skip_special)

    def _stretches(self, rendering: Rendering, start: int) -> list[int]:
        ids: list[int] = []
        for first, last in rendering.plain:
            if last < start or (first < start):
                continue
            ids += self._continued(rendering.text[start:first], plain=False)
            ids += self._continued(rendering.text[first:last], plain=True)
            start = last
        return ids + self._continued(rendering.text[start:], plain=False)

    def _ids(self, text: str, plain: bool = False) -> list[int]:
        engine = self._plain if plain else self._marked
        return engine.encode(text, add_special_tokens=False).ids

    def _continued(self, text: str, plain: bool) -> list[int]:
        """Ids of a stretch inside a text."""
        if not text:
            return []
        for anchor in ANCHORS:
            before, both = self._ids(anchor, plain), self._ids(anchor + text, plain)
            if both[: len(before)] == before:
                return both[len(before) :]
            if not self._puts_before:
                break
        return self._ids(text, plain)

    @cached_property
    def puts_space_after_control(self) -> bool:
        """Whether text behind a control token gets the space that SentencePiece puts before a text."""
        return any(self._ids(f"{piece}a")[1:] == self._continued(" a", plain=False) for piece in self.specials[:1])

    @cached_property
    def _puts_before(self) -> bool:
        """Whether something is put before a text, as SentencePiece and some of GPT-2's kind do."""
        before = self._ids("\n")
        return self._ids("\na")[len(before) :] != self._ids("a")

    def __getstate__(self) -> dict[str, Any]:
        """For processes: the description, from which the rest is made."""
        return {
            "description": self._marked.to_str(), "special_tokens": self.special_tokens, "templates": self.templates,
            "where": self.where,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def quoted(text: str) -> str:
    """A text as JSON writes it inside quotes, for looking it up in what a template wrote with `tojson`."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
