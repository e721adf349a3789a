"""Continue a text: a sampling loop, one prompt at a time. Many prompts at once: `cached/`."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.model.cached.call import own_cache_logits
from tsugiki.model.device import DTYPES, default_device, default_dtype
from tsugiki.model.load import read_pretrained


def generate_text(
    folder: Path,
    prompt: str,
    *,
    max_new_tokens: int = 100,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
) -> str:
    """`prompt` and its continuation by the model and tokenizer in `folder`. Raises ModelError."""
    return generate_texts(
        folder, [prompt], max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
    )[0]


def generate_texts(
    folder: Path, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, top_p: float, seed: int
) -> list[str]:
    """Each of `prompts` with its continuation, by one model loaded once; as `generate_text` for each."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{folder} is no model folder (it has no config.json); make one of a run or checkpoint: tsugiki export"
        )
    try:
        "".join(prompts).encode()
    except UnicodeEncodeError:
        raise RecipeError("the prompt is not UTF-8 text") from None
    tokenizer = TextTokenizer.from_folder(folder)
    model = open_model(folder)
    before = [tokenizer.bos_id] if tokenizer.default_add_bos and tokenizer.bos_id is not None else []
    texts = []
    for prompt in prompts:
        ids = [*before, *tokenizer.encode(prompt)]
        new = generate(
            model, ids, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed,
            stop_ids=stop_ids(model, tokenizer.eos_id),
        )  # fmt: skip
        texts.append(tokenizer.decode([*ids, *new], skip_special=True))
    return texts


def open_model(folder: Path) -> PreTrainedModel:
    """The model in `folder`, where and in the number format in which one is run when nobody says. Raises ModelError."""
    device = default_device()
    model, _ = read_pretrained(folder, dtype=DTYPES[default_dtype(device)])
    model.to(device)
    return model


def generate(
    model: PreTrainedModel,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: frozenset[int] = frozenset(),
) -> list[int]:
    """New token ids after `prompt`, without the one of `stop_ids` that ended them.

    temperature 0 takes the likeliest token; else tokens are drawn from the smallest set whose probability reaches
    `top_p`, with a generator of their own seeded by `seed`. Raises ModelError on an empty prompt.
    """
    tokens = new_tokens(
        model, prompt, temperature=temperature, top_p=top_p, generator=torch.Generator().manual_seed(seed),
        stop_ids=stop_ids,
    )  # fmt: skip
    return list(islice(tokens, max_new_tokens))


def new_tokens(
    model: PreTrainedModel,
    prompt: Sequence[int],
    *,
    temperature: float,
    top_p: float,
    generator: torch.Generator,
    stop_ids: frozenset[int],
) -> Iterator[int]:
    """The same one by one, until one of `stop_ids` ends them; drawn with `generator`."""
    new: list[int] = []
    for logits in own_cache_logits(model, prompt, new):
        token = choose(logits, temperature, top_p, generator)
        if token in stop_ids:
            return
        new.append(token)
        yield token


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """One token id from logits [vocabulary]."""
    if temperature <= 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits.float().cpu() / temperature, dim=-1)
    ordered, ids = probabilities.sort(descending=True)
    before = ordered.cumsum(0) - ordered
    ordered[before >= top_p] = 0.0  # the first always stays: nothing is before it
    ordered[0] = max(float(ordered[0]), torch.finfo(torch.float32).tiny)
    return int(ids[torch.multinomial(ordered, 1, generator=generator)])


def stop_ids(model: PreTrainedModel, *others: int | None) -> frozenset[int]:
    """End tokens that the model's configurations name (one or several), and `others`."""
    return end_tokens(*(getattr(one, "eos_token_id", None) for one in (model.generation_config, model.config)), *others)


def end_tokens(*named: Any) -> frozenset[int]:
    """The ids in what configurations call `eos_token_id`: an id, a list of them, or nothing."""
    ids = [token for one in named for token in (one if isinstance(one, list) else [one])]
    return frozenset(token for token in ids if isinstance(token, int))
