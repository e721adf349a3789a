"""What of a recipe decides how the conversations of a source become ids and weights."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from tsugiki.chat.masks import ConversationEncoder, LossOn, MaskSettings
from tsugiki.chat.templates import ChatTemplate, choose_template
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.corpus.pack_table import VERSION as PACK_VERSION
from tsugiki.corpus.tokenizer import TOKENIZER_FILES
from tsugiki.errors import ModelError
from tsugiki.model_folder import own_files
from tsugiki.recipe import Recipe

CHAT_RULE_VERSION = 2
"""Of how a record becomes samples: what is read of it, masks, division, the held-out draw. Part of a chat source's
fingerprint."""


def chat_tokenizer(folder: Path) -> ChatTokenizer:
    """The tokenizer in a folder as chats use it; opened once while its files stay as they are, since that takes
    seconds."""
    stats = [(path.name, path.stat()) for path in own_files(folder, TOKENIZER_FILES)]
    return _opened(folder, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@lru_cache(maxsize=2)
def _opened(folder: Path, _state: tuple[tuple[str, int, int], ...]) -> ChatTokenizer:
    return ChatTokenizer.from_folder(folder)


def chat_template(recipe: Recipe, tokenizer: ChatTokenizer) -> ChatTemplate:
    """The template of all chat sources of a recipe. Raises ModelError where there is none that the tokenizer can
    write."""
    chat = recipe.data.chat
    try:
        return choose_template(tokenizer, chat.template, tools=bool(chat.tools), add_bos=recipe.data.add_bos is True)
    except ModelError as error:
        raise ModelError(f"data.chat.template: {error}") from None


def conversation_encoder(recipe: Recipe, name: str, folder: Path) -> ConversationEncoder:
    """What encodes the conversations of source `name`, with the tokenizer in `folder`. Raises ModelError where template
    and tokenizer do not go together."""
    chat, loss_on = recipe.data.chat, recipe.data.sources[name].loss_on or "assistant"
    tokenizer = chat_tokenizer(folder)
    settings = MaskSettings(
        loss_on=_as_settings(loss_on),
        rewritten_history=chat.rewritten_history,
        max_tokens=recipe.data.sequence_length,
        append_eos=chat.append_eos,
        given=chat.given,
    )
    template = chat_template(recipe, tokenizer)
    try:
        return ConversationEncoder(tokenizer, template, settings)
    except ModelError as error:
        raise ModelError(f"data.chat: {error}") from None


def _as_settings(loss_on: Any) -> LossOn:
    """`loss_on` of a recipe, which has checked it."""
    return tuple(loss_on) if isinstance(loss_on, list) else loss_on


def chat_parts(recipe: Recipe, name: str, folder: Path) -> list[Any]:
    """What the fingerprint of a chat source holds beside that of a text source. The length of a window is not part of
    it: it matters where a conversation is longer, which the manifest says (`ChatManifest.holds_for`)."""
    encoder = conversation_encoder(recipe, name, folder)
    settings, given, end = encoder.settings, encoder.settings.given, encoder.end
    return [
        "chat", CHAT_RULE_VERSION, PACK_VERSION, encoder.renderer.template.source, settings.loss_on,
        settings.rewritten_history, _sorted(given.template_kwargs), _sorted(given.tools), end.piece, end.id,
        end.written, sorted(encoder.tokenizer.special_tokens.items()),
    ]  # fmt: skip


def _sorted(value: Any) -> Any:
    """Mappings as lists in the order of their keys, whose order in a recipe says nothing."""
    if isinstance(value, dict):
        return [(key, _sorted(inner)) for key, inner in sorted(value.items())]
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value
