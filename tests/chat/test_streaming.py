"""Text that comes token by token against the text of all tokens at once."""

import pytest
from chat_tokenizers import chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.chat.streaming import TextStream

TEXTS = st.text(st.sampled_from("ab \n\tz。接ぎ木ｶﾞが\u3099🌱👨\u200d👩é\ufffd"), max_size=30)


def streamed(tokenizer, ids):
    stream = TextStream(tokenizer)
    return [*(stream.add(token) for token in ids), stream.rest()]


@pytest.mark.parametrize("name", ["llama3", "qwen", "gpt2", "gemma", "v1", "tekken"])
def test_pieces_join_to_the_text_and_none_ends_inside_a_character(name):
    tokenizer = chat_tokenizer(name)

    @given(TEXTS)
    def check(text):
        ids = tokenizer._ids(text)
        pieces = streamed(tokenizer, ids)
        assert "".join(pieces) == tokenizer.decode(ids)
        if "\ufffd" not in text:
            assert not any("\ufffd" in piece for piece in pieces)

    check()


def test_text_comes_as_soon_as_it_is_whole():
    tokenizer = chat_tokenizer("qwen")
    ids = tokenizer._ids("tree 接")
    pieces = streamed(tokenizer, ids)
    assert pieces[0] != ""
    assert pieces[-4:] == ["", "", "接", ""]  # three bytes, and nothing is left over


def test_bytes_that_never_become_a_character_are_shown_in_the_end_and_control_tokens_never():
    tokenizer = chat_tokenizer("qwen")
    cut = tokenizer._ids("接")[:2]
    pieces = streamed(tokenizer, [*tokenizer._ids("a"), tokenizer.single("<|im_end|>"), *cut])
    assert pieces[:-1] == ["a", "", "", ""]
    assert "".join(pieces) == tokenizer.decode([*tokenizer._ids("a"), *cut])
