"""The model's own tokenizer, without the model library: text to ids, ids to text.

Two kinds of files are read (`tokenizer_engines`): `tokenizer.json` and `tokenizer.model`. Where both exist the first is
used, as transformers does. Control strings in documents are text; control tokens enter only through `bos_id` and
`eos_id`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.chat.given import GIVEN_FILE
from tsugiki.corpus.tokenizer_engines import Engine, SentencePieceEngine, content_of, open_engine, read_configuration
from tsugiki.errors import ModelError
from tsugiki.model_folder import own_files
from tsugiki.printable import one_line

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "vocab.json", "merges.txt", GIVEN_FILE,
)  # fmt: skip


class TextTokenizer:
    """Encodes documents and decodes ids; open one with `from_folder`."""

    def __init__(self, folder: Path, engine: Engine, config: dict[str, Any]):
        self.folder = folder
        self.engine = engine
        self.vocabulary_size = engine.vocabulary_size
        before = engine.leading_specials()
        self.bos_id = self._special("bos_token", config)
        self.eos_id = self._special("eos_token", config)
        if isinstance(engine, SentencePieceEngine):
            self.bos_id = self.bos_id if "bos_token" in config else engine.token_id("<s>")
            self.eos_id = self.eos_id if "eos_token" in config else engine.token_id("</s>")
            # The classes for SentencePiece files obey this key. Without it transformers 4 added BOS and 5 does not; the
            # models whose files these are (Llama, Llama 2, Mistral) were trained with it.
            self.default_add_bos = self.bos_id is not None and config.get("add_bos_token") is not False
        else:
            if self.bos_id is None and len(before) == 1:
                self.bos_id = before[0]
            # transformers drops the key where there is a tokenizer.json: its own template decides.
            self.default_add_bos = self.bos_id is not None and self.bos_id in before
        self.default_add_eos = self.eos_id is not None  # the end of a document must be learnable

    @classmethod
    def from_folder(cls, folder: Path, opened: Mapping[Path, Engine] | None = None) -> "TextTokenizer":
        """The tokenizer in a model's folder. Raises ModelError when there is none that can be read, or when one of its
        files is a link out of the folder. A file that is `opened` is not read again."""
        own_files(folder, TOKENIZER_FILES)
        config = read_configuration(folder)
        for name in ("tokenizer.json", "tokenizer.model"):
            if (folder / name).exists():
                engine = opened.get(folder / name) if opened else None
                return cls(folder, engine or open_engine(folder / name), config)
        raise ModelError(f"{folder}: no tokenizer.json and no tokenizer.model in this folder")

    def _special(self, key: str, config: dict[str, Any]) -> int | None:
        """The id of a token that the configuration names; None where it names none."""
        text = content_of(config.get(key))
        if text is None or text == "":
            return None
        try:
            token = self.engine.token_id(text) if isinstance(text, str) else None
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
            token = None
        if token is None:
            raise ModelError(
                f"{self.folder}: tokenizer_config.json or special_tokens_map.json names {one_line(repr(text), 80)} as "
                f"{key}, which is no token of {self.engine.path.name}; correct the name, or save the tokenizer "
                "anew with transformers"
            )
        return token

    @property
    def largest_piece(self) -> int:
        """The largest id that ordinary text can become. (Added tokens may have ids beyond: Gemma 3's names an image
        token that its text models have no row for.)"""
        return self.engine.largest_piece

    @cached_property
    def added(self) -> dict[str, tuple[int, bool]]:
        """Id of each token that stands beside the vocabulary, and whether it is flagged special."""
        return self.engine.added_tokens()

    @property
    def files(self) -> list[Path]:
        """The tokenizer's files, for copying byte for byte."""
        return own_files(self.folder, TOKENIZER_FILES)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what decides the ids: the one file that is read, and what the configuration says of BOS, EOS and
        added tokens. Its other keys and files (a chat template, a length) change no document."""
        path, added = self.engine.path, sorted(self.engine.added.items())
        stated = (self.bos_id, self.eos_id, self.default_add_bos, self.default_add_eos, added)
        return xxhash.xxh3_128_hexdigest(path.name.encode() + b"\0" + path.read_bytes() + b"\0" + repr(stated).encode())

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing is added, control strings are plain text."""
        return self.engine.encode(text).tolist()

    def encode_array(self, text: str) -> NDArray[np.int32]:
        """As `encode`, in a ninth of the memory."""
        return self.engine.encode(text)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Text of ids; control tokens are shown unless skipped."""
        return self.engine.decode([int(token) for token in ids], skip_special)

    def piece(self, token: int) -> str:
        """The piece of an id as the vocabulary spells it."""
        return self.engine.piece(int(token))
