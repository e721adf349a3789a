"""How fast a CPU multiplies matrices of a number format."""

import time

import torch

SLOW_BF16 = 4.0
"""From so many times an fp32 product's time on, bf16 products cost more than all they save."""


def matmul_seconds(dtype: torch.dtype) -> float:
    """Best of three products of 192 x 192 matrices on the CPU: whether it has instructions for a format."""
    matrix = torch.ones(192, 192, dtype=dtype)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times[1:])


def bf16_slowness() -> float:
    """How many times as long as an fp32 product one of bf16 takes on this CPU."""
    return matmul_seconds(torch.bfloat16) / matmul_seconds(torch.float32)
