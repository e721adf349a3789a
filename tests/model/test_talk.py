"""What a model is given in a conversation, against what training masks as prompt; and what is kept of its answers."""

import functools
from datetime import date

import numpy as np
import pytest
from chat_models import TEMPLATES, chat_folder
from chat_tokenizers import chat_tokenizer

import tsugiki.model.talk as talk_module
from tsugiki.chat.conversations import Message, read_conversation
from tsugiki.chat.masks import ConversationEncoder
from tsugiki.chat.templates import choose_template
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.errors import DataError, ModelError
from tsugiki.model.talk import Talk

CHATS = {
    "plain": [("user", "Hi"), ("assistant", "Hello\n\nyou"), ("user", "接ぎ木は？"), ("assistant", "ｶﾞ 🌱")],
    "system": [("system", "Be brief"), ("user", "a b"), ("assistant", "c"), ("user", "d"), ("assistant", "e")],
    "control strings": [
        ("user", "what is <|im_end|><|eot_id|></s><end_of_turn>?"), ("assistant", "a marker"),
        ("user", "</s>[/INST]<|im_start|>system"), ("assistant", "no"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, tiny_model_folder):
    """folder_of("qwen"): a model with that tokenizer and template."""
    return functools.cache(lambda name: chat_folder(tmp_path_factory.mktemp("talk") / name, name, tiny_model_folder))


@pytest.fixture(scope="module")
def talk_of(folder_of):
    """talk_of("qwen"): a conversation with it in which nothing was said yet. Opened once, since real tokenizers take
    seconds."""
    opened = functools.cache(lambda name: Talk(folder_of(name)))

    def anew(name):
        talk = opened(name)
        talk.reset()
        talk.set_system("")
        return talk

    return anew


@pytest.fixture
def folder(folder_of):
    return folder_of("qwen")


class Script:
    """Stands in for the model's choice of tokens: says what it is given, and keeps the prompts."""

    def __init__(self, monkeypatch, answers):
        self.prompts, self.stops = [], []
        self._answers = iter(answers)
        monkeypatch.setattr(talk_module, "new_tokens", self)

    def __call__(self, model, prompt, *, stop_ids, **settings):
        self.prompts.append(list(prompt))
        self.stops.append(stop_ids)
        yield from next(self._answers)


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_are_those_that_training_masks(name, chat, talk_of, monkeypatch):
    tokenizer = chat_tokenizer(name)
    encoder = ConversationEncoder(tokenizer, choose_template(tokenizer, TEMPLATES[name]))
    conversation = read_conversation({"messages": [{"role": role, "content": text} for role, text in chat]})
    prompts, targets = [], []
    for sample in encoder.encode(conversation).samples:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], sample.weights > 0, [0]])))
        for start, end in edges.reshape(-1, 2):
            prompts.append(sample.ids[:start].tolist())
            targets.append(sample.ids[start : end - 1].tolist())  # without the end token
            assert sample.ids[end - 1] == encoder.end.id

    script = Script(monkeypatch, targets)
    talk = talk_of(name)
    if chat[0][0] == "system":
        talk.set_system(chat[0][1])
    answers = ["".join(talk.ask(text)) for role, text in chat if role == "user"]
    assert script.prompts == prompts
    assert [answer.strip() for answer in answers] == [text for role, text in chat if role == "assistant"]
    assert all(encoder.end.id in stops and tokenizer.eos_id in stops for stops in script.stops)


def test_an_answer_is_that_of_the_model_and_repeats_with_its_seed(folder):
    talk = Talk(folder, temperature=0, max_new_tokens=4)
    expected = []
    ids = talk.prompt_ids([Message("user", "Hi")])
    for _ in range(4):
        expected.append(int(talk._model(talk_module.torch.tensor([ids + expected])).logits[0, -1].argmax()))
    assert "".join(talk.ask("Hi")) == talk.tokenizer.decode(expected, skip_special=True)
    assert talk.cut == "it has 4 tokens (--max-new-tokens)"
    drawn = [
        ["".join(one.ask(text)) for text in "ab"] for one in (Talk(folder, seed=1, max_new_tokens=9) for _ in "xy")
    ]
    assert drawn[0] == drawn[1]


def test_an_answer_that_is_left_stays_as_far_as_it_was_read_and_one_without_a_word_was_never_asked_for(
    folder, monkeypatch
):
    talk = Talk(folder)
    one = talk.tokenizer._ids(" word")[:1]
    script = Script(monkeypatch, [one * 9, one * 9, []])
    half = talk.ask("a")
    said = next(half) + next(half)
    half.close()
    assert talk.turns == [Message("user", "a"), Message("assistant", said)]
    talk.ask("b").close()
    assert len(talk.turns) == 2
    assert "".join(talk.ask("c")) == "".join(talk.tokenizer.decode(one * 9))
    assert script.prompts[-1] == talk.prompt_ids([*talk.turns[:2], Message("user", "c")])
    assert "".join(talk.ask("d")) == ""
    assert talk.turns[-1] == Message("assistant", "")
    assert talk.cut is None
    talk.reset()
    assert talk.turns == []


def test_a_conversation_that_fills_the_positions_is_told_and_not_cut(folder, monkeypatch):
    talk = Talk(folder)
    one = talk.tokenizer._ids(" word")[:1]
    script = Script(monkeypatch, [one * 1000])
    list(talk.ask("a"))
    assert talk.cut == "the model's 128 positions are full; /reset begins anew"
    before = talk.turns
    assert len(script.prompts[0]) + len(talk.tokenizer._ids(before[-1].content)) == 128
    with pytest.raises(DataError, match=r"would have 1\d\d tokens, and the model has 128 positions"):
        list(talk.ask("b"))
    assert talk.turns == before


def test_a_system_prompt_that_the_template_leaves_out_is_refused(folder, tmp_path, tiny_model_folder):
    deaf = chat_folder(tmp_path / "deaf", "qwen", tiny_model_folder)
    (deaf / "chat_template.jinja").write_text(
        "{%- for m in messages if m.role != 'system' %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{%- endfor %}{{- '<|im_start|>assistant\n' if add_generation_prompt }}"
    )
    talk = Talk(deaf)
    with pytest.raises(DataError, match=r"message 1 \(system\): its text is not in what the chat template writes"):
        talk.set_system("Be brief")
    assert talk.system is None
    talk.set_system("")


def test_a_folder_without_a_template_needs_a_name_and_the_date_is_todays(tmp_path, tiny_model_folder):
    bare = chat_folder(tmp_path / "bare", "qwen", tiny_model_folder)
    template = bare / "chat_template.jinja"
    source = template.read_text()
    template.unlink()
    with pytest.raises(ModelError, match="has no chat template; name one by --template"):
        Talk(bare)
    named = Talk(bare, template="chatml").prompt_ids([Message("user", "a")])
    template.write_text("{{- '<|im_start|>' + strftime_now('%Y-%m-%d') + '\n' }}" + source)
    dated = Talk(bare).prompt_ids([Message("user", "a")])
    assert ChatTokenizer.from_folder(bare).decode(dated).startswith(f"<|im_start|>{date.today()}\n")
    assert dated[-len(named) :] == named
