"""The mean of several checkpoints, one tensor at a time.

Averaging the last checkpoints of a run stands in for the end of a schedule that was cut short, and takes out some of
its noise (https://arxiv.org/abs/1803.05407, there over a cycle of rates). Sums are fp32 whatever the
checkpoints and the result are stored in, and rounded once, at the end: a mean of bf16 numbers would be rounded before
it is taken. The memory needed besides the result is that of the largest tensor, twice in fp32.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tsugiki.checkpoint_tensors import TensorReader, read_tensors


def read_mean(checkpoints: Sequence[Path], tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill the given tensors with the mean of the checkpoints' tensors of these names, cast to the dtype of each; of
    one checkpoint with what it holds. Whole numbers have no mean: they are those of the last.

    checkpoints: oldest first; the sum is taken in this order. Raises StorageError where one cannot be read.
    """
    readers = [TensorReader(path) for path in checkpoints]
    if len(readers) == 1:
        read_tensors(readers[0], tensors)
        return
    for name, result in tensors.items():
        if not result.is_floating_point():
            read_tensors(readers[-1], {name: result})
            continue
        total, part = (torch.empty(result.shape, dtype=torch.float32) for _ in range(2))
        read_tensors(readers[0], {name: total})
        for reader in readers[1:]:
            read_tensors(reader, {name: part})
            total += part
        result.copy_(total.div_(len(readers)))
