"""The call of a model with a cache, its masks and positions: the only place in Tsugiki where they are made.

Every key keeps its place in the cache whatever the model's attention is (a sliding window drops nothing), positions
are given for every token, and a 4-D mask says which keys a query sees: its ancestors, within the layer's window. With
that one rule a cache may have gaps, rows of different length and tokens of several branches side by side. Where plain
causal attention is meant, no mask is made and the model's fastest kernel runs.

Not every model can be called so (states instead of keys, distances taken from places in the cache, FlashAttention,
which takes no such mask): `check.py` finds out on the model itself, by comparing logits.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tsugiki.errors import ModelError
from tsugiki.model.cached.prefixes import Prefix, PrefixPlan, Row
from tsugiki.model.head import replaced_head

_SPARE = 64
"""Columns kept free after a token has been appended, so that the next ones need no copy of the cache."""


MOST_LOGITS = 2**27
"""Logits that may be asked for at a time: 512 MiB in fp32."""


class _Layer(DynamicLayer):
    """Keys and values [rows, heads, columns, width] as views of tensors with room for more columns."""

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None):
        super().__init__()
        self.room: list[Tensor | None] = [None, None]
        if keys is not None and values is not None:
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        self.keys = self._append(0, self.keys, used, key_states)
        self.values = self._append(1, self.values, used, value_states)
        return self.keys, self.values

    def _append(self, which: int, held: Tensor, used: int, new: Tensor) -> Tensor:
        room, end = self.room[which], used + new.shape[2]
        if room is None or room.shape[2] < end:
            spare = _SPARE if new.shape[2] == 1 else 0
            room = new.new_empty(*new.shape[:2], end + spare, new.shape[3])
            if used:
                room[:, :, :used] = held
            self.room[which] = room
        room[:, :, used:end] = new
        return room[:, :, :end]

    def drop(self, row: int) -> None:
        """Put the last row in the place of `row`: one row is copied, not the cache."""
        for which, held in enumerate((self.keys, self.values)):
            room = self.room[which]
            whole = held if room is None else room
            if row < len(whole) - 1:
                whole[row] = whole[-1]
            self.room[which] = None if room is None else whole[:-1]
        self.keys, self.values = self.keys[:-1], self.values[:-1]


class Past:
    """What a model has seen: a cache and the position of every column of it, [rows, columns]."""

    def __init__(self, layers: list[_Layer], positions: Tensor):
        self.cache = Cache(layers=layers) if layers else Cache(layer_class_to_replicate=_Layer)
        self.positions = positions

    @classmethod
    def nothing(cls, rows: int, device: torch.device) -> "Past":
        return cls([], torch.zeros(rows, 0, dtype=torch.int64, device=device))

    @property
    def columns(self) -> int:
        return self.positions.shape[1]

    @property
    def layers(self) -> list[_Layer]:
        return self.cache.layers

    def for_rows(self, rows: int) -> "Past":
        """The same single row for each of `rows`, without a copy; this one stays as it is when the other grows."""
        layers = [
            _Layer(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)) for layer in self.layers
        ]
        return Past(layers, self.positions.expand(rows, -1))

    def take(self, rows: Tensor, columns: Tensor) -> "Past":
        """A copy: row i is `columns[i]` of row `rows[i]`; rows [new rows], columns [new rows, new columns]."""
        at = rows[:, None]

        def chosen(held: Tensor) -> Tensor:  # layers may lie on several devices
            return held.transpose(1, 2)[at.to(held.device), columns.to(held.device)].transpose(1, 2)

        layers = [_Layer(chosen(layer.keys), chosen(layer.values)) for layer in self.layers]
        return Past(layers, self.positions[at, columns])

    def drop(self, row: int) -> None:
        """Remove `row`; the last row takes its place."""
        for layer in self.layers:
            layer.drop(row)
        kept = list(range(len(self.positions) - 1))
        if row < len(kept):
            kept[row] = len(kept)
        self.positions = self.positions[kept]


def joined(pasts: Sequence[Past]) -> Past:
    """The rows of several pasts in one; shorter ones get empty columns at the end, which must not be looked at."""
    if len(pasts) == 1:
        return pasts[0]
    columns = max(past.columns for past in pasts)

    def wide(held: Tensor) -> Tensor:
        return torch.nn.functional.pad(held, (0, 0, 0, columns - held.shape[2]))

    layers = [
        _Layer(torch.cat([wide(one.keys) for one in same]), torch.cat([wide(one.values) for one in same]))
        for same in zip(*(past.layers for past in pasts), strict=True)
    ]
    positions = [torch.nn.functional.pad(past.positions, (0, columns - past.columns)) for past in pasts]
    return Past(layers, torch.cat(positions))


def cache_name(model: PreTrainedModel) -> str:
    """What a model's forward and its output call the cache: transformers 5.24 renamed it."""
    return "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"


class CachedCall:
    """`hf` called with a cache. ModelError where its layers look at keys in a way that is not known here."""

    def __init__(self, hf: PreTrainedModel):
        self.hf = hf
        self.device = hf.get_input_embeddings().weight.device
        self.dtype = hf.get_input_embeddings().weight.dtype
        self.windows = attention_windows(hf)
        self.cache_name = cache_name(hf)
        config = hf.config.get_text_config(decoder=True)
        self.most_logits = max(1, MOST_LOGITS // config.vocab_size)
        # A router loss, which some configurations ask for, would be computed from a mask of another shape.
        self.without = {"output_router_logits": False} if hasattr(config, "output_router_logits") else {}

    def nothing(self, rows: int = 1) -> Past:
        return Past.nothing(rows, self.device)

    def __call__(
        self, past: Past, tokens: Tensor, positions: Tensor, visible: Tensor | None = None, wanted: Tensor | None = None
    ) -> Tensor:
        """Logits [wanted, vocabulary] after `tokens` [rows, new columns], which `past` then holds too.

        `visible` [rows, new columns, all columns], bool: the keys that a token may look at; None means everything in
        the past and, of the new ones, those up to itself. `wanted` [n] counts through tokens.flatten(); None is the
        last one of each row.
        """
        positions_of_keys = torch.cat([past.positions, positions], dim=1)
        if wanted is None:
            wanted = torch.arange(1, len(tokens) + 1, device=self.device) * tokens.shape[1] - 1
        head = self.hf.get_output_embeddings()
        original = head.forward

        def chosen_only(hidden: Tensor) -> Tensor:
            return original(hidden.flatten(0, 1)[wanted.to(hidden.device)][None])

        with torch.no_grad(), replaced_head(head, chosen_only):
            output = self.hf(
                input_ids=tokens,
                position_ids=positions,
                attention_mask=self._masks(past, positions, positions_of_keys, visible),
                use_cache=True,
                **{self.cache_name: past.cache},
                **self.without,
            )
        past.positions = positions_of_keys
        return output.logits.flatten(0, -2)

    def rows(
        self, past: Past, rows: Sequence[Row], wanted: NDArray[np.int64], most_tokens: int
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Compute `rows` after `past`, which has as many rows and then holds them too (padded on the right).

        Yields (which of `wanted`, their logits) until all are there; `wanted` [n, 2] has rows and columns. At most
        `most_tokens` go through the model at a time: every token comes after those it looks at, so that columns can
        be computed piece by piece.
        """
        width, before = max(map(len, rows)), past.columns
        tokens = np.zeros((len(rows), width), dtype=np.int64)
        positions = np.zeros_like(tokens)
        for at, row in enumerate(rows):
            tokens[at, : len(row)], positions[at, : len(row)] = row.tokens, row.positions
        visible = None
        if any(row.visible is not None for row in rows):
            visible = np.ones((len(rows), width, before + width), dtype=np.bool_)
            visible[:, :, before:] = np.tri(width, dtype=np.bool_)
            for at, row in enumerate(rows):
                if row.visible is not None:
                    visible[at, : len(row), before : before + len(row)] = row.visible
        step = max(1, most_tokens // len(rows))
        if len(wanted) > self.most_logits:
            step = min(step, max(1, width * self.most_logits // len(wanted)))
        for begin in range(0, width, step):
            end = min(width, begin + step)
            those = np.flatnonzero((wanted[:, 1] >= begin) & (wanted[:, 1] < end))
            flat = wanted[those, 0] * (end - begin) + wanted[those, 1] - begin
            logits = self(
                past,
                self._tensor(tokens[:, begin:end]),
                self._tensor(positions[:, begin:end]),
                None if visible is None else self._tensor(visible[:, begin:end, : before + end]),
                self._tensor(flat),
            )
            if len(those):
                yield those, logits

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

    def _masks(self, past: Past, positions: Tensor, keys: Tensor, visible: Tensor | None) -> Any:
        """What goes in as `attention_mask`: one mask [rows, 1, new columns, all columns], or one a kind of layer; None
        where transformers makes the right one (among several kinds, None would mean no mask, not even a causal one)."""
        new, columns = positions.shape[1], keys.shape[1]
        limited = any(window is not None and columns > window for window in self.windows.values())
        if visible is None and not limited and (new == 1 or not past.columns):
            return None
        if visible is None:
            visible = torch.ones(new, columns, dtype=torch.bool, device=self.device).tril(past.columns)[None]
        masks = {}
        for kind, window in self.windows.items():
            seen = visible
            if window is not None and columns > window:
                seen = seen & (positions[:, :, None] - keys[:, None, :] < window)
            masks[kind] = self._additive(seen.expand(len(positions), -1, -1))
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _additive(self, seen: Tensor) -> Tensor:
        """0 where a key is seen, else the lowest number: what eager and SDPA attention both add to their scores."""
        lowest = torch.finfo(self.dtype).min
        return torch.zeros(seen.shape, dtype=self.dtype, device=self.device).masked_fill_(~seen, lowest)[:, None]


def computed_prefixes(call: CachedCall, plan: PrefixPlan, most_tokens: int) -> Iterator[tuple[Past, Prefix]]:
    """Each prefix of `plan` that has followers, computed; longer ones go on from those that they begin with."""

    def below(prefix: Prefix, past: Past) -> Iterator[tuple[Past, Prefix]]:
        if prefix.end > prefix.begin:
            past = past.for_rows(1)  # a copy: others go on from the shorter one
            positions = np.arange(prefix.begin, prefix.end)
            row = Row(plan.sequences[prefix.example][prefix.begin : prefix.end], positions, None, {})
            for _ in call.rows(past, [row], np.array([[0, len(row) - 1]]), most_tokens):
                pass  # nothing is asked of a prefix but its keys and values
        if prefix.followers:
            yield past, prefix
        for child in prefix.children:
            yield from below(child, past)

    yield from below(plan.root, call.nothing())


def attention_windows(hf: PreTrainedModel) -> dict[str, int | None]:
    """How far back each kind of layer looks (None: all the way), as transformers reads it from a configuration.

    Raises ModelError for a kind that this module has no mask for.
    """
    config = hf.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:
        if getattr(config, "attention_chunk_size", None) is not None:
            kinds = {"chunked_attention"}
        else:
            kinds = {"full_attention" if window is None else "sliding_attention"}
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(f"it has layers of the kind {', '.join(sorted(unknown))}")
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


def most_positions(model: PreTrainedModel) -> int | None:
    """Positions that a model has for a prompt and its answer, where its configuration says."""
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)


def own_cache_logits(model: PreTrainedModel, prompt: Sequence[int], new: list[int]) -> Iterator[Tensor]:
    """Logits [vocabulary] of the token after `prompt` and `new`, again each time the caller has appended to `new`.

    With the cache that the model makes for itself, one prompt and no mask: right for every model. One that gives none
    back (Mamba, under that name) reads all tokens again.
    """
    if not prompt:
        raise ModelError("an empty prompt cannot be continued: this model has no BOS token to start from")
    was_training = model.training
    model.eval()
    device = model.get_input_embeddings().weight.device
    name = cache_name(model)
    cache: Any = None
    # Logits of a whole prompt would take gigabytes: 8,000 tokens of a vocabulary of 150,000 have five.
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(type(model).forward).parameters else {}
    step = list(prompt)
    try:
        while True:
            inputs = torch.tensor([step], device=device)
            with torch.no_grad():
                output = model(input_ids=inputs, use_cache=True, **{name: cache}, **last)
            cache = getattr(output, name, None)
            yield output.logits[0, -1]
            step = [*prompt, *new] if cache is None else new[-1:]
    finally:
        model.train(was_training)
