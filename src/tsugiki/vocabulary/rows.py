"""Rows that new pieces start from, in an input embedding, an output layer or its bias.

| method | a new row is |
|---|---|
| mean | the mean of the rows of the old pieces that spell it (Gee et al. 2022), and a little noise |
| normal | drawn from the normal distribution with the old rows' mean and covariance (Hewitt 2021) |
| random | drawn from a normal distribution around 0, each entry with the standard deviation of all old entries |

The noise of `mean` is there because it knows no order: 812 of 4,215 Japanese characters consist of the same bytes as
another one, and rows that are equal in both matrices could only be told apart by chance. Its standard deviation is
`noise` times that of the old rows, column by column, since a few columns of language models are far wider than the
rest. In bf16 much of it is rounded away, but not all: at 1e-3 about one entry in five of a row moves.

`normal` really samples. transformers' `mean_resizing` scales the covariance by 1e-9 and so gives all new pieces nearly
one row; it also needs a decomposition of the covariance, which fails where that is not positive definite.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import xxhash
from torch import Tensor

from tsugiki.errors import ModelError

Method = Literal["mean", "normal", "random"]

_PIECES = 1024  # new rows made at a time
_ROWS = 2048  # old rows read at a time: 64 MiB in fp32 at a width of 8,192


def new_rows(
    old: Tensor, pieces: Sequence[Sequence[int]], method: Method, *, noise: float, seed: int, name: str
) -> Tensor:
    """A row for each of `pieces`, [len(pieces), width], in the dtype of `old`.

    old: [rows in use, width], one matrix without its spare rows, which nobody trained and which would shift mean and
    covariance. pieces: for each new piece the ids of the old pieces that spell it. noise: for `mean`, in standard
    deviations of a column; 0 adds none. name: the matrix; random numbers depend on it and on `seed`, so that input and
    output rows differ and a second run gives the same bits.

    Computed in fp32. Raises ModelError where `old` holds NaN or infinity, ValueError for a piece that is spelled by
    nothing or by an id that `old` does not have.
    """
    for piece in pieces:
        if not piece or min(piece) < 0 or max(piece) >= len(old):
            raise ValueError(f"a new piece is spelled by {list(piece)}; ids from 0 to {len(old) - 1} are in use")
    mean, deviation = _moments(old)
    if not bool(torch.isfinite(deviation).all()):
        raise ModelError(f"{name} holds NaN or infinity, and so would its new rows: fetch the model again")
    generator = torch.Generator()
    generator.manual_seed(xxhash.xxh3_64_intdigest(f"{seed}/{name}".encode()) >> 1)
    result = old.new_empty(len(pieces), old.shape[1])
    for start in range(0, len(pieces), _PIECES):
        block = pieces[start : start + _PIECES]
        if method == "mean":
            rows = torch.stack([old[list(piece)].float().mean(dim=0) for piece in block])
            rows += noise * deviation * torch.randn(rows.shape, generator=generator)
        elif method == "normal":
            rows = _sample(old, mean, len(block), generator)
        else:
            entries = (deviation.square() + (mean - mean.mean()).square()).mean().sqrt()
            rows = entries * torch.randn(len(block), old.shape[1], generator=generator)
        result[start : start + len(block)] = rows.to(old.dtype)
    return result


def _moments(old: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column, [width] in fp32; sums are taken in fp64."""
    mean = torch.zeros(old.shape[1], dtype=torch.float64)
    for block in old.split(_ROWS):
        mean += block.double().sum(dim=0) / len(old)
    variance = torch.zeros_like(mean)
    for block in old.split(_ROWS):
        variance += (block.double() - mean).square().sum(dim=0) / len(old)
    return mean.float(), variance.sqrt().float()


def _sample(old: Tensor, mean: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` rows of the normal distribution with the mean and covariance of `old`.

    With C the n centred rows and g n independent standard normal numbers, g C / sqrt(n) has the covariance C'C / n
    whatever its rank: no matrix of width x width, and nothing to decompose.
    """
    rows = torch.zeros(count, old.shape[1])
    for block in old.split(_ROWS):
        rows += torch.randn(count, len(block), generator=generator) @ (block.float() - mean)
    return mean + rows / len(old) ** 0.5
