"""The files of an extended tokenizer, as a Hugging Face folder that every version of transformers reads alike.

The class is `PreTrainedTokenizerFast`: it honours `tokenizer.json` as it stands, in transformers 4 and 5 and for every
model type, where `LlamaTokenizer` of transformers 5 puts parts of its own in place of those of the file. BOS is put
before a text by the file's own template. The folder is copied byte for byte into checkpoints and exports, never saved
again: transformers 5 writes a class that 4 cannot load, and drops `tokenizer.model`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsugiki.chat.given import GIVEN_FILE
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.files import read_json, write_atomically
from tsugiki.vocabulary.pieces import Base, Piece

CLASS = "PreTrainedTokenizerFast"
OTHERS_SAY = {
    "tokenizer_class", "auto_map", "backend", "tokenizer_file", "vocab_file", "merges_file", "sp_model_kwargs",
    "legacy", "from_slow", "add_prefix_space", "add_bos_token", "add_eos_token", "added_tokens_decoder", "is_local",
    "name_or_path",
}  # fmt: skip
"""Keys of a tokenizer's configuration that steer another class, or that tokenizer.json says itself."""
COPIED = ("special_tokens_map.json", "chat_template.jinja", GIVEN_FILE)


def write_tokenizer(folder: Path, base: Base, tokenizer: TextTokenizer, pieces: Sequence[Piece]) -> None:
    """Write the extended tokenizer into a folder that exists. `tokenizer` is the base's own."""
    base.write(folder, pieces)
    for name in COPIED:
        if (tokenizer.folder / name).exists():
            write_atomically(folder / name, (tokenizer.folder / name).read_bytes())
    config = json.dumps(_configuration(tokenizer), indent=2, ensure_ascii=False)
    write_atomically(folder / "tokenizer_config.json", config + "\n")


def _configuration(tokenizer: TextTokenizer) -> dict[str, Any]:
    path = tokenizer.folder / "tokenizer_config.json"
    theirs = read_json(path) if path.exists() else {}
    config = {key: value for key, value in theirs.items() if key not in OTHERS_SAY}
    for key, token in (("bos_token", tokenizer.bos_id), ("eos_token", tokenizer.eos_id)):
        if token is not None:
            config.setdefault(key, tokenizer.piece(token))
    # Otherwise transformers 4 takes spaces out before punctuation when it decodes.
    return {"tokenizer_class": CLASS, **config, "clean_up_tokenization_spaces": False}
