"""The five formats of conversations, and what is said of a record that is none."""

import json

import pytest

from tsugiki.chat.conversations import Conversation, Message, detect_format, read_conversation
from tsugiki.errors import DataError

U, A = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
QUESTION, ANSWER = Message("user", "Hi"), Message("assistant", "Hello")
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "京都"}}}


@pytest.mark.parametrize(
    ("name", "record", "start"),
    [
        ("messages", {"messages": [U, A]}, None),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, None),
        ("sharegpt", {"conversations": [U, A]}, None),
        ("alpaca", {"instruction": "Hi", "input": "", "output": "Hello"}, 1),
        ("prompt-completion", {"prompt": "Hi", "completion": "Hello"}, 1),
        ("prompt-completion", {"prompt": [U], "completion": [A]}, 1),
        ("llm-recipes", {"input": [U], "output": A}, 1),
    ],
)
def test_each_format_gives_the_same_conversation(name, record, start):
    assert detect_format(record) == name
    assert read_conversation(record) == Conversation((QUESTION, ANSWER), completion_start=start)


def test_a_system_prompt_beside_the_turns_is_the_first_message():
    sharegpt = {
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": ""}],
    }
    alpaca = {"system": "Be brief.", "instruction": "Hi", "input": "you", "output": "Hello"}
    assert [m.role for m in read_conversation(sharegpt).messages] == ["system", "user", "assistant"]
    found = read_conversation(alpaca)
    assert (found.messages[1].content, found.completion_start) == ("Hi\n\nyou", 2)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [U, A]},
        {"messages": [{"role": "system", "content": "Be brief."}, U, A]},  # a data set that says it twice
        {"conversations": [U, A]},
        {"instruction": "Hi", "output": "Hello"},
        {"prompt": "Hi", "completion": "Hello"},
        {"input": [U], "output": A},
    ],
)
def test_every_format_may_have_its_system_prompt_beside_the_turns(record):
    found = read_conversation({**record, "system": "Be brief."})
    assert found.messages == (Message("system", "Be brief."), QUESTION, ANSWER)
    assert found.completion_start in (None, 2)
    assert read_conversation({**record, "system": None}).messages[-2:] == (QUESTION, ANSWER)


def test_the_rounds_before_an_instruction_are_turns():
    record = {"instruction": "Hi", "output": "Hello", "history": [["a", "b"], ["c", "d"]], "system": "Be brief."}
    found = read_conversation(record)
    rounds = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "Hi")]
    assert [(m.role, m.content) for m in found.messages] == [("system", "Be brief."), *rounds, ("assistant", "Hello")]
    assert found.completion_start == 6
    assert len(read_conversation({**record, "history": []}).messages) == 3


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_read_by_any_name_and_given_to_templates_by_all(name):
    found = read_conversation({"messages": [U, A | {name: "since"}]}).messages[1]
    assert found.reasoning_content == "since"
    assert {found.as_dict()[key] for key in ("reasoning_content", "reasoning", "thinking")} == {"since"}
    assert set(ANSWER.as_dict()) == {"role", "content"}
    assert read_conversation({"messages": [U, A | {name: ""}]}).messages[1] == ANSWER


def test_tool_calls_have_their_arguments_as_values_in_every_format():
    openai = {
        "messages": [
            U,
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "京都"}'}}]},
            {"role": "tool", "content": "晴れ", "tool_call_id": "1", "name": "weather"},
            A,
        ],
        "tools": [{"type": "function", "function": {"name": "weather"}}],
    }  # fmt: skip
    conversation = read_conversation(openai)
    call, answer = conversation.messages[1:3]
    assert call.as_dict() == {"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "1"}]}
    assert answer.as_dict() == {"role": "tool", "content": "晴れ", "name": "weather", "tool_call_id": "1"}
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": json.dumps(CALL["function"])},
            {"from": "observation", "value": "晴れ"},
            {"from": "gpt", "value": "Hello"},
        ],
        "tools": json.dumps(openai["tools"]),
    }
    other = read_conversation(sharegpt)
    assert other.messages[1].tool_calls == (CALL,)
    assert other.tools == conversation.tools


def test_parts_of_text_are_joined_and_weights_and_kwargs_are_read():
    parts = [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]
    record = {
        "messages": [U, A | {"content": parts, "weight": 0}, U, A | {"weight": 0.5}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    found = read_conversation(record)
    assert found.messages[1] == Message("assistant", "Hello", weight=0.0)
    assert found.messages[3].weight == 0.5
    assert found.template_kwargs == {"enable_thinking": False}


DEEP = json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([], "must be a JSON object"),
        ({"text": "a"}, "the record has 'text'"),
        ({"messages": None}, "messages must be a list of messages, not null"),
        ({"messages": []}, "no messages"),
        ({"messages": ["a"]}, "messages, message 1 must be an object"),
        ({"messages": [U]}, "no message is the assistant's"),
        ({"messages": [{"role": "system", "content": "a"}]}, "no message is the assistant's"),
        ({"messages": [U, A | {"content": None}]}, "messages, message 2: content must be text, not null"),
        ({"messages": [U, {"role": "assistant"}]}, "message 2: content is missing"),
        ({"messages": [U | {"content": 3}, A]}, "message 1: content must be text, not 3"),
        ({"messages": [U | {"role": "narrator"}, A]}, "role must be one of system, user, assistant, tool"),
        ({"messages": [U, A, {"role": "system", "content": "a"}]}, "roles out of order: message 3 is a system prompt"),
        ({"messages": [U, {"role": "tool", "content": "a"}, A]}, "roles out of order: message 2 is a tool's answer"),
        ({"messages": [U, A | {"weight": -1}]}, "weight must be 0 or a number from 1e-6 to 1e6"),
        ({"messages": [U, A | {"weight": 1e300}]}, "weight must be 0 or a number from 1e-6 to 1e6"),
        ({"messages": [U, A | {"weight": 1e-300}]}, "weight must be 0 or a number from 1e-6 to 1e6"),
        ({"messages": [U, A | {"weight": True}]}, "weight must be 0 or a number from 1e-6 to 1e6"),
        ({"messages": [U, A | {"content": [{"type": "image_url"}]}]}, "only text can be trained on"),
        ({"messages": [U | {"tool_calls": [CALL]}, A]}, "only an assistant can have tool_calls"),
        ({"messages": [U, A | {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}, "is not valid JSON"),
        ({"messages": [U, A | {"content": "\ud800"}]}, "half of a surrogate pair"),
        ({"messages": [U, A], "tools": 3}, "tools must be a list"),
        ({"messages": [U, A], "tools": [{"function": "f"}]}, "tools must be a list of functions' schemas"),
        ({"messages": [U, A], "tools": [{"name": "f", "parameters": DEEP}]}, "tools: nested more than 64 levels deep"),
        (
            {"conversations": [{"from": "human", "value": None}]},
            "conversations, message 1: value must be text, not null",
        ),
        ({"conversations": [{"from": "who", "value": ""}]}, "from must be one of"),
        ({"instruction": "a", "output": None}, "output must be text, not null"),
        ({"instruction": 1, "output": "a"}, "instruction must be text, not 1"),
        ({"prompt": "a", "completion": 1}, "completion must be text, not 1"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, "history must be a list of pairs"),
        (
            {"instruction": "a", "output": "b", "history": [["c", None]]},
            "history, pair 1: answer must be text, not null",
        ),
        (
            {"messages": [U, A | {"function_call": {"name": "f"}}]},
            "message 2: function_call is not read; write it as tool",
        ),
        ({"messages": [U, A], "functions": [{"name": "f"}]}, "functions is not read; write it as tools"),
        ({"messages": [U, A | {"thinking": 3}]}, "message 2: thinking must be text, not 3"),
        ({"input": [U], "output": U}, "output: its role must be assistant, not user"),
        ({"input": U, "output": A}, "input must be a list of messages"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(record, words):
    with pytest.raises(DataError) as error:
        read_conversation(record)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_turns_of_one_role_in_a_row_and_an_assistant_who_begins_are_left_to_the_template():
    assert len(read_conversation({"messages": [A, U, U, A, A]}).messages) == 5


HALF = "\ud800"


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"function": {"name": "f", "description": HALF}}]},
        {"template_kwargs": {"today": HALF}},
        {"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "tool_calls": [{"name": "f", "arguments": {HALF: 1}}]},
        ]},
    ],
)  # fmt: skip
def test_half_a_character_is_named_wherever_it_stands(more):
    said = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    with pytest.raises(DataError, match="half of a surrogate pair, which is no character"):
        read_conversation({**said, **more})
