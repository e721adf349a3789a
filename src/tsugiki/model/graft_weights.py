"""The arithmetic of a chat vector, block by block from the files of three models into those of a fourth."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tsugiki.errors import ModelError
from tsugiki.model.graft_models import GraftModel
from tsugiki.model.graft_pieces import RowMatch
from tsugiki.model.stored_rows import FLOATS
from tsugiki.model.weight_files import Header, StoredTensor, header_bytes

BLOCK = 1 << 22
"""Numbers of a tensor that are computed at a time: 16 MiB in fp32, of which about eight are held at once."""


@dataclass
class Norms:
    """Sums of squares over the tensors of a layer, without what is excluded and rows that are not shared."""

    base: float = 0.0
    chat: float = 0.0
    """Of chat − base."""
    ours: float = 0.0
    """Of ours − base."""

    def add(self, ours: Tensor, base: Tensor, chat: Tensor) -> None:
        """Count a block, in fp32."""
        self.base += _squares(base)
        self.chat += _squares(chat - base)
        self.ours += _squares(ours - base)


@dataclass
class Graft:
    """What is to be done, and what was seen of it."""

    base: GraftModel
    chat: GraftModel
    ours: GraftModel
    scale: float
    kept: Collection[str]
    """Tensors that stay ours."""
    match: RowMatch
    """Rows of the vocabulary matrices, with those that are added."""
    added: Mapping[str, int]
    """Ids of tokens that ours gets from chat."""
    norms: dict[str, Norms] = field(default_factory=dict)
    """By layer, filled while the weights are written."""

    @property
    def rows(self) -> int:
        """Rows of the vocabulary matrices afterwards."""
        return len(self.match.base)

    def tensors(self, header: Header) -> dict[str, StoredTensor]:
        """The tensors of one of our files, with the sizes and places that they get."""
        found, place = {}, 0
        for name, tensor in header.tensors.items():
            size, shape = tensor.end - tensor.begin, tensor.shape
            if name in self.ours.vocabulary:
                size, shape = size // shape[0] * self.rows, (self.rows, *shape[1:])
            found[name] = StoredTensor(tensor.dtype, shape, place, place + size)
            place += size
        return found


def combine(ours: Tensor, base: Tensor, chat: Tensor, scale: float) -> Tensor:
    """ours + scale · (chat − base) of fp32 tensors, in fp32; bit by bit ours where nothing is added, and chat where
    ours is the base and the scale is 1, which fp32 may miss where numbers differ a million times in size."""
    if scale == 0:
        return ours
    result = (chat - base).mul_(scale).add_(ours)
    result = torch.where(chat == base, ours, result)
    return torch.where(ours == base, chat, result) if scale == 1 else result


def write_file(graft: Graft, name: str, path: Path) -> None:
    """Write the file that is called `name` in ours, grafted. Raises OSError, StorageError where an input cannot be
    read, and ModelError where a result is not finite."""
    header = graft.ours.weights.headers[name]
    with path.open("wb") as out:
        out.write(header_bytes(graft.tensors(header), header.metadata))
        for tensor in header.tensors:
            for block in _blocks(graft, tensor):
                out.write(block)


def layer_of(name: str) -> str:
    """The layer that a tensor is of, as tables name it: `model.layers.3`, or the module where there are no numbers."""
    numbered = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
    return numbered[0] if numbered else name.removesuffix(".weight")


def _blocks(graft: Graft, name: str) -> Iterator[memoryview | bytes]:
    """A tensor of the result, in the order of its bytes."""
    stored = graft.ours.weights.tensor(name)
    by_piece = name in graft.ours.vocabulary
    if by_piece and (graft.added or name not in graft.kept):
        yield from map(_content, _matched(graft, name))
    elif name in graft.kept or stored.dtype not in FLOATS:
        yield from _as_it_is(graft, name)
    else:
        count = math.prod(stored.shape)
        places = {model: _stored(graft, model, name) for model in (graft.base, graft.chat)} if count else {}
        for begin in range(0, count, BLOCK):
            end = min(begin + BLOCK, count)
            ours = graft.ours.weights.numbers(name, begin, end)
            base, chat = (model.weights.numbers(there, begin, end) for model, there in places.items())
            yield _content(_sum(graft, name, ours, base, chat))


def _as_it_is(graft: Graft, name: str) -> Iterator[bytes]:
    """Ours. Whole numbers that are not excluded have no difference that could be added: there must be none."""
    stored = graft.ours.weights.tensor(name)
    for begin in range(0, stored.end - stored.begin, BLOCK):
        end = min(begin + BLOCK, stored.end - stored.begin)
        if name not in graft.kept:
            models = (graft.base, graft.chat)
            base, chat = (model.weights.bytes(_stored(graft, model, name), begin, end) for model in models)
            if base != chat:
                raise ModelError(
                    f"{name} holds {stored.dtype} numbers that differ between base and chat: leave it ours with "
                    f"--exclude '{name}'"
                )
        yield graft.ours.weights.bytes(name, begin, end)


def _matched(graft: Graft, name: str) -> Iterator[Tensor]:
    """Blocks of rows of a vocabulary matrix, each row matched by its piece."""
    weights = graft.ours.weights
    stored = weights.tensor(name)
    width = math.prod(stored.shape[1:])
    there = {model: _stored(graft, model, name) for model in (graft.base, graft.chat)}
    height = max(BLOCK // max(width, 1), 1)
    new = np.zeros(graft.rows, bool)
    new[list(graft.added.values())] = True
    for begin in range(0, graft.rows, height):
        end = min(begin + height, graft.rows)
        old = min(end, stored.shape[0])
        rows = torch.zeros(end - begin, width, dtype=FLOATS[stored.dtype])
        if old > begin:
            rows[: old - begin] = weights.rows(name, np.arange(begin, old))
        block = RowMatch(graft.match.base[begin:end], graft.match.chat[begin:end])
        shared, taken = block.shared, block.taken
        if name in graft.kept:
            shared, taken = np.zeros_like(shared), taken & new[begin:end]
        if shared.any():
            chosen = torch.from_numpy(shared)
            base = graft.base.weights.rows(there[graft.base], block.base[shared])
            chat = graft.chat.weights.rows(there[graft.chat], block.chat[shared])
            rows[chosen] = _sum(graft, name, rows[chosen], base, chat)
        if taken.any():
            rows[torch.from_numpy(taken)] = graft.chat.weights.rows(there[graft.chat], block.chat[taken]).to(rows.dtype)
        yield rows


def _sum(graft: Graft, name: str, ours: Tensor, base: Tensor, chat: Tensor) -> Tensor:
    """A block of the result, in the number format of ours."""
    parts = (ours.float(), base.float(), chat.float())
    graft.norms.setdefault(layer_of(name), Norms()).add(*parts)
    result = combine(*parts, graft.scale).to(ours.dtype)
    if not bool(torch.isfinite(result).all()):
        models = zip((graft.ours, graft.base, graft.chat), parts, strict=True)
        odd = [model.label for model, part in models if not bool(torch.isfinite(part).all())]
        reason = f"{' and '.join(odd)} hold NaN or infinity" if odd else f"{str(ours.dtype)[6:]} cannot hold the sum"
        raise ModelError(f"{name} would not be finite: {reason}. Leave it ours with --exclude '{name}', or see to it")
    return result


def _stored(graft: Graft, model: GraftModel, name: str) -> str:
    there = model.counterpart(name, graft.ours)
    if there is None:  # a copy of the embedding that transformers does not load
        raise ModelError(f"{name} would need rows for the tokens that are added, and {model.label} has no such tensor")
    return there


def _squares(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


def _content(block: Tensor) -> memoryview:
    return block.contiguous().view(torch.uint8).numpy().data
