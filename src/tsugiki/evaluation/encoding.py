"""Prompts and continuations as token ids: where BOS stands, how the two are joined, what is cut when it is too long.

The join is the trap (lm-eval issues 1053, 1297, 3336): a prompt and its continuation encoded together may share a
token, most often with a vocabulary that was extended, and cutting the joint encoding at the prompt's length then loses
part of the continuation, or all of it. So: both are encoded together, as in lm-eval, and where the prompt's own ids are
not the beginning of that, the continuation is encoded by itself after a line break, so that it has the pieces it has
in the middle of a text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError

ANCHOR = "\n"
"""A text that no piece joins with what follows; what stands after it has no mark of a text's beginning."""


class ContextTooShort(ModelError):
    """A task's answers alone fill the positions that the model has: it cannot be asked."""


class Encoded(NamedTuple):
    """A prompt, and a continuation of it (empty when the model is to write it)."""

    prompt: list[int]
    continuation: list[int]
    cut: int
    """Tokens that were taken from the prompt's beginning to make it fit."""


class Encoder:
    """Encodes for one model. `add_bos` puts BOS before every prompt; `max_length` is the model's count of positions."""

    def __init__(self, tokenizer: TextTokenizer, *, add_bos: bool, max_length: int):
        if add_bos and tokenizer.bos_id is None:
            raise ModelError(
                f"{tokenizer.folder}: BOS was asked for, and this tokenizer has none; leave out --add-bos (add_bos)"
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.before = [tokenizer.bos_id] if add_bos and tokenizer.bos_id is not None else []
        self.frame = len(self.before)
        """Tokens of every prompt that are not the task's."""

    def prompts(self, texts: Sequence[str], *, room: int) -> list[Encoded]:
        """Prompts that the model continues by up to `room` tokens. Raises ContextTooShort when none is left."""
        return [self._fit(self._start(ids), [], room) for ids in self.tokenizer.engine.encode_batch(texts)]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Contexts and continuations to be scored. Spaces at a context's end go over to the continuation."""
        moved = [_move_spaces(context, continuation) for context, continuation in pairs]
        engine = self.tokenizer.engine
        contexts = engine.encode_batch([context for context, _ in moved])
        joined = engine.encode_batch([context + continuation for context, continuation in moved])
        encoded = []
        for (_, text), context, whole in zip(moved, contexts, joined, strict=True):
            together = whole[: len(context)] == context and len(whole) > len(context)
            continuation = whole[len(context) :] if together else self._alone(text)
            encoded.append(self._fit(self._start(context), continuation, 0))
        return encoded

    def _start(self, ids: list[int]) -> list[int]:
        """`ids` after BOS where it is added. An empty text needs something to start from: BOS, or the EOS of the
        document before."""
        if ids or self.before:
            return self.before + ids
        start = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
        if start is None:
            raise ModelError(
                f"{self.tokenizer.folder}: an empty prompt cannot be scored, since this tokenizer has neither BOS nor "
                "EOS; name one in tokenizer_config.json"
            )
        return [start]

    def _alone(self, text: str) -> list[int]:
        """Ids of a text that follows another without sharing a token with it."""
        anchor = self.tokenizer.encode(ANCHOR)
        whole = self.tokenizer.encode(ANCHOR + text)
        ids = whole[len(anchor) :] if whole[: len(anchor)] == anchor else self.tokenizer.encode(text)
        if not ids:
            raise ModelError(f"{self.tokenizer.folder}: the continuation {text!r} has no tokens and cannot be scored")
        return ids

    def _fit(self, prompt: list[int], continuation: list[int], room: int) -> Encoded:
        """Cut the prompt's beginning (BOS stays) so that it fits with `continuation`, whose last token is no input, or
        with `room` tokens to come."""
        space = self.max_length - (len(continuation) - 1 if continuation else room)
        if space < len(self.before) + 1:
            needed = len(continuation) or room
            raise ContextTooShort(
                f"{self.tokenizer.folder}: the model has {self.max_length:,} positions, which {needed:,} tokens of "
                "answer fill: no prompt fits before them; leave such tasks out (--tasks)"
            )
        cut = max(0, len(prompt) - space)
        if cut:
            prompt = self.before + prompt[len(self.before) + cut :]
        return Encoded(prompt, continuation, cut)


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    """A space belongs to the piece of the word after it."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation
