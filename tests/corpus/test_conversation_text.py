"""The text of a conversation with its marks: nothing of it lost, what is trained and what is said where they are."""

import pytest
from chat_tokenizers import family, mistral

from tsugiki.chat.conversations import read_conversation
from tsugiki.chat.masks import ConversationEncoder
from tsugiki.chat.segments import Segment, segments
from tsugiki.chat.templates import choose_template
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.corpus.conversation_text import MarkedLine, Span, conversation_lines, marked_spans

SAID = [
    ("system", "Be brief."), ("user", "質問\nis a"), ("assistant", "Yes. が 答え"), ("user", "<s> </s> user"), ("assistant", "two"),
]  # fmt: skip
FAMILIES = [
    ("qwen", "qwen"), ("llama3", "llama-3"), ("gemma", "gemma"), ("v1", "llama-2"), ("v1", "mistral-v1"),
    ("v3", "mistral-v3"), ("tekken", "mistral-tekken"),
]  # fmt: skip


@pytest.mark.parametrize(("tokenizer", "template"), FAMILIES)
def test_marks_stand_around_what_is_trained_and_what_messages_do_not_say(tokenizer, template):
    own = mistral(tokenizer) if tokenizer in ("v1", "v3", "tekken") else family(tokenizer)
    chat = ChatTokenizer.from_transformers(own)
    encoder = ConversationEncoder(chat, choose_template(chat, template))
    messages = [{"role": role, "content": text} for role, text in SAID]
    for sample in encoder.encode(read_conversation({"messages": messages})).samples:
        spans = marked_spans(chat, sample.ids, sample.weights, segments(encoder.renderer, sample.messages))
        assert "".join(span.text for span in spans) == chat.decode(sample.ids.tolist())
        said = "|".join(span.text for span in spans if not span.added)
        for message in sample.messages:
            assert message.content in said
        trained = "".join(span.text for span in spans if span.trained)
        starts = [
            span
            for before, span in zip([None, *spans], spans, strict=False)
            if span.trained and not getattr(before, "trained", False)
        ]
        assert len(starts) == trained.count(encoder.end.piece)
        assert "Be brief" not in trained
        assert trained.rstrip().endswith(encoder.end.piece)
        unknown = marked_spans(chat, sample.ids, sample.weights, [Segment("other text", "user")])
        assert not any(span.added for span in unknown)
        assert "".join(span.text for span in unknown if span.trained) == trained


def test_brackets_nest_and_close():
    spans = (
        Span("a", False, True),
        Span("b", False, False),
        Span("c", True, False),
        Span("d", True, True),
        Span("e", False, True),
    )
    assert str(MarkedLine(spans, "> ")) == "> ‹a›b⟦c‹d›⟧‹e›"
    assert MarkedLine(spans[2:4], "> ").styled() == [("> ", ""), ("c", "bold green"), ("d", "bold green dim")]


def test_conversations_are_cut_at_so_many_characters_and_what_is_left_is_counted():
    spans = [[Span("one\ntwo\x1b[2J", True, False)], [Span("three", False, False)], [Span("four", False, False)]]
    lines = [str(line) for line in conversation_lines(["first", "second", "third"], spans, 14)]
    assert lines == [
        "",
        "first",
        "  | ⟦one⏎⟧",
        "  | ⟦two\\x1b[2J⟧",
        "",
        "second",
        "  | thr",
        "  | … (2 more characters)",
        "  … and 1 more",
    ]
