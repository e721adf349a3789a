"""What makes a chat model of weights: its template, the tokens that end an answer, and the tokens that both name.

The tokenizer stays ours. The template, the names of BOS, EOS and padding (which templates use) and the stops of the
generation configuration come from the chat model, ids put into our numbering. Tokens of the chat model that ours lacks
can be added to `tokenizer.json`, behind all others, as the library `tokenizers` numbers them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from tsugiki.chat.given import GIVEN_FILE, Given, given_in
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.files import read_json, write_atomically
from tsugiki.model.added_tokens import listed, not_single, with_added_tokens
from tsugiki.model.chat_files import (
    CONFIG,
    GENERATION,
    MAP,
    TEMPLATE,
    as_json,
    content,
    end_tokens,
    own_generation,
    read,
    renamed,
)
from tsugiki.model_folder import own_files
from tsugiki.printable import one_line

SPECIAL = ("bos_token", "eos_token", "pad_token")
_PROBE = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "u")]


@dataclass(frozen=True)
class Chat:
    """What a chat model's folder says of conversations."""

    template: str | None
    """The text of chat_template.jinja."""
    configured: Any
    """`chat_template` of tokenizer_config.json: a text, a list of named ones, or None."""
    special: dict[str, str]
    """The tokens of SPECIAL that it names."""
    stops: tuple[str, ...]
    """Pieces that end an answer; empty where nothing names one."""
    stop_strings: Any
    given: Given
    """What its template was given in training."""
    tokens: dict[str, dict[str, Any]]
    """Tokens that stand beside its vocabulary, with their properties as tokenizer.json has them."""

    @property
    def templated(self) -> bool:
        """Whether there is a template."""
        return self.template is not None or self.configured is not None

    @property
    def needed(self) -> tuple[str, ...]:
        """Tokens that stand in a template, in what it makes of a conversation, or in the stops."""
        sources = _sources(self)
        texts = [*sources, *(_render(source, self.special) for source in sources)]
        named = {self.special[key] for key in SPECIAL if key in self.special and any(key in text for text in sources)}
        wanted = {*self.stops, *named, *(token for token in self.tokens if any(token in text for text in texts))}
        return (*(token for token in self.tokens if token in wanted), *sorted(wanted - self.tokens.keys()))


def read_chat(folder: Path, tokenizer: TextTokenizer) -> Chat:
    """Raises ModelError or DataError where a file cannot be read."""
    own_files(folder, [TEMPLATE, GENERATION])
    config = read(folder / CONFIG)
    names = {**read(folder / MAP), **config}
    special = {key: text for key in SPECIAL if isinstance(text := _content(names.get(key)), str) and text}
    generation = read(folder / GENERATION)
    ends = generation.get("eos_token_id", read(folder / "config.json").get("eos_token_id"))
    ids = end_tokens(ends)
    if not all(isinstance(token, int) and 0 <= token < tokenizer.vocabulary_size for token in ids):
        raise ModelError(
            f"{folder}: eos_token_id is {one_line(repr(ends), 80)}, and the tokenizer has ids from 0 to "
            f"{tokenizer.vocabulary_size - 1}: correct generation_config.json"
        )
    stops = tuple(tokenizer.piece(token) for token in ids)
    return Chat(
        template=_template(folder / TEMPLATE),
        configured=config.get("chat_template"),
        special=special,
        stops=stops or ((special["eos_token"],) if "eos_token" in special else ()),
        stop_strings=generation.get("stop_strings"),
        given=given_in(folder),
        tokens=_tokens(folder, tokenizer),
    )


def write_tokenizer(ours: TextTokenizer, chat: Chat, added: Mapping[str, int], folder: Path) -> None:
    """Our tokenizer's files with chat's template, what that is given, and names; and with the tokens of `added` (by
    their ids).

    Raises ModelError where a token cannot be added, or where a text that is one would not become it.
    """
    files = {path.name: path.read_bytes() for path in ours.files}
    config = content(files, CONFIG)
    if chat.templated:
        files = {name: written for name, written in files.items() if name not in (TEMPLATE, GIVEN_FILE)}
        config.pop("chat_template", None)
        if chat.given:
            files[GIVEN_FILE] = chat.given.as_file()
    if chat.template is not None:
        files[TEMPLATE] = chat.template.encode()
    if chat.configured is not None:
        config["chat_template"] = chat.configured
    names = {key: text for key, text in chat.special.items() if text in added or _id(ours, text) is not None}
    files |= renamed(files, config, names)
    if added:
        files |= with_added_tokens(files, added, ours.folder, chat.tokens)
    for name, written in files.items():
        write_atomically(folder / name, written)
    wrong = not_single(folder, [token for token in chat.needed if token in chat.tokens], added)
    if wrong:
        raise ModelError(
            f"the tokenizer of ours does not make one token of {listed(wrong)}, which chat's template or its stops "
            "need: mark it as an added token in tokenizer.json"
        )


def write_generation(ours: TextTokenizer, chat: Chat, ids: Mapping[str, int], folder: Path) -> list[int]:
    """Our generation configuration with chat's stops, by the ids that our pieces have; they are returned. Everything
    else in it stays."""
    values = own_generation(read(ours.folder / GENERATION))
    stops = [ids[piece] for piece in chat.stops]
    if stops:
        values["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    if "pad_token" in chat.special and chat.special["pad_token"] in ids:
        values["pad_token_id"] = ids[chat.special["pad_token"]]
    if chat.stop_strings is not None:
        values["stop_strings"] = chat.stop_strings
    write_atomically(folder / GENERATION, as_json(values))
    return stops


def _template(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 ({one_line(error, 100)}): fetch the model again") from None


def _sources(chat: Chat) -> list[str]:
    """The texts of all templates."""
    configured = chat.configured if isinstance(chat.configured, list) else [{"template": chat.configured}]
    texts = [chat.template, *(one.get("template") for one in configured if isinstance(one, dict))]
    return [text for text in texts if isinstance(text, str)]


def _render(source: str, special: Mapping[str, str]) -> str:
    """What a template makes of a conversation; some write their marks in parts ('<|' + role + '|>')."""
    for probe in (_PROBE, _PROBE[1:], _PROBE[1:2]):  # a system prompt is refused by some
        messages = [{"role": role, "content": content} for role, content in probe]
        try:
            texts, _ = render_jinja_template(
                conversations=[messages], chat_template=source, add_generation_prompt=True, **special
            )
            return texts[0]
        except Exception:  # a stranger's template raises what it likes
            continue
    return ""


def _tokens(folder: Path, tokenizer: TextTokenizer) -> dict[str, dict[str, Any]]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {text: {"special": special} for text, special in tokenizer.engine.added.values()}
    return {token["content"]: token for token in read_json(path).get("added_tokens") or []}


def _id(tokenizer: TextTokenizer, text: str) -> int | None:
    return tokenizer.engine.token_id(text)


def _content(value: Any) -> Any:
    return value.get("content") if isinstance(value, dict) else value
