"""Tiny models for the tests of evaluation, what a plain loop over Hugging Face logits says of them, and our own way."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

POSITIONS = 4096
"""Enough for four shots of JSQuAD in the pieces of the tiny tokenizer."""


def join_folders(folder: Path, weights: Path, tokenizer: Path) -> Path:
    """One model folder of a folder with weights and one with a tokenizer."""
    shutil.copytree(weights, folder, dirs_exist_ok=True)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    return folder


class Naive:
    """Every request by itself: no cache, no batch, no mask, and the tokenizer as its library gives it."""

    def __init__(self, folder: Path, *, bos: int | None = None):
        self.hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.before = [] if bos is None else [bos]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    @torch.no_grad()
    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """[tokens, vocabulary]"""
        return self.hf(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float()

    def logprob(self, context: str, continuation: str) -> tuple[float, bool]:
        """Sum of the log-probabilities of a continuation, and whether each of its tokens is the likeliest."""
        bare = context.rstrip()  # spaces belong to the word after them
        prompt, ids = self.encode(bare), self.encode(context + continuation)
        assert ids[: len(prompt)] == prompt
        logits = self.logits(self.before + ids)[len(self.before) + len(prompt) - 1 : -1]
        targets = torch.tensor(ids[len(prompt) :])
        scored = logits.log_softmax(-1).gather(1, targets[:, None])
        return float(scored.sum()), bool((logits.argmax(-1) == targets).all())

    def new_tokens(self, prompt: Sequence[int], count: int, ends: Sequence[int] = (2,)) -> list[int]:
        """The likeliest tokens, one whole forward each, up to an end token."""
        ids = list(prompt)
        while len(ids) < len(prompt) + count:
            token = int(self.logits(ids)[-1].argmax())
            if token in ends:
                break
            ids.append(token)
        return ids[len(prompt) :]

    def text(self, prompt: str, count: int, until: Sequence[str] = ()) -> str:
        """What is written after a prompt, cut before the first stop string."""
        ids = self.before + self.encode(prompt)
        before = self.tokenizer.decode(ids, skip_special_tokens=False)
        whole = self.tokenizer.decode([*ids, *self.new_tokens(ids, count)], skip_special_tokens=False)
        assert whole.startswith(before)
        text = whole[len(before) :]
        return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]


@contextmanager
def open_lm(
    folder: Path, scratch: Path, *, add_bos: bool = False, batch_tokens: int = 2048, max_length: int | None = None
) -> Iterator[Any]:
    """Our model for lm-eval over the folder's weights in fp32, with a journal in `scratch`."""
    from tsugiki.corpus.tokenizer import TextTokenizer
    from tsugiki.evaluation.backends import configured_stops, max_positions
    from tsugiki.evaluation.journal import Journal
    from tsugiki.evaluation.lm import JournalLM
    from tsugiki.model.cached import CachedModel
    from tsugiki.model.load import read_pretrained

    tokenizer = TextTokenizer.from_folder(folder)
    hf, _ = read_pretrained(folder, dtype=torch.float32)
    engine = CachedModel(hf, batch_tokens=batch_tokens, stop_ids=configured_stops(folder, tokenizer))
    with Journal(scratch / "journal.jsonl") as journal:
        yield JournalLM(
            engine, tokenizer, journal, add_bos=add_bos, max_length=max_length or max_positions(folder), numerics=()
        )


class Quiet:
    """Progress that is told to nobody, and remembered."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int]] = []
        self.tokens = 0

    def begin(self, what: str, requests: int, tokens: int) -> None:
        self.begun.append((what, requests, tokens))

    def advance(self, tokens: int) -> None:
        self.tokens += tokens
