"""The model's own tokenizer, without the model library: text to ids, ids to text.

Two kinds of files are read: `tokenizer.json` (library `tokenizers`) and `tokenizer.model` (library `sentencepiece`).
Where both exist the first is used, as transformers does. In documents a literal `</s>` or `<|endoftext|>` is text
and never becomes the control token; control tokens enter only through `bos_id` and `eos_id`.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import xxhash

from tsugiki.errors import ModelError

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "vocab.json", "merges.txt",
)  # fmt: skip
PROBE = "a"


class Engine(Protocol):
    """What differs between the two libraries. `encode_batch` adds nothing and knows no control tokens."""

    vocabulary_size: int

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode(self, ids: Sequence[int], skip_special: bool) -> str: ...
    def piece(self, token: int) -> str: ...
    def token_id(self, piece: str) -> int | None: ...
    def leading_specials(self) -> list[int]: ...


class _TokenizersEngine:
    def __init__(self, path: Path):
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
            # Truncation or padding saved in the file would silently cut or stretch documents.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._plain = Tokenizer.from_str(self._tokenizer.to_str())
        except Exception as error:  # the library raises bare Exception for every malformed file
            raise ModelError(f"{path}: not a tokenizer that the installed tokenizers library reads: {error}") from None
        self._plain.encode_special_tokens = True
        self.vocabulary_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def piece(self, token: int) -> str:
        return self._tokenizer.id_to_token(token) or f"<{token}>"

    def token_id(self, piece: str) -> int | None:
        return self._tokenizer.token_to_id(piece)

    def leading_specials(self) -> list[int]:
        plain = self._tokenizer.encode(PROBE, add_special_tokens=False).ids
        with_specials = self._tokenizer.encode(PROBE, add_special_tokens=True).ids
        for start in range(len(with_specials) - len(plain) + 1):
            if with_specials[start : start + len(plain)] == plain:
                return with_specials[:start]
        return []


class _SentencePieceEngine:
    def __init__(self, path: Path):
        from sentencepiece import SentencePieceProcessor

        try:
            self._processor = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{path}: not a SentencePiece model: {error}") from None
        self.vocabulary_size = self._processor.vocab_size()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.encode(list(texts), num_threads=1)

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        if skip_special:
            return self._processor.decode([token for token in ids if not self._processor.is_control(token)])
        parts: list[str] = []
        run: list[int] = []
        for token in ids:
            if self._processor.is_control(token):
                parts += [self._processor.decode(run), self._processor.id_to_piece(token)]
                run = []
            else:
                run.append(token)
        return "".join([*parts, self._processor.decode(run)])

    def piece(self, token: int) -> str:
        return self._processor.id_to_piece(token) if 0 <= token < self.vocabulary_size else f"<{token}>"

    def token_id(self, piece: str) -> int | None:
        token = self._processor.piece_to_id(piece)
        return None if token == self._processor.unk_id() and piece != "<unk>" else token

    def leading_specials(self) -> list[int]:
        return []  # a SentencePiece file has no template


class TextTokenizer:
    """Encodes documents and decodes ids; open one with `from_folder`."""

    def __init__(self, folder: Path, engine: Engine, config: dict[str, Any]):
        self.folder = folder
        self.engine = engine
        self.vocabulary_size = engine.vocabulary_size
        before = engine.leading_specials()
        self.bos_id = self._special("bos_token", config)
        self.eos_id = self._special("eos_token", config)
        if isinstance(engine, _SentencePieceEngine):
            self.bos_id = engine.token_id("<s>") if self.bos_id is None else self.bos_id
            self.eos_id = engine.token_id("</s>") if self.eos_id is None else self.eos_id
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
    def from_folder(cls, folder: Path) -> "TextTokenizer":
        """The tokenizer in a model's folder. Raises ModelError when there is none that can be read."""
        config: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            path = folder / name
            if path.exists():
                try:
                    values = json.loads(path.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise ModelError(f"{path}: not JSON that can be read: {error}") from None
                if not isinstance(values, dict):
                    raise ModelError(f"{path}: not a JSON object")
                config |= values
        for name, engine in (("tokenizer.json", _TokenizersEngine), ("tokenizer.model", _SentencePieceEngine)):
            path = folder / name
            if path.exists():
                if not path.resolve().is_file():
                    raise ModelError(f"{path}: not a file")
                return cls(folder, engine(path), config)
        raise ModelError(f"{folder}: no tokenizer.json and no tokenizer.model in this folder")

    def _special(self, key: str, config: dict[str, Any]) -> int | None:
        value = config.get(key)
        text = value.get("content") if isinstance(value, dict) else value
        return self.engine.token_id(text) if isinstance(text, str) else None

    @property
    def files(self) -> list[Path]:
        """The tokenizer's files, for copying byte for byte."""
        return [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).exists()]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the files that decide the ids."""
        digest = xxhash.xxh3_128()
        for path in self.files:
            if path.name not in ("chat_template.jinja",):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing is added, control strings are plain text."""
        return self.engine.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`, for several texts."""
        return self.engine.encode_batch(texts)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Text of ids; control tokens are shown unless skipped."""
        return self.engine.decode([int(token) for token in ids], skip_special)

    def piece(self, token: int) -> str:
        """The piece of an id as the vocabulary spells it."""
        return self.engine.piece(int(token))
