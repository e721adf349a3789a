"""Masks against each prompt rendered and encoded alone by transformers, turn by turn, also for hostile conversations."""

import copy
import random
import unicodedata

import numpy as np
import pytest
from chat_tokenizers import chat_tokenizer, family, mistral

from tsugiki.chat.conversations import read_conversation
from tsugiki.chat.counts import Counts
from tsugiki.chat.end_token import find_end_token
from tsugiki.chat.masks import ConversationEncoder, MaskSettings
from tsugiki.chat.rendering import Renderer
from tsugiki.chat.templates import NAMED, ChatTemplate, choose_template
from tsugiki.errors import DataError, ModelError

OWN = {"llama3": "llama-3", "qwen": "qwen", "gemma": "gemma"}
VICUNA = (  # the prompt ends in a space, to which the answer's first word is joined
    "{%- for m in messages %}"
    "{{- 'USER: ' + m.content + '\n' if m.role == 'user' else 'ASSISTANT: ' + m.content + eos_token }}"
    "{%- endfor %}{{- 'ASSISTANT: ' if add_generation_prompt }}"
)
FORGETS = (  # only the last answer has an empty thought before it, as Qwen 3 writes
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{{- '<think>\n\n</think>\n\n' if loop.last and m.role == 'assistant' }}{{- m.content + '<|im_end|>\n' }}"
    "{%- endfor %}{{- '<|im_start|>assistant\n' if add_generation_prompt }}"
)
OPEN = (  # the next marker ends an answer, as in GLM-4
    "{%- for m in messages %}{{- '<|observation|>' if m.role == 'tool' else '<|' + m.role + '|>' }}"
    "{{- '\n' + m.content }}{%- endfor %}{{- '<|assistant|>' if add_generation_prompt }}"
)
ENDLESS = "{%- for m in messages %}{{- m.role + ': ' + m.content + '\n' }}{%- endfor %}{{- 'assistant:' if add_generation_prompt }}"
CHATS = {
    "several": [("user", "Hi"), ("assistant", "Hello\n\nyou"), ("user", "接ぎ木"), ("assistant", "が゙木 👩‍👩‍👧 ｶﾞ")],
    "system": [("system", "Be brief"), ("user", "a b"), ("assistant", "c")],
    "empty turns": [("user", ""), ("assistant", ""), ("user", " "), ("assistant", "\n")],
    "100 turns": [("user", f"q {n}") if n % 2 == 0 else ("assistant", f"answer {n} 🌱") for n in range(100)],
}
ODD = {
    "assistant first": [("assistant", "Welcome"), ("user", "Hi"), ("assistant", "Hello")],
    "one role in a row": [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d")],
}
TWO = CHATS["several"]


def encoder_of(name, source=None, **settings):
    template = NAMED[OWN[name]] if source is None else ChatTemplate("test", source)
    return ConversationEncoder(chat_tokenizer(name), template, MaskSettings(**settings))


def conversation_of(chat, **more):
    return read_conversation({"messages": [{"role": role, "content": text} for role, text in chat], **more})


def trained_runs(sample):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], sample.weights > 0, [0]])))
    return [(sample.ids.tolist(), int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def check_turns(tokenizer, encoder, chat, samples, **options):
    """Each trained run stands behind what transformers gives for its prompt alone, and says what the assistant says."""
    messages = [{"role": role, "content": text} for role, text in chat]
    asked = [number for number, (role, _) in enumerate(chat) if role == "assistant"]
    runs = [run for sample in samples for run in trained_runs(sample)]
    assert len(runs) == len(asked)
    for number, (ids, start, end) in zip(asked, runs, strict=True):
        if number:  # transformers renders no conversation without messages
            prompt = tokenizer.apply_chat_template(
                messages[:number], chat_template=encoder.renderer.template.source, add_generation_prompt=True,
                return_dict=False, **options,
            )  # fmt: skip
            assert ids[:start] == prompt
        assert ids[end - 1] == encoder.end.id
        said = tokenizer.decode(ids[start : end - 1], clean_up_tokenization_spaces=False)
        assert said.strip() == normal_form(tokenizer, chat[number][1]).strip()


def normal_form(tokenizer, text):
    """A text as the tokenizer keeps it: Qwen's composes characters."""
    return unicodedata.normalize("NFC", text) if "NFC" in str(tokenizer.backend_tokenizer.normalizer) else text


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
@pytest.mark.parametrize("name", OWN)
def test_each_turn_stands_behind_the_ids_of_its_prompt_alone(name, chat):
    encoder = encoder_of(name)
    encoded = encoder.encode(conversation_of(chat))
    check_turns(family(name), encoder, chat, encoded.samples)
    assert encoded.counts.trained_tokens == sum(int((sample.weights > 0).sum()) for sample in encoded.samples)


@pytest.mark.parametrize("chat", ODD.values(), ids=ODD.keys())
def test_an_order_that_the_template_takes_is_taken_and_another_refused_in_its_words(chat):
    encoder = encoder_of("qwen")
    check_turns(family("qwen"), encoder, chat, encoder.encode(conversation_of(chat)).samples)
    with pytest.raises(DataError, match="does not take this conversation: this template takes an optional system"):
        encoder_of("gemma").encode(conversation_of(chat))


def test_a_boundary_is_forced_where_a_token_would_reach_over_it():
    chat = [("user", "Hi"), ("assistant", "Hello"), ("user", "And?"), ("assistant", "there is more")]
    encoder = encoder_of("gpt2", VICUNA)
    encoded = encoder.encode(conversation_of(chat))
    assert encoded.counts.forced_boundaries == 2
    check_turns(family("gpt2"), encoder, chat, encoded.samples)
    # In the second prompt the first answer is joined to the space, so what was trained is not what stands there.
    assert encoded.counts.rewritten_turns == 1


def test_a_target_that_begins_with_a_combining_mark_is_not_joined_to_its_prompt():
    source = "{%- for m in messages %}{{- m.content + ('<|im_end|>' if m.role == 'assistant' else '') }}{%- endfor %}"
    chat = [("user", "か"), ("assistant", "\u3099が")]
    encoder = encoder_of("qwen", source)
    (sample,) = encoder.encode(conversation_of(chat)).samples
    ((ids, start, _),) = trained_runs(sample)
    assert ids[:start] == family("qwen").encode("か")


def test_history_that_is_rewritten_makes_a_sample_a_turn_the_last_alone_or_is_refused():
    chat = TWO
    each = encoder_of("qwen", FORGETS).encode(conversation_of(chat))
    texts = [family("qwen").decode(sample.ids) for sample in each.samples]
    assert [text.count("<think>") for text in texts] == [1, 1]
    for sample in each.samples:
        ((ids, start, _),) = trained_runs(sample)
        assert family("qwen").decode(ids[start:]).startswith("<think>\n\n</think>\n\n")
    assert (each.counts.samples, each.counts.rewritten_turns, each.counts.turns) == (2, 1, 2)
    assert each.counts.tokens == sum(len(sample.ids) for sample in each.samples) > each.counts.tokens_unrepeated
    last = encoder_of("qwen", FORGETS, rewritten_history="last").encode(conversation_of(chat))
    assert [sample.digest for sample in last.samples] == [each.samples[1].digest]
    assert last.counts.turns_left_out == 1
    with pytest.raises(DataError, match="writes earlier turns anew"):
        encoder_of("qwen", FORGETS, rewritten_history="refuse").encode(conversation_of(chat))


def test_the_next_marker_ends_a_turn_where_the_template_writes_nothing_behind_it():
    encoder = encoder_of("glm", OPEN)
    assert (encoder.end.piece, encoder.end.written) == ("<|user|>", "by the next turn")
    (sample,) = encoder.encode(conversation_of(TWO)).samples
    assert [sample.ids[end - 1] for _, _, end in trained_runs(sample)] == [encoder.end.id] * 2
    assert sample.ids.tolist().count(encoder.end.id) == 3
    called = [("user", "a"), ("assistant", "b"), ("tool", "c"), ("assistant", "d")]
    (sample,) = encoder.encode(conversation_of(called)).samples
    ends = [family("glm").decode([sample.ids[end - 1]]) for _, _, end in trained_runs(sample)]
    assert ends == ["<|observation|>", "<|user|>"]


def test_without_an_end_token_the_template_is_refused_or_eos_is_appended():
    with pytest.raises(ModelError, match="would not stop"):
        encoder_of("gpt2", ENDLESS)
    encoder = encoder_of("gpt2", ENDLESS, append_eos=True)
    encoded = encoder.encode(conversation_of(TWO))
    assert all(sample.ids[-1] == family("gpt2").eos_token_id for sample in encoded.samples)
    assert encoded.counts.samples == 2  # no server writes it into the history


@pytest.mark.parametrize(
    ("name", "piece"), [("llama3", "<|eot_id|>"), ("qwen", "<|im_end|>"), ("gemma", "<end_of_turn>")]
)
def test_the_end_token_is_found_by_the_probe_and_is_not_the_last_of_the_template(name, piece):
    tokenizer = chat_tokenizer(name)
    assert find_end_token(Renderer(tokenizer, NAMED[OWN[name]])).piece == piece


def test_what_the_template_leaves_out_is_named():
    silent = (
        NAMED["llama-3"]
        .source.replace("this template has no form for tool calls", "")
        .replace("{{- raise_exception('') -}}", "")
    )
    encoder = encoder_of("llama3", silent)
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    with pytest.raises(DataError, match="its call of f is not in what the chat template writes"):
        encoder.encode(read_conversation({"messages": [{"role": "user", "content": "x"}, called]}))
    deaf = "{%- for m in messages if m.role != 'system' %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}{{- '<|im_start|>assistant\n' if add_generation_prompt }}"
    with pytest.raises(DataError, match=r"message 1 \(system\): its text is not in"):
        encoder_of("qwen", deaf).encode(conversation_of(CHATS["system"]))


def test_tool_calls_are_trained_to_the_end_token_and_their_values_looked_for():
    call = {"function": {"name": "weather", "arguments": {"city": "京都", "days": 3, "why": 'a "b"\n'}}}
    record = {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": '{"sky":"晴れ"}'},
            {"role": "assistant", "content": "晴れ"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather"}}],
    }
    (sample,) = encoder_of("qwen").encode(read_conversation(record)).samples
    said = [family("qwen").decode(ids[start:end]) for ids, start, end in trained_runs(sample)]
    assert said[0].startswith('\n<tool_call>\n{"name": "weather"') or said[0].startswith("<tool_call>")
    assert said[0].endswith("</tool_call><|im_end|>")
    assert said[1] == "晴れ<|im_end|>"


def test_a_turn_that_does_not_begin_with_its_prompt_is_refused_with_both_renderings():
    source = (
        "{%- for m in messages %}{{- m.content + '<|im_end|>' }}{%- endfor %}{{- 'answer: ' if add_generation_prompt }}"
    )
    with pytest.raises(DataError, match="does not begin with the prompt that a server gives") as error:
        encoder_of("qwen", source).encode(conversation_of(TWO))
    assert "answer: " in str(error.value)


def test_a_text_that_leaves_no_character_to_mark_control_strings_with_is_refused():
    every = "".join(map(chr, range(0x10F000, 0x10FF00)))
    with pytest.raises(DataError, match="the text has all private characters there are"):
        encoder_of("qwen").encode(conversation_of([("user", every), ("assistant", "a")]))


def test_loss_on_chooses_turns_and_a_weight_of_the_message_goes_before_it():
    record = {"messages": [{"role": role, "content": text} for role, text in TWO]}

    def weights(**settings):
        (sample,) = encoder_of("llama3", **settings).encode(read_conversation(record)).samples
        return [float(sample.weights[start]) for _, start, _ in trained_runs(sample)], sample

    assert weights()[0] == [1, 1]
    assert weights(loss_on="last")[0] == weights(loss_on="completion")[0] == [1]
    everything = weights(loss_on="all")[1].weights
    assert everything[0] == 0
    assert (everything[1:] == 1).all()
    assert len(weights(loss_on=("user",))[0]) == 2
    record["messages"][1]["weight"] = 0
    assert weights()[0] == [1]
    first = weights(loss_on="all")[1].weights
    untrained = np.flatnonzero(first == 0)
    assert untrained[0] == 0
    assert (np.diff(untrained[1:]) == 1).all()  # of all tokens only those of that answer
    assert 0 < len(untrained) - 1 < len(first) // 2
    record["messages"][2]["weight"] = 0
    _, asked = weights(loss_on="all")
    kept = asked.ids[(asked.weights == 0) & (first > 0)].tolist()
    assert family("llama3").decode(kept) == "<|start_header_id|>user<|end_header_id|>\n\n接ぎ木<|eot_id|>"
    del record["messages"][2]["weight"]
    record["messages"][1]["weight"] = 0.5
    assert weights()[0] == weights(loss_on="last")[0] == [0.5, 1]
    record["messages"][1]["weight"] = record["messages"][3]["weight"] = 0
    with pytest.raises(DataError, match="no turn of the conversation is trained"):
        weights()


def test_a_weight_among_turns_that_are_written_anew_is_refused_where_all_is_trained():
    turns = [{"role": role, "content": text} for role, text in TWO]
    encoder = encoder_of("qwen", FORGETS, loss_on="all")
    assert len(encoder.encode(read_conversation({"messages": turns})).samples) == 1
    turns[1]["weight"] = 0
    with pytest.raises(DataError, match="a message's own weight cannot be kept"):
        encoder.encode(read_conversation({"messages": turns}))


def test_the_completion_of_a_format_that_has_one_is_all_of_it():
    turns = [{"role": role, "content": text} for role, text in TWO]
    record = {"prompt": turns[:1], "completion": turns[1:]}
    (sample,) = encoder_of("qwen", loss_on="completion").encode(read_conversation(record)).samples
    assert len(trained_runs(sample)) == 2


def test_a_conversation_that_is_too_long_is_divided_before_a_user_with_its_system_prompt():
    chat = [("system", "Be brief"), *CHATS["100 turns"][:20]]
    whole = encoder_of("qwen").encode(conversation_of(chat))
    limit = len(whole.samples[0].ids) // 3
    encoder = encoder_of("qwen", max_tokens=limit)
    encoded = encoder.encode(conversation_of(chat))
    texts = [family("qwen").decode(sample.ids) for sample in encoded.samples]
    assert len(texts) > 2
    assert all(len(sample.ids) <= limit for sample in encoded.samples)
    assert all(text.startswith("<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\n") for text in texts)
    assert encoded.counts.turns == whole.counts.turns == 10
    assert encoded.counts.trained_tokens == whole.counts.trained_tokens
    assert (encoded.counts.conversations, encoded.counts.conversations_divided) == (1, 1)


def test_an_exchange_that_is_too_long_alone_is_left_out_and_counted():
    chat = [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c" * 200),
        ("assistant", "d"),
        ("user", "e"),
        ("assistant", "f"),
    ]
    encoder = encoder_of("qwen", max_tokens=60)
    encoded = encoder.encode(conversation_of(chat))
    said = [ids[start:end] for sample in encoded.samples for ids, start, end in trained_runs(sample)]
    assert [family("qwen").decode(one) for one in said] == ["b<|im_end|>", "f<|im_end|>"]
    assert encoded.counts.exchanges_dropped == 1
    nothing = encoder.encode(conversation_of(chat[2:4]))
    assert nothing.samples == ()
    assert nothing.counts == Counts(conversations=1, conversations_dropped=1, exchanges_dropped=1)


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_mistrals_turns_stand_behind_the_ids_of_their_prompts_and_its_system_prompt_moves(version):
    tokenizer = chat_tokenizer(version)
    encoder = ConversationEncoder(tokenizer, choose_template(tokenizer, f"mistral-{version}"))
    chat = [("user", "a"), ("assistant", "<b> c"), ("user", " d"), ("assistant", "接ぎ木 🌱 ｶﾞ")]
    shared = encoder.encode(conversation_of(chat))
    check_turns(mistral(version), encoder, chat, shared.samples)
    told = encoder.encode(conversation_of([("system", "S"), *chat]))
    assert [shared.counts.samples, told.counts.samples] == [1, 1 if version == "v1" else 2]
    check_turns(mistral(version), encoder, [("system", "S"), *chat], told.samples)


def test_turns_of_other_roles_are_trained_where_they_are_asked_for():
    tokenizer = chat_tokenizer("v3")
    encoder = ConversationEncoder(tokenizer, choose_template(tokenizer, "mistral-v3"), MaskSettings(loss_on=("user",)))
    (sample,) = encoder.encode(conversation_of([("user", "a"), ("assistant", "b"), ("user", "c")])).samples
    assert [tokenizer.decode(ids[start:end]) for ids, start, end in trained_runs(sample)] == [
        "[INST] a[/INST]",
        "[INST] c[/INST]",
    ]


def test_an_encoder_goes_to_another_process_and_gives_the_same_there():
    encoder = encoder_of("qwen", max_tokens=60)
    again = copy.deepcopy(encoder)  # by the state that a process is sent
    for chat in CHATS.values():
        pair = [one.encode(conversation_of(chat)) for one in (encoder, again)]
        assert pair[0].counts == pair[1].counts
        assert [sample.digest for sample in pair[0].samples] == [sample.digest for sample in pair[1].samples]


HOSTILE = [
    "", "a", " ", "\n", "\n\n", "\t", "<", "[", "]<", "が", "\u3099", "ｶﾞ", "🌱", "👩‍👩‍👧", "Hello", "  b", "1", "<|im_end|>",
    "<|eot_id|>", "</s>", "<s>", "[INST]", "[/INST]", "<end_of_turn>", "<bos>", "<|endoftext|>", "<|begin_of_text|>",
]  # fmt: skip


@pytest.mark.parametrize("name", [*OWN, "gpt2"])
def test_hostile_text_in_any_role_changes_nothing_of_it(name):
    """Prompts against transformers' sanitising, with what spells control tokens, and at both edges of a target."""
    encoder = encoder_of(name, VICUNA if name == "gpt2" else None)
    chance, total = random.Random(5), Counts()
    for _ in range(50):
        roles = ["user", "assistant"] * chance.choice([1, 2, 3])
        chat = [(role, "".join(chance.choices(HOSTILE, k=chance.randrange(6)))) for role in roles]
        encoded = encoder.encode(conversation_of(chat))
        check_turns(family(name), encoder, chat, encoded.samples, sanitize_control_tokens=True)
        total += encoded.counts
    assert total.control_strings > 0
    assert (total.forced_boundaries > 0) == (name == "gpt2")
