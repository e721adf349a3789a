"""Where a finished model is run and in which number format, when nobody says."""

import torch

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""The number formats of a finished model, by the names that commands take."""


def default_device() -> torch.device:
    """Where a finished model is run when nobody says: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> str:
    """A key of DTYPES: bf16 on a GPU, fp32 on a CPU, whose bf16 products are far slower."""
    return "bfloat16" if device.type == "cuda" else "float32"
