"""The two libraries that read tokenizers, behind one face: `tokenizers` for `tokenizer.json`, `sentencepiece` for
`tokenizer.model`.

In texts a literal `</s>` or `<|endoftext|>` stays text and never becomes the control token.
"""

import json
import re
import secrets
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tsugiki.errors import ModelError, StorageError
from tsugiki.files import explain_os_error
from tsugiki.printable import one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Opener = Callable[[], Callable[[str], NDArray[np.int32]]]
PROBE = "a"
UNWRITABLE = re.compile("\U0010fffd[0-9a-f]{32} [0-9]+")
"""How control tokens are spelled in a description of texts: behind a private character stands a secret."""
LARGEST_FILE = 1 << 28
"""Bytes of a tokenizer's file. The largest that are published, with a million pieces, have less than a third of it; the
libraries take several times a file's size in memory."""


class Engine(Protocol):
    """What differs between the two libraries. `encode` adds nothing and knows no control tokens.

    The calls for batches use as many threads as the library thinks fit; `decode_batch` takes ids that `encode` gave.
    """

    library: str
    """Its name as a distribution."""
    path: Path
    """The file that decides the ids."""
    added: dict[int, tuple[str, bool]]
    """Tokens that stand beside that file: their pieces, and whether they are control tokens."""
    vocabulary_size: int

    @property
    def largest_piece(self) -> int:
        """The largest id that is no added token's; -1 without pieces."""
        ...

    def encode(self, text: str) -> NDArray[np.int32]: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode(self, ids: Sequence[int], skip_special: bool) -> str: ...
    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]: ...
    def piece(self, token: int) -> str: ...
    def token_id(self, piece: str) -> int | None: ...
    def leading_specials(self) -> list[int]: ...
    def added_tokens(self) -> dict[str, tuple[int, bool]]: ...
    def plain_description(self) -> str | None:
        """A tokenizer.json of what `encode` does, for other libraries; None where there is none."""
        ...

    def opener(self) -> "Opener":
        """For another process, to which it travels: gives `encode`, and nothing else that an engine takes time for."""
        ...


class TokenizersEngine:
    """A `tokenizer.json`, which has its own list of added tokens."""

    library = "tokenizers"

    def __init__(self, path: Path, config: dict[str, Any]):
        from tokenizers import Tokenizer

        self.path = path
        self.added: dict[int, tuple[str, bool]] = {}  # none beside the file
        _refuse_wrong_prefix(path)
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
            # Truncation or padding saved in the file would silently cut or stretch documents.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._plain = Tokenizer.from_str(without_control_tokens(self._tokenizer.to_str(), self._named(config)))
        except BaseException as error:  # the library raises bare Exception for every malformed file, or Rust panics
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            reason = str(error)[:300]  # it may quote the whole vocabulary
            raise ModelError(f"{path}: not a tokenizer that the installed tokenizers library reads: {reason}") from None
        self.vocabulary_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def largest_piece(self) -> int:
        added = self._tokenizer.get_added_tokens_decoder()
        ids = self._tokenizer.get_vocab(with_added_tokens=False).values()
        return max((token for token in ids if token not in added), default=-1)

    def added_tokens(self) -> dict[str, tuple[int, bool]]:
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: (number, token.special) for number, token in added.items()}

    def _named(self, config: dict[str, Any]) -> set[str]:
        """The pieces that may stand before or after a document."""
        named = {content_of(config.get(key)) for key in ("bos_token", "eos_token")}
        return {str(piece) for piece in named if piece} | {self.piece(token) for token in self.leading_specials()}

    def encode(self, text: str) -> NDArray[np.int32]:
        return plain_ids(self._plain, text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        return self._tokenizer.decode_batch([list(ids) for ids in batch], skip_special_tokens=False)

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

    @cached_property
    def _description(self) -> str:
        return self._plain.to_str()

    def plain_description(self) -> str | None:
        return self._description

    def opener(self) -> Opener:
        return partial(_open_description, self._description)


def _open_description(description: str) -> Callable[[str], NDArray[np.int32]]:
    from tokenizers import Tokenizer

    return partial(plain_ids, Tokenizer.from_str(description))


def plain_ids(tokenizer: "Tokenizer", text: str) -> NDArray[np.int32]:
    """Ids that a tokenizer of the library `tokenizers` gives, nothing added."""
    # The call for batches leaves out offsets, which take as much time and memory as all else.
    ids = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return np.frombuffer(struct.pack(f"={len(ids)}i", *ids), np.int32)  # numpy takes twice as long for a list


def _refuse_wrong_prefix(path: Path) -> None:
    """The second piece of each merge must begin with `continuing_subword_prefix`: the library cuts that many bytes off
    it, and where they end inside a character it aborts the process, which no `except` can catch (tokenizers 0.23)."""
    content = path.read_bytes()
    if not re.search(rb'"continuing_subword_prefix"\s*:\s*"[^"]', content):
        return
    try:
        model = json.loads(content)["model"]
        prefix = model["continuing_subword_prefix"]
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", ())]
        wrong = next((merge for merge in merges if not merge[1].startswith(prefix)), None)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return  # the library says what is wrong with it
    if wrong is not None:
        raise ModelError(
            f"{path}: the merge {one_line(repr(wrong), 80)} does not begin its second piece with the "
            f"continuing_subword_prefix, {one_line(repr(prefix), 40)}; save the tokenizer anew"
        )


def without_control_tokens(description: str, named: Iterable[str]) -> str:
    """A tokenizer.json in which no text spells a control token: those marked special, and those that are `named`.

    Each is given a spelling that nobody can write, and keeps its id and score. To take them out of `added_tokens` would
    not do: ids of those that stay would move, and a Unigram model or one with merges finds them in its own vocabulary.
    """
    state = json.loads(description)
    model, added = state["model"], state["added_tokens"]
    control = {token["content"] for token in added if token["special"]} | set(named)
    secret = secrets.token_hex(16)
    spelling = {piece: f"\U0010fffd{secret} {number}" for number, piece in enumerate(sorted(control))}
    for token in added:
        token["content"] = spelling.get(token["content"], token["content"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {spelling.get(piece, piece): token for piece, token in vocabulary.items()}
    else:  # Unigram
        model["vocab"] = [[spelling.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in spelling:
        model["unk_token"] = spelling[model["unk_token"]]
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if control.isdisjoint((left, right, left + right.removeprefix(prefix)))
        ]
    return json.dumps(state)


class SentencePieceEngine:
    """A `tokenizer.model`. Tokens that were added beside the model have ids and pieces; no text becomes one of them."""

    library = "sentencepiece"

    def __init__(self, path: Path, config: dict[str, Any]):
        from sentencepiece import SentencePieceProcessor

        self.path = path
        try:
            self._processor = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{path}: not a SentencePiece model: {error}") from None
        self._own_size = self._processor.vocab_size()
        self.added = _added_tokens(path.parent, config)
        self._hidden = {token for token, (_, special) in self.added.items() if special}
        self.vocabulary_size = max(self._own_size, *(token + 1 for token in self.added), 0)

    @property
    def largest_piece(self) -> int:
        return self._own_size - 1

    def encode(self, text: str) -> NDArray[np.int32]:
        return np.array(self._processor.encode(text, num_threads=1), np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.encode(list(texts)) if texts else []

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        return self._processor.decode([list(ids) for ids in batch]) if batch else []

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        parts: list[str] = []
        run: list[int] = []
        for token in ids:
            if self._is_own(token) and not self._processor.is_control(token):
                run.append(token)
            elif not (skip_special and (self._is_own(token) or token in self._hidden)):
                parts += [self._processor.decode(run), self.piece(token)]
                run = []
        return "".join([*parts, self._processor.decode(run)])

    def _is_own(self, token: int) -> bool:
        return 0 <= token < self._own_size

    def piece(self, token: int) -> str:
        if self._is_own(token):
            return self._processor.id_to_piece(token)
        return self.added[token][0] if token in self.added else f"<{token}>"

    def token_id(self, piece: str) -> int | None:
        added = next((token for token, (content, _) in self.added.items() if content == piece), None)
        if added is not None:
            return added
        token = self._processor.piece_to_id(piece)
        return None if token == self._processor.unk_id() and piece != "<unk>" else token

    def leading_specials(self) -> list[int]:
        return []  # a SentencePiece file has no template

    def added_tokens(self) -> dict[str, tuple[int, bool]]:
        return {piece: (token, special) for token, (piece, special) in self.added.items()}

    def plain_description(self) -> str | None:
        return None

    def opener(self) -> Opener:
        return partial(_open_sentencepiece, self.path)


def _open_sentencepiece(path: Path) -> Callable[[str], NDArray[np.int32]]:
    return SentencePieceEngine(path, {}).encode


def _added_tokens(folder: Path, config: dict[str, Any]) -> dict[int, tuple[str, bool]]:
    """Piece, and whether it is a control token, of each id in the table of `tokenizer_config.json` or, where that has
    none, in `added_tokens.json`, as transformers reads them."""
    path = folder / "tokenizer_config.json"
    try:
        if "added_tokens_decoder" in config:
            table = config["added_tokens_decoder"].items()
            return {int(token): (str(entry["content"]), bool(entry.get("special"))) for token, entry in table}
        path = folder / "added_tokens.json"
        return {int(token): (piece, True) for piece, token in _read_object(path).items()} if path.exists() else {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path}: its table of added tokens cannot be read ({error!r}); save the tokenizer anew"
        ) from None


def open_engine(path: Path) -> Engine:
    """The engine of one file, `tokenizer.json` or `tokenizer.model`, whatever else its folder holds.

    Raises ModelError when the library cannot read it, StorageError where the disk refuses a file beside it.
    """
    if not path.resolve().is_file():
        raise ModelError(f"{path}: not a file")
    _refuse_huge(path)
    config = read_configuration(path.parent)
    return TokenizersEngine(path, config) if path.name == "tokenizer.json" else SentencePieceEngine(path, config)


def read_configuration(folder: Path) -> dict[str, Any]:
    """What the files beside a tokenizer say of its special tokens."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            config |= _read_object(folder / name)
    return config


def content_of(value: Any) -> Any:
    """A token of a configuration: written as text, or as an object with its properties."""
    return value.get("content") if isinstance(value, dict) else value


def _refuse_huge(path: Path) -> None:
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ModelError(
            f"{path} has {size / 1e6:,.0f} MB; a tokenizer's file may have {LARGEST_FILE / 1e6:,.0f}: it is damaged, "
            "or no tokenizer"
        )


def _read_object(path: Path) -> dict[str, Any]:
    _refuse_huge(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON that can be read: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a JSON object")
    return values
