"""Conversations, and the five ways in which data sets write them down.

`read_conversation` turns one JSON record into a `Conversation`; the format is told from the record's shape. Whatever is
wrong is a DataError in one line that names the key or the message (counted from 1); the caller knows file and line.

| format | shape |
|---|---|
| messages | OpenAI: `{"messages": [{"role", "content", "tool_calls"?, "weight"?}], "tools"?}` |
| sharegpt | `{"conversations": [{"from": "human", "value": "..."}], "tools"?}` |
| alpaca | `{"instruction", "input"?, "output", "history"?: [[question, answer]]}`; a blank line before the input |
| prompt-completion | `{"prompt", "completion"}`: texts, or lists of messages |
| llm-recipes | `{"input": [messages], "output": message}` |

In all of them a system prompt may stand beside the turns, under `system`. What older data sets say in keys that are not
read (OpenAI's `function_call` and `functions`) is refused: left out, the answer would be to something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tsugiki.errors import DataError
from tsugiki.shapes import describe

Role = Literal["system", "user", "assistant", "tool"]
Format = Literal["messages", "sharegpt", "alpaca", "prompt-completion", "llm-recipes"]

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
    "tool": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool", "function_call": "assistant",
}  # fmt: skip
"""Roles of this library by the names that data sets use."""
MOST_WEIGHT = 1e6
"""Of a message, and its inverse the least: weights are fp32, in which others would become infinite, or none."""
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Names of an assistant's reasoning, in data sets as in templates."""
_INSTEAD = {"function_call": "tool_calls", "functions": "tools"}
"""Keys of OpenAI's older form, and those that took their place."""
MOST_NESTED = 64
"""Levels of what stands beside texts: a tool's schema has about ten."""


@dataclass(frozen=True)
class Message:
    """One turn. `content` is empty where an assistant only calls tools."""

    role: Role
    content: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    """As `{"type": "function", "function": {"name": ..., "arguments": {...}}}`, the form that templates read."""
    name: str | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    """Templates are given it by every name that one of them asks for."""
    weight: float | None = None
    """What each trained token of the message counts in the loss; where it is given, it decides whether the message is
    trained at all."""

    def as_dict(self) -> dict[str, Any]:
        """The message as a template reads it: without the keys that have no value, since templates ask whether a key
        is there, and write "None" for one that is empty."""
        values: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            values["tool_calls"] = list(self.tool_calls)
        for key in ("name", "tool_call_id"):
            if getattr(self, key) is not None:
                values[key] = getattr(self, key)
        if self.reasoning_content is not None:
            values |= dict.fromkeys(_REASONING, self.reasoning_content)
        return values


@dataclass(frozen=True)
class Conversation:
    """Messages in order, at least one of the assistant's, with what the template is given beside them."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that the assistant may call."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    completion_start: int | None = None
    """The first message of the completion, where the format divides a record into prompt and completion."""


def detect_format(record: Any) -> Format:
    """The format that a record is in, by its keys. Raises DataError where they are those of none."""
    if not isinstance(record, Mapping):
        raise DataError(f"a conversation must be a JSON object, not {describe(record)}")
    if "messages" in record:
        return "messages"
    if "conversations" in record:
        return "sharegpt"
    if "instruction" in record and "output" in record:
        return "alpaca"
    if "prompt" in record and "completion" in record:
        return "prompt-completion"
    if "input" in record and "output" in record:
        return "llm-recipes"
    keys = ", ".join(map(repr, list(record)[:6])) or "none"
    raise DataError(
        "no format of conversations that is known: expected the keys messages, conversations, instruction and output, "
        f"prompt and completion, or input and output; the record has {keys}"
    )


def read_conversation(record: Any) -> Conversation:
    """The conversation of one record, in the format that its keys tell.

    Raises DataError, in one line without file or line number, where a value has the wrong type or is null, the roles
    are out of order, or no turn is the assistant's.
    """
    reader = _READERS[detect_format(record)]
    _require_read(record, "")
    conversation = reader(record)
    _check_order(conversation.messages)
    _check_characters(conversation)
    return conversation


def _check_characters(conversation: Conversation) -> None:
    """What stands beside texts, which are looked at one by one: values of tools may hold anything that JSON can."""
    beside: dict[str, Any] = {"tools": conversation.tools, "template_kwargs": dict(conversation.template_kwargs)}
    for number, message in enumerate(conversation.messages, 1):
        beside[f"message {number}: tool_calls"] = message.tool_calls
    for what, values in beside.items():
        if not values:
            continue
        if _is_deeper(values, MOST_NESTED):
            raise DataError(f"{what}: nested more than {MOST_NESTED} levels deep")
        try:
            json.dumps(values, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(f"{what}: half of a surrogate pair, which is no character") from None


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    return inner is not None and (levels == 0 or any(_is_deeper(one, levels - 1) for one in inner))


def _check_order(messages: Sequence[Message]) -> None:
    """What no template can mean: a system prompt after the beginning, an answer of a tool that nobody called.

    Turns of one role in a row, and an assistant who begins, are left to the template, which may take them.
    """
    if not messages:
        raise DataError("the conversation has no messages")
    for number, message in enumerate(messages, 1):
        if message.role == "system" and number > 1:
            raise DataError(
                f"roles out of order: message {number} is a system prompt; only the first message can be one"
            )
        if message.role == "tool" and (number == 1 or messages[number - 2].role not in ("assistant", "tool")):
            raise DataError(
                f"roles out of order: message {number} is a tool's answer, and the message before it is not an "
                "assistant's that calls one"
            )
    if not any(message.role == "assistant" for message in messages):
        raise DataError("no message is the assistant's: there is nothing to learn from")


def _messages(record: Mapping[str, Any]) -> Conversation:
    messages = _message_list(record["messages"], "messages") if "messages" in record else _missing("messages")
    return Conversation(_with_system(record, messages), _tools(record), _template_kwargs(record))


def _sharegpt(record: Mapping[str, Any]) -> Conversation:
    turns = record.get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[0], Mapping) and "role" in turns[0]:
        messages = _message_list(turns, "conversations")  # OpenAI's messages under the other name
    else:
        messages = _message_list(turns, "conversations", _sharegpt_message)
    return Conversation(_with_system(record, messages), _tools(record), _template_kwargs(record))


def _alpaca(record: Mapping[str, Any]) -> Conversation:
    question = _text(record, "instruction")
    if record.get("input") not in (None, ""):
        question = f"{question}\n\n{_text(record, 'input')}"
    prompt = _with_system(record, (*_history(record), Message("user", question)))
    answer = Message("assistant", _text(record, "output"))
    return Conversation((*prompt, answer), _tools(record), _template_kwargs(record), completion_start=len(prompt))


def _prompt_completion(record: Mapping[str, Any]) -> Conversation:
    sides: list[tuple[Message, ...]] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = record.get(key)
        if isinstance(value, list):
            sides.append(_message_list(value, key))
        else:
            sides.append((Message(role, _text(record, key)),))  # type: ignore[arg-type]
    prompt, completion = _with_system(record, sides[0]), sides[1]
    return Conversation((*prompt, *completion), _tools(record), _template_kwargs(record), completion_start=len(prompt))


def _llm_recipes(record: Mapping[str, Any]) -> Conversation:
    prompt = _with_system(record, _message_list(record.get("input"), "input"))
    answer = _message(record.get("output"), "output")
    if answer.role != "assistant":
        raise DataError(f"output: its role must be assistant, not {answer.role}")
    return Conversation((*prompt, answer), _tools(record), _template_kwargs(record), completion_start=len(prompt))


_READERS: dict[Format, Callable[[Mapping[str, Any]], Conversation]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
    "llm-recipes": _llm_recipes,
}


def _missing(key: str) -> Any:
    raise DataError(f"{key} is missing")


def _text(values: Mapping[str, Any], key: str, where: str = "") -> str:
    if key not in values:
        _missing(where + key)
    value = values[key]
    if not isinstance(value, str):
        raise DataError(f"{where}{key} must be text, not {'null' if value is None else describe(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{where}{key} has half of a surrogate pair, which is no character") from None
    return value


def _with_system(record: Mapping[str, Any], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns behind the system prompt that stands beside them, unless they begin with the same. An empty one is
    none, as where the column has no value."""
    if record.get("system") in (None, ""):
        return messages
    system = Message("system", _text(record, "system"))
    return messages if messages[:1] == (system,) else (system, *messages)


def _history(record: Mapping[str, Any]) -> list[Message]:
    """The rounds before the instruction, as LLaMA-Factory's Alpaca has them: pairs of a question and its answer."""
    rounds = record.get("history")
    if rounds in (None, ""):
        return []
    if not isinstance(rounds, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in rounds):
        raise DataError(f"history must be a list of pairs of question and answer, not {describe(rounds)}")
    messages: list[Message] = []
    for number, pair in enumerate(rounds, 1):
        sides, where = dict(zip(("question", "answer"), pair, strict=True)), f"history, pair {number}: "
        messages.append(Message("user", _text(sides, "question", where)))
        messages.append(Message("assistant", _text(sides, "answer", where)))
    return messages


def _require_read(values: Mapping[str, Any], where: str) -> None:
    """Raise DataError where a record or message says something in a key that is not read."""
    for key, instead in _INSTEAD.items():
        if values.get(key) not in (None, "", [], {}):
            raise DataError(f"{where}{key} is not read; write it as {instead}")


def _reasoning(values: Mapping[str, Any], where: str) -> str | None:
    """An assistant's reasoning, by any of its names; an empty one is none."""
    return next((_text(values, key, where) for key in _REASONING if values.get(key) not in (None, "")), None)


def _message_list(values: Any, key: str, read: Callable[[Any, str], Message] | None = None) -> tuple[Message, ...]:
    if not isinstance(values, list):
        raise DataError(f"{key} must be a list of messages, not {'null' if values is None else describe(values)}")
    return tuple((read or _message)(value, f"{key}, message {number}") for number, value in enumerate(values, 1))


def _role(values: Mapping[str, Any], key: str, where: str) -> Role:
    given = _text(values, key, where)
    if given not in _ROLES:
        raise DataError(f"{where}{key} must be one of {', '.join(get_args(Role))}, not {describe(given)}")
    return _ROLES[given]  # type: ignore[return-value]


def _message(values: Any, place: str) -> Message:
    if not isinstance(values, Mapping):
        raise DataError(f"{place} must be an object with role and content, not {describe(values)}")
    where = f"{place}: "
    role = _role(values, "role", where)
    _require_read(values, where)
    calls = _tool_calls(values, where)
    if calls and role != "assistant":
        raise DataError(f"{where}only an assistant can have tool_calls, not the role {role}")
    name, call_id = (
        _text(values, key, where) if values.get(key) is not None else None for key in ("name", "tool_call_id")
    )
    content = "" if calls and values.get("content") is None else _content(values, where)
    return Message(role, content, calls, name, call_id, _reasoning(values, where), _weight(values, where))


def _sharegpt_message(values: Any, place: str) -> Message:
    if not isinstance(values, Mapping):
        raise DataError(f"{place} must be an object with from and value, not {describe(values)}")
    where = f"{place}: "
    role, text = _role(values, "from", where), _text(values, "value", where)
    if values["from"] != "function_call":
        return Message(role, text, weight=_weight(values, where))
    call = _json(text, f"{where}value of a function_call")
    calls = call if isinstance(call, list) else [call]
    return Message(role, "", tuple(_call(one, where) for one in calls), weight=_weight(values, where))


def _content(values: Mapping[str, Any], where: str) -> str:
    """A message's text; a list of parts is read where each is text, in their order."""
    parts = values.get("content")
    if not isinstance(parts, list):
        return _text(values, "content", where)
    texts = []
    for number, part in enumerate(parts, 1):
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = describe(part.get("type")) if isinstance(part, Mapping) else describe(part)
            raise DataError(f"{where}content, part {number} must be text, not {kind}: only text can be trained on")
        texts.append(_text(part, "text", f"{where}content, part {number}: "))
    return "".join(texts)


def _weight(values: Mapping[str, Any], where: str) -> float | None:
    weight = values.get("weight")
    if weight is None:
        return None
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not (weight == 0 or 1 / MOST_WEIGHT <= weight <= MOST_WEIGHT):
        raise DataError(f"{where}weight must be 0 or a number from 1e-6 to 1e6, not {describe(weight)}")
    return float(weight)


def _tool_calls(values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], ...]:
    calls = values.get("tool_calls")
    if calls is None:
        return ()
    if not isinstance(calls, list):
        raise DataError(f"{where}tool_calls must be a list, not {describe(calls)}")
    return tuple(_call(call, where) for call in calls)


def _call(call: Any, where: str) -> dict[str, Any]:
    """A call in the form that templates read. OpenAI writes the arguments as JSON in a text; templates write what they
    are given as JSON themselves, so that a text would be quoted twice."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}a tool call must be an object with the function's name and arguments")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _json(arguments, f"{where}arguments of the call of {function['name']}")
    if not isinstance(arguments, Mapping):
        raise DataError(f"{where}arguments of the call of {function['name']} must be a mapping of names to values")
    written: dict[str, Any] = {
        "type": "function",
        "function": {"name": function["name"], "arguments": dict(arguments)},
    }
    if isinstance(call.get("id"), str):
        written["id"] = call["id"]
    return written


def _tools(record: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    tools = record.get("tools")
    if tools in (None, "", []):
        return ()
    if isinstance(tools, str):
        tools = _json(tools, "tools")
    if not isinstance(tools, list) or not all(map(is_tool, tools)):
        raise DataError(f"tools must be a list of functions' schemas, not {describe(tools)}")
    return tuple(dict(tool) for tool in tools)


def is_tool(value: Any) -> bool:
    """Whether a value is laid out as the schema of a function is, alone or under `function`."""
    return isinstance(value, Mapping) and isinstance(value.get("function", value), Mapping)


def _template_kwargs(record: Mapping[str, Any]) -> dict[str, Any]:
    """`template_kwargs`, which some data sets call `chat_template_kwargs`."""
    key = "template_kwargs" if "template_kwargs" in record else "chat_template_kwargs"
    values = record.get(key)
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise DataError(f"{key} must be a mapping of names to values, not {describe(values)}")
    return dict(values)


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{what} is not valid JSON: {describe(text)}") from None
