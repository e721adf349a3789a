"""Chat templates: the tokenizer's own, or one of a few by name for bases that have none.

A named template is written with markers that must be single tokens of the tokenizer; where one would be taken apart
into letters it is no marker, and the template is refused. (Mistral v1 and Llama 2 write theirs as plain text: anybody
who types `[INST]` writes one. Nothing can protect those.) What is chosen is saved with the exported model, so that
other tools write the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tsugiki.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from tsugiki.chat.tokenizer import ChatTokenizer


@dataclass(frozen=True)
class ChatTemplate:
    """A template in the Jinja that transformers renders; `source` is what an export saves."""

    name: str
    source: str
    markers: tuple[str, ...] = ()
    """What must be single tokens, beside the tokenizer's own BOS and EOS."""
    needs: tuple[str, ...] = ()
    """Special tokens, by their names in the tokenizer's configuration, that the template writes."""


class HasAddedTokens(Protocol):
    """A tokenizer of either kind."""

    @property
    def added(self) -> Mapping[str, tuple[int, bool]]:
        """Id of each token that stands beside its vocabulary, and whether it is flagged special."""
        ...


SPACE = "␣"
"""In the templates of Mistral's SentencePiece: the space that text has behind a control token. Older tokenizers put it
there themselves, newer ones leave it to the template; `choose_template` sees which."""

_ALTERNATE = (
    "{%- macro check(turns) -%}{%- for turn in turns -%}"
    "{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) or turn.role not in ['user', 'assistant'] -%}"
    "{{- raise_exception('this template takes an optional system prompt, then user and assistant in turn') -}}"
    "{%- endif -%}"
    "{%- if turn.tool_calls -%}{{- raise_exception('this template has no form for tool calls') -}}{%- endif -%}"
    "{%- endfor -%}{%- endmacro -%}"
    "{%- if tools -%}{{- raise_exception('this template has no form for tools') -}}{%- endif -%}"
)
_SYSTEM_APART = (
    "{%- set turns = messages -%}{%- set system = '' -%}"
    "{%- if messages and messages[0].role == 'system' -%}"
    "{%- set turns = messages[1:] -%}{%- set system = messages[0].content -%}{%- endif -%}"
)

# The form of Llama 2 with one BOS and trimmed text, as Swallow-MS-instruct was given it. The space behind [/INST] is
# the answer's first character and not the prompt's last: SentencePiece joins it to the word that follows.
_LLAMA2 = (
    _ALTERNATE + _SYSTEM_APART + "{{- check(turns) -}}{{- bos_token -}}"
    "{%- for turn in turns -%}{%- if turn.role == 'user' -%}"
    "{{- '[INST] ' -}}{%- if loop.first and system -%}{{- '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' -}}{%- endif -%}"
    "{{- (turn.content | trim) + ' [/INST]' -}}"
    "{%- else -%}{{- ' ' + (turn.content | trim) + eos_token -}}{%- endif -%}{%- endfor -%}"
)
# mistral-common: the first version puts the system prompt before the first question.
_MISTRAL_V1 = (
    _ALTERNATE + _SYSTEM_APART + "{{- check(turns) -}}{{- bos_token -}}"
    "{%- for turn in turns -%}{%- if turn.role == 'user' -%}"
    "{{- '␣[INST] ' -}}{%- if loop.first and system -%}{{- system + '\\n\\n' -}}{%- endif -%}"
    "{{- turn.content + ' [/INST]' -}}"
    "{%- else -%}{{- ' ' + turn.content + eos_token -}}{%- endif -%}{%- endfor -%}"
)
# The third puts it before the last question, and so writes an earlier one anew when the next is asked.
_MISTRAL_V3 = (
    _SYSTEM_APART + "{{- bos_token -}}"
    "{%- set last = namespace(user=-1) -%}"
    "{%- for turn in turns -%}"
    "{%- if turn.role == 'user' -%}{%- set last.user = loop.index0 -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- for turn in turns -%}"
    "{%- if turn.role == 'user' -%}"
    "{%- if tools and loop.index0 == last.user -%}"
    "{{- '[AVAILABLE_TOOLS]␣' + (tools | tojson) + '[/AVAILABLE_TOOLS]' -}}{%- endif -%}"
    "{{- '[INST]␣' -}}"
    "{%- if system and loop.index0 == last.user -%}{{- system + '\\n\\n' -}}{%- endif -%}"
    "{{- turn.content + '[/INST]' -}}"
    "{%- elif turn.role == 'assistant' and turn.tool_calls -%}"
    "{%- if turn.content -%}"
    "{{- raise_exception('this template has no form for a turn with both text and tool calls') -}}{%- endif -%}"
    "{{- '[TOOL_CALLS]␣[' -}}"
    "{%- for call in turn.tool_calls -%}"
    "{{- '{\"name\": ' + (call.function.name | tojson) + ', \"arguments\": ' + (call.function.arguments | tojson) -}}"
    "{%- if call.id -%}{{- ', \"id\": ' + (call.id | tojson) -}}{%- endif -%}"
    "{{- '}' + (', ' if not loop.last else '') -}}"
    "{%- endfor -%}{{- ']' + eos_token -}}"
    "{%- elif turn.role == 'assistant' -%}{{- '␣' + turn.content.rstrip(' ') + eos_token -}}"
    "{%- elif turn.role == 'tool' -%}"
    "{{- '[TOOL_RESULTS]␣{\"content\": ' + (turn.content | tojson) + ', \"call_id\": ' -}}"
    "{{- (turn.tool_call_id or '') | tojson -}}{{- '}[/TOOL_RESULTS]' -}}"
    "{%- else -%}{{- raise_exception('this template has no form for the role ' + turn.role) -}}"
    "{%- endif -%}{%- endfor -%}"
)
_CHATML = (
    "{%- if tools -%}{{- raise_exception('this template has no form for tools') -}}{%- endif -%}"
    "{%- for turn in messages -%}"
    "{%- if turn.tool_calls -%}{{- raise_exception('this template has no form for tool calls') -}}{%- endif -%}"
    "{{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
# ChatML with tools as Qwen 2.5 and Hermes write them; without a system prompt there is none.
_QWEN = (
    "{%- set turns = messages -%}{%- set system = '' -%}"
    "{%- if messages and messages[0].role == 'system' -%}"
    "{%- set turns = messages[1:] -%}{%- set system = messages[0].content -%}{%- endif -%}"
    "{%- if tools or messages and messages[0].role == 'system' -%}{{- '<|im_start|>system\\n' + system -}}"
    "{%- if tools -%}"
    "{{- '\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n"
    "You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' -}}"
    "{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}"
    "{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": '
    "<args-json-object>}\\n</tool_call>' -}}"
    "{%- endif -%}{{- '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- for turn in turns -%}"
    "{%- if turn.role == 'tool' -%}"
    "{%- if loop.first or turns[loop.index0 - 1].role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}"
    "{{- '\\n<tool_response>\\n' + turn.content + '\\n</tool_response>' -}}"
    "{%- if loop.last or turns[loop.index0 + 1].role != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- else -%}{{- '<|im_start|>' + turn.role -}}"
    "{%- if turn.content or not turn.tool_calls -%}{{- '\\n' + turn.content -}}{%- endif -%}"
    "{%- for call in turn.tool_calls or [] -%}"
    "{{- '\\n<tool_call>\\n{\"name\": ' + (call.function.name | tojson) + ', \"arguments\": ' -}}"
    "{{- (call.function.arguments | tojson) + '}\\n</tool_call>' -}}"
    "{%- endfor -%}{{- '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
_LLAMA3 = (
    "{%- if tools -%}{{- raise_exception('this template has no form for tools') -}}{%- endif -%}"
    "{{- bos_token -}}{%- for turn in messages -%}"
    "{%- if turn.tool_calls -%}{{- raise_exception('this template has no form for tool calls') -}}{%- endif -%}"
    "{{- '<|start_header_id|>' + ('ipython' if turn.role == 'tool' else turn.role) + '<|end_header_id|>\\n\\n' -}}"
    "{{- (turn.content | trim) + '<|eot_id|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
)
# Gemma has no system turn; its prompt goes before the first question, as Gemma 3 does.
_GEMMA = (
    _ALTERNATE + _SYSTEM_APART + "{{- check(turns) -}}{{- bos_token -}}"
    "{%- for turn in turns -%}"
    "{{- '<start_of_turn>' + ('model' if turn.role == 'assistant' else 'user') + '\\n' -}}"
    "{%- if loop.first and system -%}{{- system + '\\n\\n' -}}{%- endif -%}"
    "{{- (turn.content | trim) + '<end_of_turn>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"
)
_BOTH = ("bos_token", "eos_token")
_MISTRAL_MARKERS = (
    "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
)  # fmt: skip

NAMED = {
    template.name: template
    for template in (
        ChatTemplate("llama-2", _LLAMA2, (), _BOTH),
        ChatTemplate("mistral-v1", _MISTRAL_V1, (), _BOTH),
        ChatTemplate("mistral-v3", _MISTRAL_V3, _MISTRAL_MARKERS, _BOTH),
        ChatTemplate("mistral-tekken", _MISTRAL_V3.replace(SPACE, ""), _MISTRAL_MARKERS, _BOTH),
        ChatTemplate("chatml", _CHATML, ("<|im_start|>", "<|im_end|>")),
        ChatTemplate("qwen", _QWEN, ("<|im_start|>", "<|im_end|>")),
        ChatTemplate(
            "llama-3", _LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), ("bos_token",)
        ),
        ChatTemplate("gemma", _GEMMA, ("<start_of_turn>", "<end_of_turn>"), ("bos_token",)),
    )
}  # fmt: skip
"""The named templates. mistral-v3 and mistral-tekken differ in the spaces that SentencePiece has behind control
tokens."""


def missing_markers(template: ChatTemplate, tokenizer: HasAddedTokens) -> list[str]:
    """The markers of a template that are not single tokens of the tokenizer, beside its vocabulary."""
    return [marker for marker in template.markers if marker not in tokenizer.added]


def choose_template(
    tokenizer: ChatTokenizer, name: str | None = None, *, tools: bool = False, add_bos: bool = False
) -> ChatTemplate:
    """The template of the tokenizer, or the one of `name`; with a BOS put before it where `add_bos` asks for one and it
    writes none itself. `tools`: the one for tools, where the tokenizer has several.

    Raises ModelError where the tokenizer has none or not the tokens that the template needs, RecipeError for a name
    that is not known.
    """
    chosen = _named(tokenizer, name) if name is not None else _own(tokenizer, tools)
    if not add_bos or _begins_with_bos(tokenizer, chosen):
        return chosen
    if tokenizer.bos_id is None:
        raise ModelError(f"{tokenizer.where}: a BOS was asked for (data.add_bos), and this tokenizer has none")
    return replace(chosen, source="{{- bos_token }}" + chosen.source)


def _own(tokenizer: ChatTokenizer, tools: bool) -> ChatTemplate:
    source = tokenizer.templates
    if isinstance(source, dict):
        source = source.get("tool_use" if tools and "tool_use" in source else "default")
    if not source:
        raise ModelError(
            f"{tokenizer.where}: this tokenizer has no chat template; name one of {', '.join(sorted(NAMED))}"
        )
    return ChatTemplate("the tokenizer's own", source)


def _named(tokenizer: ChatTokenizer, name: str) -> ChatTemplate:
    if name not in NAMED:
        raise RecipeError(f"there is no chat template {name!r}; there are {', '.join(sorted(NAMED))}")
    template = NAMED[name]
    missing = missing_markers(template, tokenizer)
    if missing:
        raise ModelError(
            f"{tokenizer.where}: the chat template {name} needs tokens that this tokenizer does not have: "
            f"{', '.join(missing)}. As letters they would be no markers; choose another template, or have a recipe add "
            "them (data.chat.add_template_tokens: true)"
        )
    for key in template.needs:
        if tokenizer.single(tokenizer.special_tokens.get(key, "")) is None:
            raise ModelError(
                f"{tokenizer.where}: the chat template {name} needs a {key}, and this tokenizer names none"
            )
    space = "" if tokenizer.puts_space_after_control else " "
    return replace(template, source=template.source.replace(SPACE, space))


def _begins_with_bos(tokenizer: ChatTokenizer, template: ChatTemplate) -> bool:
    from tsugiki.chat.conversations import Message
    from tsugiki.chat.given import Given
    from tsugiki.chat.rendering import Renderer

    dated = Given(template_kwargs={"today": "2026-01-31"})  # a template that writes a date begins alike on every day
    ids = Renderer(tokenizer, template, dated).prompt_ids([Message("user", "a")])
    return bool(ids) and ids[0] == tokenizer.bos_id
