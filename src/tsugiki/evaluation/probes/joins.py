"""Where a continuation begins, in tokens.

The tokens of a context with its continuation are split where those of the context alone end. Where a token reaches
across the join (a piece of an extended vocabulary that spans it, two spaces that make one token), no such place exists,
and the continuation is encoded alone after the context: the model then reads a spelling that training text would not
have had, but every choice of an item keeps its own tokens, and none has no token at all.
"""

from collections.abc import Iterable

from tsugiki.corpus.tokenizer import TextTokenizer

ANCHORS = ("\n", "。", ".", "a")
"""Texts before a continuation that is encoded alone: at the beginning of a text, tokenizers of SentencePiece's kind put
a space that the text does not have."""


def encode_pair(tokenizer: TextTokenizer, context: str, continuation: str) -> tuple[list[int], int]:
    """Ids of `context` and `continuation`, without BOS, and how many belong to the context."""
    before = tokenizer.encode(context)
    together = tokenizer.encode(context + continuation)
    if together[: len(before)] == before and len(together) > len(before):
        return together, len(before)
    return before + encode_inside(tokenizer, continuation), len(before)


def encode_inside(tokenizer: TextTokenizer, text: str, anchors: Iterable[str] = ANCHORS) -> list[int]:
    """Ids of a text as in the middle of another: after the first of `anchors` that no token joins it to."""
    for anchor in anchors:
        before, together = tokenizer.encode(anchor), tokenizer.encode(anchor + text)
        if together[: len(before)] == before and len(together) > len(before):
            return together[len(before) :]
    return tokenizer.encode(text)
