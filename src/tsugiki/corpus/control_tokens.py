"""Ids that stand for no text: those by which a tokenizer writes structure, and which no text may become."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.files import read_json


def control_tokens(tokenizer: TextTokenizer) -> NDArray[np.int64]:
    """Ids of control tokens, but for the one that stands for unknown text."""
    found = {token for token in (tokenizer.bos_id, tokenizer.eos_id) if token is not None}
    path = tokenizer.folder / "tokenizer.json"
    if path.is_file():
        data = read_json(path)
        unknown = {data.get("model", {}).get("unk_token"), _unknown(tokenizer.folder)}
        found |= {
            entry["id"] for entry in data.get("added_tokens") or ()
            if entry.get("special") and entry.get("content") not in unknown
        }  # fmt: skip
    return np.array(sorted(found), dtype=np.int64)


def _unknown(folder: Path) -> str | None:
    path = folder / "tokenizer_config.json"
    value = read_json(path).get("unk_token") if path.is_file() else None
    piece = value.get("content") if isinstance(value, dict) else value
    return piece if isinstance(piece, str) else None
