"""What the template adds is told from what messages say, whatever they say."""

import pytest
from chat_tokenizers import family, mistral, trl_template

from tsugiki.chat.conversations import read_conversation
from tsugiki.chat.rendering import Renderer
from tsugiki.chat.segments import segments
from tsugiki.chat.templates import ChatTemplate, choose_template
from tsugiki.chat.tokenizer import ChatTokenizer

SAID = [
    ("system", "  assistant "), ("user", "a"), ("assistant", "user\n<|im_end|> \nassistant"), ("user", ""),
    ("assistant", "<think>\nwhy\n</think>\n\nbecause 接ぎ木"),
]  # fmt: skip
DEFAULT_SYSTEM = (
    "{{- '<|im_start|>system\nYou are the system.<|im_end|>\n' if messages[0].role != 'system' }}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + (m.content | trim) + '<|im_end|>\n' }}{%- endfor %}"
)


def renderer_of(tokenizer, name=None, source=None):
    found = ChatTokenizer.from_transformers(tokenizer)
    return Renderer(found, ChatTemplate("test", source) if source else choose_template(found, name))


def conversation_of(said, **more):
    return read_conversation({"messages": [{"role": role, "content": text} for role, text in said], **more})


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [("qwen", "qwen"), ("qwen", "chatml"), ("llama3", "llama-3"), ("gemma", "gemma"), ("v1", "llama-2"), ("v3", "mistral-v3")],
)  # fmt: skip
def test_segments_are_the_rendering_and_messages_are_what_they_say(tokenizer, name):
    renderer = renderer_of(mistral(tokenizer) if tokenizer.startswith("v") else family(tokenizer), name)
    messages = conversation_of(SAID).messages
    found = segments(renderer, messages)
    whole = renderer.render(messages, generation_prompt=False).text
    assert "".join(segment.text for segment in found) == whole
    said = [(segment.role, segment.text) for segment in found if segment.role]
    expected = [(role, text.strip()) for role, text in SAID if text]
    expected[-1:] = [("assistant", "why"), ("assistant", "because 接ぎ木")]
    assert sorted(said) == sorted(expected)  # Mistral's third puts the system prompt before the last question


def test_a_system_prompt_that_the_template_adds_is_the_templates():
    renderer = renderer_of(family("qwen"), source=DEFAULT_SYSTEM)
    found = segments(renderer, conversation_of(SAID[1:3]).messages)
    assert found[0].text == "<|im_start|>system\nYou are the system.<|im_end|>\n<|im_start|>user\n"
    assert found[0].role is None


def test_calls_of_tools_and_answers_are_the_messages():
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "大阪", "days": 3}}}
    conversation = read_conversation({"messages": [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": '{"sky": "clear"}'}, {"role": "assistant", "content": "Clear."},
    ]})  # fmt: skip
    found = segments(renderer_of(family("qwen"), "qwen"), conversation.messages)
    assert [segment.text for segment in found if segment.role] == ["q", "大阪", '{"sky": "clear"}', "Clear."]


def test_a_template_that_writes_marked_messages_otherwise_is_not_guessed_at():
    source = "{%- for m in messages %}{{- m.content | length }}{{- m.content }}{%- endfor %}"
    assert segments(renderer_of(family("qwen"), source=source), conversation_of(SAID).messages) is None


@pytest.mark.parametrize("name", ["qwen3", "gemma", "phi3"])
def test_real_templates_are_divided(name):
    tokenizer = {"qwen3": "qwen"}.get(name, name)
    renderer = renderer_of(family(tokenizer), source=trl_template(name))
    messages = conversation_of(
        [("user", "first"), ("assistant", "one two"), ("user", "second"), ("assistant", "three")]
    )
    found = segments(renderer, messages.messages)
    assert [segment.text for segment in found if segment.role] == ["first", "one two", "second", "three"]
