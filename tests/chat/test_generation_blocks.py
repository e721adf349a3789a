"""A template's own blocks against our targets; the date of the day."""

import pytest
from chat_tokenizers import chat_tokenizer, trl_template

from tsugiki.chat.conversations import read_conversation
from tsugiki.chat.generation_blocks import has_blocks, require_same_blocks
from tsugiki.chat.given import Given
from tsugiki.chat.masks import ConversationEncoder, MaskSettings
from tsugiki.chat.templates import ChatTemplate
from tsugiki.errors import ModelError, RecipeError

CHAT = read_conversation(
    {"messages": [{"role": role, "content": text} for role, text in [("user", "a"), ("assistant", "b\n"), ("user", "c"), ("assistant", "d")]]}
)  # fmt: skip
BLOCKS = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' %}"
    "{% generation %}{{- GENERATED }}{% endgeneration %}{{- BEHIND }}{%- else %}{{- m.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{{- '<|im_start|>assistant\\n' if add_generation_prompt else '' }}"
)


def encoder_of(name, source, tools=(), **kwargs):
    tokenizer = chat_tokenizer(name)
    settings = MaskSettings(given=Given(tools, kwargs))
    return ConversationEncoder(tokenizer, ChatTemplate("test", source), settings)


@pytest.mark.parametrize(
    ("name", "template"), [("llama3", "llama3"), ("gemma", "gemma"), ("qwen", "qwen2_5"), ("phi3", "phi3"), ("cohere", "cohere")]
)  # fmt: skip
def test_blocks_that_differ_by_white_space_and_closing_tokens_are_ours(name, template):
    require_same_blocks(encoder_of(name, trl_template(f"{template}_training")), CHAT)


def test_a_template_without_blocks_has_no_opinion():
    require_same_blocks(encoder_of("gemma", trl_template("gemma")), CHAT)


@pytest.mark.parametrize(
    ("generated", "behind"), [("m.content", "'<|im_end|>\\n'"), ("m.content[:1] + '!'", "m.content + '<|im_end|>\\n'")]
)
def test_blocks_that_leave_out_the_end_token_or_hold_something_else_are_shown(generated, behind):
    source = BLOCKS.replace("GENERATED", generated).replace("BEHIND", behind)
    with pytest.raises(ModelError, match="as generated; what a model has to emit after the prompt is"):
        require_same_blocks(encoder_of("qwen", source), CHAT)


def test_tools_of_all_conversations_stand_before_the_blocks_too():
    source = "{{- tools | tojson if tools }}" + BLOCKS.replace("GENERATED", "m.content + '<|im_end|>'").replace(
        "BEHIND", "'\\n'"
    )
    tools = ({"type": "function", "function": {"name": "search", "parameters": {}}},)
    encoder = encoder_of("qwen", source, tools)
    assert "search" in encoder.tokenizer.decode(encoder.encode(CHAT).samples[0].ids.tolist())
    require_same_blocks(encoder, CHAT)


def test_the_date_of_the_day_is_refused_or_fixed():
    source = "  {{- strftime_now('%d %b %Y') + '\\n' }}" + BLOCKS.replace("GENERATED", "m.content").replace(
        "BEHIND", "'<|im_end|>'"
    )
    with pytest.raises(ModelError, match="it writes the date of the day; give it one"):
        encoder_of("qwen", source)
    encoder = encoder_of("qwen", source, today="2026-01-31")
    (sample,) = encoder.encode(CHAT).samples
    assert encoder.tokenizer.decode(sample.ids.tolist()).startswith("31 Jan 2026\n<|im_start|>user")
    with pytest.raises(RecipeError, match="must be a date"):
        encoder_of("qwen", source, today="tomorrow")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("{% generation %}a{% endgeneration %}", True),
        ("{%- generation -%}", True),
        ("{% if add_generation_prompt %}", False),
    ],
)
def test_a_template_with_blocks_is_told_by_its_source(source, found):
    assert has_blocks(source) == found
