"""Named templates against mistral-common and the published forms; refusal where markers are no tokens."""

import json

import pytest
from chat_tokenizers import chat_tokenizer, family

from tsugiki.chat.conversations import Message
from tsugiki.chat.rendering import Renderer
from tsugiki.chat.templates import NAMED, choose_template, missing_markers
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.errors import DataError, ModelError, RecipeError

CHATS = [
    [("user", "Hi")],
    [("user", " a  b"), ("assistant", "c d"), ("user", "接ぎ木"), ("assistant", "木を継ぐ 🌱"), ("user", "x\n\ny")],
    [("system", "Be brief."), ("user", "a"), ("assistant", "[b]"), ("user", "<c>")],
]


def mistral_common(version):
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    if version == "tekken":
        from pathlib import Path

        import mistral_common as package

        return MistralTokenizer.from_file(str(Path(package.__file__).parent / "data/tekken_240911.json"))
    return {"v1": MistralTokenizer.v1, "v3": MistralTokenizer.v3}[version]()


@pytest.mark.parametrize("version", ["v1", "v3", "tekken"])
def test_the_named_templates_of_mistral_give_the_ids_of_mistral_common(version):
    from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    classes = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}
    tokenizer, theirs = chat_tokenizer(version), mistral_common(version)
    renderer = Renderer(tokenizer, choose_template(tokenizer, f"mistral-{version}"))
    for chat in CHATS:
        request = ChatCompletionRequest(messages=[classes[role](content=text) for role, text in chat])
        ids = theirs.encode_chat_completion(request).tokens
        assert renderer.prompt_ids([Message(role, text) for role, text in chat]) == ids


def test_llama_2_is_written_as_swallow_ms_instruct_was_given_it():
    tokenizer = chat_tokenizer("v1")
    renderer = Renderer(tokenizer, choose_template(tokenizer, "llama-2"))
    chat = [Message("system", "S"), Message("user", "A "), Message("assistant", "B"), Message("user", "C")]
    text = renderer.render(chat, generation_prompt=True).text
    assert text == "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] B</s>[INST] C [/INST]"


def test_a_named_template_is_refused_where_its_markers_are_no_single_tokens():
    tokenizer = chat_tokenizer("gpt2")
    assert missing_markers(NAMED["chatml"], tokenizer) == ["<|im_start|>", "<|im_end|>"]
    with pytest.raises(ModelError, match=r"chatml needs tokens .* <\|im_start\|>, <\|im_end\|>"):
        choose_template(tokenizer, "chatml")
    with pytest.raises(ModelError, match="names none"):
        choose_template(chat_tokenizer("qwen"), "llama-2")
    with pytest.raises(RecipeError, match="there are chatml, gemma"):
        choose_template(tokenizer, "vicuna")
    with pytest.raises(ModelError, match="has no chat template; name one of"):
        choose_template(tokenizer)


def test_the_tokenizers_own_template_goes_first_and_the_one_for_tools_where_it_has_two():
    tokenizer = ChatTokenizer.from_transformers(family("qwen"))
    tokenizer.templates = {"default": "a", "tool_use": "b"}
    assert (choose_template(tokenizer).source, choose_template(tokenizer, tools=True).source) == ("a", "b")


def test_a_template_without_bos_gets_one_where_asked_and_no_second():
    tokenizer = ChatTokenizer.from_transformers(family("llama3"))
    hello = [Message("user", "Hi")]
    tokenizer.templates = "{%- for m in messages %}{{- m.content + '<|eot_id|>' }}{%- endfor %}"
    assert Renderer(tokenizer, choose_template(tokenizer)).prompt_ids(hello)[0] != tokenizer.bos_id
    added = choose_template(tokenizer, add_bos=True)
    ids = Renderer(tokenizer, added).prompt_ids(hello)
    assert ids.count(tokenizer.bos_id) == 1
    assert ids[0] == tokenizer.bos_id
    assert choose_template(tokenizer, "llama-3", add_bos=True).source == NAMED["llama-3"].source
    with pytest.raises(ModelError, match="this tokenizer has none"):
        choose_template(chat_tokenizer("qwen"), "chatml", add_bos=True)


def test_a_template_that_writes_the_date_has_its_own_bos_whatever_the_day():
    tokenizer = ChatTokenizer.from_transformers(family("llama3"))
    tokenizer.templates = (
        "{{- bos_token + strftime_now('%d %b %Y') }}{%- for m in messages %}{{- m.content }}{%- endfor %}"
    )
    assert choose_template(tokenizer, add_bos=True).source == tokenizer.templates


@pytest.mark.parametrize("name", ["chatml", "llama-3"])
def test_named_templates_refuse_what_they_have_no_form_for(name):
    tokenizer = chat_tokenizer("qwen" if name == "chatml" else "llama3")
    renderer = Renderer(tokenizer, NAMED[name])
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    with pytest.raises(DataError, match="no form for tool calls"):
        renderer.render([Message("assistant", "", (call,))], generation_prompt=False)
    with pytest.raises(DataError, match="no form for tools"):
        renderer.render([Message("user", "a")], generation_prompt=True, tools=[{"function": {"name": "f"}}])


def test_tools_calls_and_results_of_mistral_v3_have_the_ids_of_mistral_common():
    from mistral_common.protocol.instruct.messages import AssistantMessage, ToolMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.tool_calls import Function, FunctionCall, Tool, ToolCall

    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "weather", "description": "The weather", "parameters": schema}
    arguments = {"city": "京都", "days": 3}
    request = ChatCompletionRequest(
        tools=[Tool(function=Function(**function))],
        messages=[
            UserMessage(content="?"),
            AssistantMessage(
                tool_calls=[
                    ToolCall(id="abcdefghi", function=FunctionCall(name="weather", arguments=json.dumps(arguments)))
                ]
            ),
            ToolMessage(content="sunny", name="weather", tool_call_id="abcdefghi"),
        ],
    )
    ids = mistral_common("v3").encode_chat_completion(request).tokens
    tokenizer = chat_tokenizer("v3")
    renderer = Renderer(tokenizer, choose_template(tokenizer, "mistral-v3"))
    call = {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": arguments}}
    chat = [
        Message("user", "?"),
        Message("assistant", "", (call,)),
        Message("tool", "sunny", (), "weather", "abcdefghi"),
    ]
    assert renderer.prompt_ids(chat, tools=[{"type": "function", "function": function}]) == ids
