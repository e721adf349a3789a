"""Ids that stand for no text: those by which a tokenizer writes structure, and which no text may become."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.files import read_json


def control_tokens(tokenizer: TextTokenizer) -> NDArray[np.int64]:
    """Ids of control tokens, but for the one that stands for unknown text."""
    found = {token for token in (tokenizer.bos_id, tokenizer.eos_id) if token is not None}
    unknown = _unknown(tokenizer.folder)
    found |= {token for piece, (token, special) in tokenizer.added.items() if special and piece not in unknown}
    return np.array(sorted(found), dtype=np.int64)


def _unknown(folder: Path) -> set[str]:
    """The pieces that stand for unknown text, by what the tokenizer's files say."""
    path, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    model = read_json(path).get("model", {}) if path.is_file() else {}
    named = read_json(config).get("unk_token") if config.is_file() else None
    pieces = (model.get("unk_token"), named.get("content") if isinstance(named, dict) else named)
    return {piece for piece in pieces if isinstance(piece, str)}
