"""Bases with SentencePiece's kind of byte-pair vocabulary: characters first, bytes for those that have no piece.

Llama 2, Mistral v0.1 and their kin have a `tokenizer.model`, whose ids are the truth; Gemma's like may come as a
`tokenizer.json` alone. SentencePiece joins, of all neighbours whose joint spelling is a piece, those with the highest
score, leftmost first. `tokenizers` has merges in order instead: the same ids come out when every division of a piece
into two pieces is a merge, sorted by the piece's score and then by the longer left part, and when the space mark is
prepended by the normaliser. It turns an unknown character into bytes before it merges, so every character of a piece
must itself be a piece.
"""

import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from tsugiki.errors import ModelError
from tsugiki.files import write_atomically
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.pieces import Piece, preparation, whole_vocabulary, with_pieces

MARK = "\u2581"
"""Stands for a space."""
RARE = -1e8
"""Scores below are no place in the order of merges: Mistral gives -1e9 to runs of spaces."""


class SentencePieceBase:
    """The content of a `tokenizer.json` with byte fallback that can be extended, and of the `tokenizer.model` that it
    stands for, where there is one."""

    family = "SentencePiece BPE with byte fallback"

    def __init__(self, target: TargetCharacters, state: dict[str, Any], proto: Any = None):
        self.target, self._state, self._proto = target, state, proto
        self.vocabulary = whole_vocabulary(state)
        self.used = max(self.vocabulary.values()) + 1
        self._normalizer = preparation(state).normalizer

    def units(self, texts: Iterable[str]) -> Counter[str]:
        """Stretches of letters; where words are spaced, with the mark of the space before them."""
        found: Counter[str] = Counter()
        for text in texts:
            found.update(self.target.runs(text))
        return Counter({self.spelled(run): count for run, count in found.items()})

    def character_pieces(self, character: str) -> list[Piece]:
        # Only the end is compared: a normaliser may put a mark before it.
        if self._normalizer is not None and not self._normalizer.normalize_str(character).endswith(character):
            return []
        if character in self.vocabulary:
            return []
        return [Piece(character, tuple(f"<0x{byte:02X}>" for byte in character.encode()))]

    def kind(self, spelling: str) -> str | None:
        if spelling == MARK and self.target.words_are_spaced:
            return "other"
        letters = spelling.removeprefix(MARK) if self.target.words_are_spaced else spelling
        return "target" if letters and all(map(self.target.is_letter, letters)) else None

    def text_of(self, spelling: str) -> str | None:
        return spelling.replace(MARK, " ")

    def spelled(self, text: str) -> str:
        return text.replace(" ", MARK)

    def state(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        if self._proto is not None:
            merges = merges_by_score(_scores(self._proto) | _new_scores(self._proto, pieces))
        else:
            known = self.vocabulary.keys() | {piece.spelling for piece in pieces}
            new = (division for piece in pieces for division in _divisions(piece.spelling, known))
            merges = [*self._state["model"]["merges"], *new]
        return with_pieces(self._state, self.vocabulary, pieces, merges)

    def write(self, folder: Path, pieces: Sequence[Piece]) -> None:
        write_atomically(folder / "tokenizer.json", json.dumps(self.state(pieces), ensure_ascii=False))
        if self._proto is not None:
            write_atomically(folder / "tokenizer.model", _extended(self._proto, pieces, self._beside()))

    def _beside(self) -> list[dict[str, Any]]:
        """Tokens that the base has beside its SentencePiece model, by id."""
        size = len(self._proto.pieces)
        return sorted((token for token in self._state["added_tokens"] if token["id"] >= size), key=itemgetter("id"))


def from_model_file(
    path: Path, target: TargetCharacters, added: Mapping[int, tuple[str, bool]], *, bos: str | None
) -> SentencePieceBase:
    """A base out of its `tokenizer.model`. `added` are tokens beside it (id to piece, and whether it is a control
    token); `bos` is put before each text by default, if any. Raises ModelError for a model of another kind."""
    proto = _read(path)
    _require_bpe(path, proto)
    size = len(proto.pieces)
    beside = {token: entry for token, entry in added.items() if token >= size}
    if sorted(beside) != list(range(size, size + len(beside))):
        raise ModelError(
            f"{path.parent}: added tokens have the ids {sorted(beside)}, but {path.name} ends at {size - 1} and can "
            "hold no gaps; number them from there on, without any"
        )
    return SentencePieceBase(target, _state(proto, beside, bos), proto)


def _read(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path}: not a SentencePiece model: {error}") from None
    return proto


def _require_bpe(path: Path, proto: Any) -> None:
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if trainer.model_type == trainer.UNIGRAM:
        raise ModelError(unigram_refusal(path))
    if trainer.model_type != trainer.BPE:
        raise ModelError(f"{path}: a vocabulary of words or characters, which has no merges to continue")
    if not trainer.byte_fallback:
        raise ModelError(f"{path}: has no byte fallback, so texts with characters that it lacks cannot be kept exactly")
    unsupported = {
        "a normaliser": normalizer.precompiled_charsmap, "removal of spaces": normalizer.remove_extra_whitespaces,
        "marks after words": trainer.treat_whitespace_as_suffix,
        "spaces without marks": not normalizer.escape_whitespaces,
    }  # fmt: skip
    for what, there in unsupported.items():
        if there:
            raise ModelError(f"{path}: has {what}, for which no exact tokenizer.json is known here")


def unigram_refusal(path: Path) -> str:
    """Why a Unigram vocabulary is not extended."""
    return (
        f"{path}: a Unigram vocabulary. It has no merges but a probability for every piece, and takes the likeliest "
        "division of a whole text: new pieces would change how old text is divided, and nothing can rule that out. "
        "Choose a base with a byte-pair vocabulary, or train without a vocabulary section"
    )


def _state(proto: Any, beside: Mapping[int, tuple[str, bool]], bos: str | None) -> dict[str, Any]:
    """A tokenizer.json that gives the ids of the SentencePiece model."""
    kinds = type(proto).SentencePiece
    control = {kinds.CONTROL, kinds.UNKNOWN}
    apart = {token: (piece.piece, piece.type in control) for token, piece in enumerate(proto.pieces)
             if piece.type in {*control, kinds.USER_DEFINED}} | dict(beside)  # fmt: skip
    prefixed = proto.normalizer_spec.add_dummy_prefix
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    prepend = {"type": "Prepend", "prepend": MARK}
    back = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *([strip] if prefixed else [])]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": token, "content": piece, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": special}
            for token, (piece, special) in sorted(apart.items())
        ],
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]} if prefixed else replace,
        "pre_tokenizer": None,
        "post_processor": None if bos is None else _begins_with(
            bos, next(token for token, (piece, _) in apart.items() if piece == bos)
        ),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": None,
            "unk_token": next(piece.piece for piece in proto.pieces if piece.type == kinds.UNKNOWN),
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
            "ignore_merges": False, "vocab": {piece.piece: token for token, piece in enumerate(proto.pieces)},
            "merges": [],
        },
    }  # fmt: skip


def _begins_with(bos: str, token: int) -> dict[str, Any]:
    """A post-processor that puts BOS before a text, and before each of a pair."""
    begin = [{"SpecialToken": {"id": bos, "type_id": number}} for number in range(2)]
    text = [{"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB")]
    return {
        "type": "TemplateProcessing", "single": [begin[0], text[0]], "pair": [begin[0], text[0], begin[1], text[1]],
        "special_tokens": {bos: {"id": bos, "ids": [token], "tokens": [bos]}},
    }  # fmt: skip


def _scores(proto: Any) -> dict[str, float]:
    """Of the pieces that merging can make."""
    normal = type(proto).SentencePiece.NORMAL
    return {piece.piece: piece.score for piece in proto.pieces if piece.type == normal}


def _new_scores(proto: Any, pieces: Sequence[Piece]) -> dict[str, float]:
    """One below the other, and all below the base's ordinary ones, so that every merge of the base comes first."""
    lowest = min((score for score in _scores(proto).values() if score > RARE), default=0.0)
    first = float(int(lowest) - 1)
    return {piece.spelling: first - number for number, piece in enumerate(pieces)}


def _divisions(spelling: str, known: Container[str]) -> list[tuple[str, str]]:
    """All divisions of a piece into two pieces, the longer left part first."""
    pairs = ((spelling[:cut], spelling[cut:]) for cut in range(len(spelling) - 1, 0, -1))
    return [(left, right) for left, right in pairs if left in known and right in known]


def merges_by_score(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges that give SentencePiece's ids: by falling score; of equal scores by the longer left part, then the
    longer right one (SentencePiece lets the leftmost run of spaces grow)."""
    found = [
        (-score, -len(left), -len(right), left, right)
        for spelling, score in scores.items()
        for left, right in _divisions(spelling, scores)
    ]
    found.sort(key=lambda entry: entry[:3])
    return [(left, right) for *_, left, right in found]


def _extended(proto: Any, pieces: Sequence[Piece], beside: Sequence[dict[str, Any]]) -> bytes:
    """The SentencePiece model with pieces added. Tokens that stood beside it become part of it, to keep their ids."""
    extended = type(proto)()
    extended.CopyFrom(proto)
    kinds = type(proto).SentencePiece
    for token in beside:
        kind = kinds.CONTROL if token["special"] else kinds.USER_DEFINED
        extended.pieces.add(piece=token["content"], score=0.0, type=kind)
    for spelling, score in _new_scores(proto, pieces).items():
        extended.pieces.add(piece=spelling, score=score, type=kinds.NORMAL)
    extended.trainer_spec.vocab_size = len(extended.pieces)
    return extended.SerializeToString(deterministic=True)
