"""Which files hold a model's weights, and whether they may be read: safetensors, unless the user allows a pickle."""

import json
import re
from pathlib import Path

from tsugiki.errors import ModelError

CONFIGURATION_FILES = ("config.json", "generation_config.json")
"""What stands beside the weights and decides what they compute and where a text ends."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_weight_files(folder: Path, allow_pickle: bool) -> bool:
    """True for safetensors, False for a pickle that the user allowed (read with `weights_only=True`).

    Raises ModelError where there is neither, where only a pickle exists and `model.allow_pickle` is false, or where
    an index names files outside of `folder` or files that are not there.
    """
    if _complete(folder, "model.safetensors"):
        return True
    if not _complete(folder, "pytorch_model.bin"):
        raise ModelError(
            f"{folder} holds no weights: neither model.safetensors nor model.safetensors.index.json is there"
        )
    if not allow_pickle:
        raise ModelError(
            f"{folder} holds its weights as pickles only (pytorch_model*.bin), which can run code when read. "
            "Convert them to safetensors, or set model.allow_pickle: true if you trust where they come from"
        )
    return False


def _complete(folder: Path, name: str) -> bool:
    """Whether the weights are there under `name` or its index."""
    if (folder / name).is_file():
        return True
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return False
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} cannot be read: {error!r}") from None
    for file in sorted(map(str, files)):
        if not _PLAIN_NAME.fullmatch(file):
            raise ModelError(f"{index} names {file!r}, which is no file name in its own folder")
        if not (folder / file).is_file():
            raise ModelError(f"{index} names {file}, which is missing: fetch the model again")
    return True
