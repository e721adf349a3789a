"""How much `training.lora` trains, reckoned from the headers of a model's files: before torch is there to count.

What transformers makes of the files it alone knows (it fuses experts, and builds no layer for some tensors), so the
figures are about right; a run says the exact ones when it starts.
"""

import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from tsugiki.model.weight_files import read_headers
from tsugiki.recipe_training import ALL_LINEAR, LoraSection

_IN_A_BLOCK = re.compile(r"\.\d+\.")
_NOT_LINEAR = re.compile(r"\.experts\.|norm|embed|vision|visual|audio|multi_modal")
FROZEN_BYTES, TRAINED_BYTES, STORED_BYTES = 2, 16, 12
"""Of a parameter in memory: bf16; weight, gradient and Adam's two moments in fp32. In a checkpoint: all but the
gradient."""


def names_layer(pattern: str, name: str) -> bool:
    """Whether a pattern of `training.lora` means a layer: by the whole name, by its last parts, or by a glob."""
    return fnmatchcase(name, pattern) or f".{name}".endswith(f".{pattern}")


def about_lora(lora: LoraSection, folder: Path) -> str:
    """What is trained of the model in `folder` and what it costs, in a line. Raises ModelError for damaged files."""
    shapes = {name: tensor.shape for header in read_headers(folder).values() for name, tensor in header.tensors.items()}
    total = sum(math.prod(shape) for shape in shapes.values())
    trained = adapter_parameters(lora, shapes)
    rows = ", rows of new pieces aside," if lora.new_rows else ""
    memory = FROZEN_BYTES * total + TRAINED_BYTES * trained
    return (
        f"lora       about {trained:,} parameters{rows} are trained beside {total:,} frozen ones: "
        f"{memory / 1e9:,.2f} GB over all processes instead of {TRAINED_BYTES * total / 1e9:,.2f}, checkpoints of "
        f"{STORED_BYTES * trained / 1e6:,.0f} MB"
    )


def adapter_parameters(lora: LoraSection, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Numbers that are trained, by the shapes of a model's tensors; without rows of new pieces."""
    trained = 0
    for name, shape in shapes.items():
        layer = name.rpartition(".")[0]
        if any(names_layer(pattern, module) for pattern in lora.modules_to_save for module in _around(name)):
            trained += math.prod(shape)
        elif len(shape) == 2 and _is_target(lora, layer):
            trained += lora.rank * sum(shape)
    return trained


def _is_target(lora: LoraSection, layer: str) -> bool:
    linear = bool(_IN_A_BLOCK.search(f".{layer}.")) and not _NOT_LINEAR.search(layer)
    return any(linear if name == ALL_LINEAR else names_layer(name, layer) for name in lora.target_modules)


def _around(name: str) -> list[str]:
    """The layer that a tensor belongs to, and the modules that hold it."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
