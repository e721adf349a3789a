"""Tokens beside a tokenizer's vocabulary, put into its files as the library `tokenizers` numbers them: a text that
spells one becomes that one token."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.model.chat_files import CONFIG, as_json, content
from tsugiki.printable import one_line

_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def with_added_tokens(
    files: Mapping[str, bytes],
    added: Mapping[str, int],
    where: Path,
    like: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, bytes]:
    """`tokenizer.json` and `tokenizer_config.json` of `files`, with the tokens of `added` by their ids.

    like: the flags of tokens as another tokenizer has them; default: special, found wherever they stand. Raises
    ModelError, naming the folder `where`, without a tokenizer.json.
    """
    if "tokenizer.json" not in files:
        raise ModelError(
            f"{where} has no tokenizer.json to add {listed(list(added))} to: save its tokenizer as one with "
            "transformers first (AutoTokenizer.from_pretrained(…).save_pretrained(…))"
        )

    def flags(text: str) -> dict[str, bool]:
        return {key: bool((like or {}).get(text, {}).get(key, default)) for key, default in _FLAGS.items()}

    state, config = content(files, "tokenizer.json"), content(files, CONFIG)
    tokens = [{"id": token, "content": text, **flags(text)} for text, token in added.items()]
    changed = {
        "tokenizer.json": as_json({**state, "added_tokens": [*(state.get("added_tokens") or []), *tokens]})
    }  # fmt: skip
    if "added_tokens_decoder" in config:
        table = {str(token): {"content": text, **flags(text)} for text, token in added.items()}
        changed[CONFIG] = as_json({**config, "added_tokens_decoder": {**config["added_tokens_decoder"], **table}})
    return changed


def not_single(folder: Path, tokens: Sequence[str], added: Mapping[str, int]) -> list[str]:
    """Those of `tokens` that do not become one token where a text has them, or not the one that `added` says."""
    from tokenizers import Tokenizer

    tokenizer = TextTokenizer.from_folder(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json")) if (folder / "tokenizer.json").is_file() else None
    return [
        text
        for text in tokens
        if (own := tokenizer.engine.token_id(text)) is None
        or own != added.get(text, own)
        or (plain is not None and plain.encode(text, add_special_tokens=False).ids != [own])
    ]


def listed(texts: Sequence[str]) -> str:
    """A few of them, quoted."""
    return ", ".join(one_line(repr(text), 60) for text in texts[:5]) + (" …" if len(texts) > 5 else "")
