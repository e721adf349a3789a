"""Where a finished model is run and in which number format, when nobody says; and how fast a CPU is in one."""

import time

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""The number formats of a finished model, by the names that commands take."""


def default_device() -> torch.device:
    """Where a finished model is run when nobody says: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> str:
    """A key of DTYPES: bf16 on a GPU, fp32 on a CPU, whose bf16 products are far slower."""
    return "bfloat16" if device.type == "cuda" else "float32"


def matmul_seconds(dtype: torch.dtype) -> float:
    """Best of three products of 192 x 192 matrices on the CPU: whether it has instructions for a format."""
    matrix = torch.ones(192, 192, dtype=dtype)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times[1:])
