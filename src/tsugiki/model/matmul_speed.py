"""How fast a CPU multiplies matrices of a number format."""

import time

import torch


def matmul_seconds(dtype: torch.dtype) -> float:
    """Best of three products of 192 x 192 matrices on the CPU: whether it has instructions for a format."""
    matrix = torch.ones(192, 192, dtype=dtype)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times[1:])
