"""Find out of what family a base's tokenizer is, and open it for extension."""

import json
from pathlib import Path
from typing import Any

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.files import read_json
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.byte_level import ByteLevelBase
from tsugiki.vocabulary.pieces import Base
from tsugiki.vocabulary.sentencepiece_bpe import SentencePieceBase, from_model_file, unigram_refusal


def open_base(tokenizer: TextTokenizer, target: TargetCharacters) -> Base:
    """The tokenizer as one that can be extended. Raises ModelError, with the reason, for a kind that cannot."""
    folder = tokenizer.folder
    path = folder / "tokenizer.json"
    state = _state(path) if path.exists() else None
    if state is not None and _is_byte_level(state):
        _require_plain_spelling(path, state)
        return ByteLevelBase(path, target, state)
    if (folder / "tokenizer.model").exists():
        bos = tokenizer.piece(tokenizer.bos_id) if tokenizer.default_add_bos and tokenizer.bos_id is not None else None
        return from_model_file(folder / "tokenizer.model", target, _added(state, tokenizer), bos=bos)
    if state is None:
        raise ModelError(f"{folder}: no tokenizer.json and no tokenizer.model in this folder")
    model = state["model"]
    if model.get("type") == "BPE" and model.get("byte_fallback"):
        _require_plain_spelling(path, state)
        return SentencePieceBase(target, state)
    if model.get("type") == "Unigram":
        raise ModelError(unigram_refusal(path))
    raise ModelError(
        f"{path}: a {model.get('type')} vocabulary without byte-level merges or byte fallback, which is not extended "
        "here; choose a base with a byte-pair vocabulary, or train without a vocabulary section"
    )


def _state(path: Path) -> dict[str, Any]:
    """The content of a tokenizer.json, with merges as pairs (older files write them as one text) and without what cuts
    or stretches documents."""
    state = read_json(path)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise ModelError(f"{path}: not the description of a tokenizer")
    state |= {"truncation": None, "padding": None, "added_tokens": state.get("added_tokens") or []}
    merges = state["model"].get("merges") or []
    if isinstance(state["model"].get("vocab"), dict):
        state["model"]["merges"] = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
        state["model"].setdefault("type", "BPE")
    return state


def _require_plain_spelling(path: Path, state: dict[str, Any]) -> None:
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if state["model"].get(key):
            raise ModelError(f"{path}: has a {key}, which new pieces could not be given exactly; choose another base")


def _is_byte_level(state: dict[str, Any]) -> bool:
    """Whether texts are cut into bytes before they are merged. `byte_fallback` does not say: conversions write it for
    such vocabularies too, in which it has nothing to do."""
    places = json.dumps([state.get("pre_tokenizer"), state.get("decoder"), state.get("normalizer")])
    return state["model"].get("type") == "BPE" and '"ByteLevel"' in places


def _added(state: dict[str, Any] | None, tokenizer: TextTokenizer) -> dict[int, tuple[str, bool]]:
    """Tokens beside the SentencePiece model, as either file lists them."""
    if state is None:
        return dict(tokenizer.engine.added)
    return {token["id"]: (token["content"], bool(token["special"])) for token in state["added_tokens"]}
