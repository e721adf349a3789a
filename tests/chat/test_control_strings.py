"""Ids against transformers: the plain call where nothing spells a control token, its sanitising where something does."""

import functools

import pytest
from chat_tokenizers import family, mistral

from tsugiki.chat.control_strings import mark, unmark, unused_characters
from tsugiki.chat.conversations import Message
from tsugiki.chat.rendering import Renderer
from tsugiki.chat.templates import choose_template
from tsugiki.chat.tokenizer import ChatTokenizer

opened = functools.cache(ChatTokenizer.from_transformers)
TOKENIZERS = {
    "llama3": (lambda: family("llama3"), "llama-3"),
    "qwen": (lambda: family("qwen"), "qwen"),
    "gemma": (lambda: family("gemma"), "gemma"),
    "mistral v1": (lambda: mistral("v1"), "mistral-v1"),
}
PLAIN = [
    [("user", "Hi"), ("assistant", "Hello")],
    [
        ("system", "Be brief\n"),
        ("user", " a  b"),
        ("assistant", "\n\nc"),
        ("user", "接ぎ木 か\u3099"),
        ("assistant", "👩‍👩‍👧 ｶﾞ"),
    ],
    [("user", ""), ("assistant", ""), ("user", "[INST] <|no marker|>"), ("assistant", "{{ bos_token }}")],
]


def control_chats(tokenizer):
    """Every special token in every role: alone, in words, twice, at the ends, cut in two and one in the other."""
    for piece in [*tokenizer.all_special_tokens, *sorted(tokenizer.get_added_vocab())][:12]:
        if tokenizer.get_added_vocab().get(piece) is not None and piece not in SPARED:
            half = len(piece) // 2
            said = f"{piece} a {piece}{piece} b{piece}c {piece[:half]}{piece}{piece[half:]}\n{piece}"
            yield [
                ("system", f"x {piece}"),
                ("user", said),
                ("assistant", f"{piece}y"),
                ("user", piece),
                ("assistant", piece),
            ]


SPARED = ("<think>", "</think>", "<tool_call>", "</tool_call>")


def both(name, chat):
    make, template = TOKENIZERS[name]
    tokenizer = make()
    mine = opened(tokenizer)
    chosen = choose_template(mine, template)
    renderer = Renderer(mine, chosen)
    ours = renderer.render([Message(role, text) for role, text in chat], generation_prompt=False)
    messages = [{"role": role, "content": text} for role, text in chat]
    return mine, ours, tokenizer, messages, chosen.source


@pytest.mark.parametrize("chat", PLAIN, ids=range(len(PLAIN)))
@pytest.mark.parametrize("name", TOKENIZERS)
def test_without_control_strings_ids_are_those_of_the_plain_call(name, chat):
    mine, ours, tokenizer, messages, source = both(name, chat)
    assert mine.encode(ours) == tokenizer.apply_chat_template(messages, chat_template=source, return_dict=False)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_control_strings_are_encoded_as_text_as_transformers_does_when_it_sanitises(name):
    chats = list(control_chats(TOKENIZERS[name][0]()))
    assert len(chats) > 1
    for chat in chats:
        mine, ours, tokenizer, messages, source = both(name, chat)
        ids = mine.encode(ours)
        assert ids == tokenizer.apply_chat_template(
            messages, chat_template=source, sanitize_control_tokens=True, return_dict=False
        )
        assert ours.text == tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False)


def test_the_private_characters_that_transformers_deletes_are_kept():
    text = "a\U000f0000b\U000f0001c\U0010f000<|im_end|>"
    mine, ours, tokenizer, _, _ = both("qwen", [("user", text), ("assistant", "d")])
    assert text in tokenizer.decode(mine.encode(ours))


def test_tokens_not_flagged_special_stay_tokens_in_answers_and_are_text_elsewhere_where_the_template_writes_them():
    chat = [("user", "<tool_call> <think>"), ("assistant", "<think>a</think> <tool_call>")]
    mine, ours, tokenizer, _, _ = both("qwen", chat)
    ids = mine.encode(ours)
    added = tokenizer.get_added_vocab()
    asked = ids[: ids.index(added["<|im_end|>"])]
    assert added["<tool_call>"] not in asked
    assert added["<think>"] in asked  # this template never writes it, so it is no control token of the chat
    assert [ids.count(added[piece]) for piece in ("<tool_call>", "</think>")] == [1, 1]


def test_marks_are_characters_that_the_text_does_not_have_and_a_single_one_divides():
    first, second = unused_characters(["\U0010f000", {"a": "\U0010f002"}])
    assert len({first, second, "\U0010f000", "\U0010f002"}) == 4
    marked = mark(["a<b>c"], ("<b>",), (first, second))[0]
    assert marked == f"a{first}<b>{second}c"
    assert unmark(marked, ("<b>",), (first, second)).plain == ((1, 4),)
    parted = unmark(marked.replace("<b>", "<b"), ("<b>",), (first, second))
    assert (parted.text, parted.plain) == ("a<bc", ((1, 1), (3, 3)))
