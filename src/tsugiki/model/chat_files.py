"""What a model's folder says of conversations: the chat template and what it is given, the names of special tokens, the
tokens that end an answer. Whoever asks the model goes by these files, so they must say what it was trained with.

What need not change stays byte for byte.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsugiki.chat.end_token import EndToken
from tsugiki.chat.form import ChatForm
from tsugiki.chat.given import GIVEN_FILE
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.files import read_json

TEMPLATE = "chat_template.jinja"
CONFIG, MAP, GENERATION = "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"
_PADDING = re.compile(r"[<\[]\|?(pad|PAD|padding|finetune_right_pad_id)\|?[>\]]")
"""Tokens that are there for padding and nothing else, as Gemma, BERT, GPT-NeoX and Llama 3.1 spell them. (Qwen has
`<|fim_pad|>` and others, which stand in text.)"""


def trained_chat(files: Mapping[str, bytes], form: ChatForm) -> dict[str, bytes]:
    """Which `files` of a folder become others, by name, where a model was trained in this form.

    The end token joins the base's in the generation configuration. A padding token that is the end token gives way to
    another: whoever trains with the folder masks padding, and the model would unlearn to stop.
    """
    tokenizer, template, end = form.tokenizer, form.renderer.template, form.end
    given = form.renderer.given
    changed = {GIVEN_FILE: given.as_file()} if given or GIVEN_FILE in files else {}
    config = content(files, CONFIG)
    own = tokenizer.templates
    if template.source not in (own.values() if isinstance(own, dict) else [own]):
        changed[TEMPLATE] = template.source.encode()
        config.pop("chat_template", None)  # older versions of transformers would take it
    names = {"pad_token": _padding(tokenizer, end)} if tokenizer.special_tokens.get("pad_token") == end.piece else {}
    changed |= renamed(files, config, names)

    model = content(files, "config.json")
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")  # what is made of the model's where there is no such file
    before = content(files, GENERATION) or {key: model[key] for key in ids if model.get(key) is not None}
    generation = dict(before)
    named = (before.get("eos_token_id"), model.get("eos_token_id"), tokenizer.eos_id)
    stops = end_tokens(next((ends for ends in named if ends is not None), None))
    stops += [end.id] if end.id not in stops else []
    if end.id not in end_tokens(before.get("eos_token_id")):
        generation["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    if generation.get("pad_token_id") == end.id:
        pad = _padding(tokenizer, end)
        generation["pad_token_id"] = None if pad is None else tokenizer.single(pad)
    if generation != before:
        changed[GENERATION] = as_json(own_generation(generation))
    return changed


def renamed(files: Mapping[str, bytes], config: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, bytes]:
    """`tokenizer_config.json` with the content `config` and with `names` of special tokens, and the other file that
    names them, where they are not what they were."""
    contents = {CONFIG: {**config, **names}}
    if MAP in files:
        contents[MAP] = {**content(files, MAP), **names}
    return {name: as_json(value) for name, value in contents.items() if value != content(files, name)}


def end_tokens(named: Any) -> list[int]:
    """The ids in what a configuration calls `eos_token_id`: one, several, or none."""
    return list(named) if isinstance(named, list) else [] if named is None else [named]


def own_generation(values: Mapping[str, Any]) -> dict[str, Any]:
    """A generation configuration as one of its own: transformers marks what it has made from the model's, and makes
    that anew when it changes."""
    return {key: value for key, value in values.items() if key != "_from_model_config"}


def content(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """The content of one of the files; empty where there is none."""
    return json.loads(files[name]) if name in files else {}


def read(path: Path) -> dict[str, Any]:
    """The content of a file; empty where there is none."""
    return read_json(path) if path.is_file() else {}


def as_json(value: Any) -> bytes:
    """As transformers writes its own files."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _padding(tokenizer: ChatTokenizer, end: EndToken) -> str | None:
    """A token for padding that is not the end token; None where the tokenizer has none that stands in no text."""
    named = tokenizer.special_tokens
    found = [piece for piece in tokenizer.specials if _PADDING.fullmatch(piece)]
    candidates = [*found, named.get("unk_token"), named.get("eos_token")]
    return next((piece for piece in candidates if piece not in (None, end.piece)), None)
