"""Masks against TRL's training templates, which mark with {% generation %} what is trained."""

import pytest
from chat_tokenizers import family, trl_template

from tsugiki.chat.conversations import read_conversation
from tsugiki.chat.masks import ConversationEncoder
from tsugiki.chat.templates import ChatTemplate
from tsugiki.chat.tokenizer import ChatTokenizer

CHATS = {
    "one turn": [("user", "What is it?"), ("assistant", "A graft.")],
    "several": [("user", "Hi"), ("assistant", "Hello, you.\n\nAnd?"), ("user", "接ぎ木は？"), ("assistant", "木をつぐ 🌱"),
                ("user", "ｶﾀｶﾅ"), ("assistant", "  half width, trimmed or not \n")],
    "a system prompt": [("system", "Be brief."), ("user", "Go on"), ("assistant", "No.")],
    "markers in text": [("user", "say [INST] </s>"), ("assistant", "<|user|"), ("user", "b"), ("assistant", "c")],
}  # fmt: skip
SAME = {"llama3": "llama3", "cohere": "cohere", "glm": "glm4moe"}
BUT_FOR_WHITE_SPACE = {"gemma": "gemma", "qwen": "qwen2_5", "phi3": "phi3"}


def ours_and_theirs(name, template, chat):
    if chat[0][0] == "system" and name == "gemma":
        pytest.skip("its template takes no system prompt")
    tokenizer = family(name)
    messages = [{"role": role, "content": content} for role, content in chat]
    encoder = ConversationEncoder(
        ChatTokenizer.from_transformers(tokenizer), ChatTemplate(template, trl_template(template))
    )
    (sample,) = encoder.encode(read_conversation({"messages": messages})).samples
    marked = tokenizer.apply_chat_template(
        messages, chat_template=trl_template(f"{template}_training"), return_assistant_tokens_mask=True,
        return_dict=True,
    )  # fmt: skip
    return tokenizer, sample, marked["input_ids"], marked["assistant_masks"]


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
@pytest.mark.parametrize("name", SAME)
def test_masks_equal_those_of_the_training_templates(name, chat):
    _, sample, ids, mask = ours_and_theirs(name, SAME[name], chat)
    assert sample.ids.tolist() == ids[: len(sample.ids)]
    assert [weight > 0 for weight in sample.weights.tolist()] == [bool(one) for one in mask[: len(sample.ids)]]
    assert not any(mask[len(sample.ids) :])


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
@pytest.mark.parametrize("name", BUT_FOR_WHITE_SPACE)
def test_masks_differ_by_the_white_space_behind_the_end_token_alone(name, chat):
    tokenizer, sample, ids, mask = ours_and_theirs(name, BUT_FOR_WHITE_SPACE[name], chat)
    assert sample.ids.tolist() == ids[: len(sample.ids)]
    ours = [weight > 0 for weight in sample.weights.tolist()] + [False] * (len(ids) - len(sample.ids))
    assert sum(ours) > 0
    for place, (token, mine, theirs) in enumerate(zip(ids, ours, mask, strict=True)):
        if mine != bool(theirs):
            piece = tokenizer.decode([token])
            closing = name == "phi3" and token == tokenizer.eos_token_id and place == len(ids) - 1
            assert theirs, (place, piece)
            assert piece.isspace() or closing, (place, piece)
