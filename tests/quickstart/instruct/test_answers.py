"""How answers of the instruction quickstart are judged, and what a model is asked, against plain transformers."""

import pytest
import torch
from chat_models import chat_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsugiki.quickstart.instruct import answers as module
from tsugiki.quickstart.instruct.answers import Answer, ask, language_of, scores
from tsugiki.quickstart.instruct.examples import Example


def example(question, answer, *, language="en", arguments=()):
    return Example(language, "kind", (("user", question), ("assistant", answer)), arguments)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("12, 5", None),
        ("", None),
        ("Yes.", "en"),
        ("はい。", "ja"),
        ("東京", "ja"),
        ("「cat」です。", "ja"),
        ("I say 木.", "en"),
    ],
)
def test_the_language_is_that_of_most_letters(text, language):
    assert language_of(text) == language


def test_shares_count_what_each_can_say():
    asked = [
        example("a", "Yes."), example("b", "はい。", language="ja"),
        example("c", "12", arguments=(("addition", 5, 7),)), example("d", "cat", arguments=(("copied_words", "cat"),)),
    ]  # fmt: skip
    before = [Answer(one, "の", False) for one in asked]
    after = [
        Answer(asked[0], "No.", True), Answer(asked[1], "Yes", True), Answer(asked[2], " 12\n", True), Answer(asked[3], "cat", False),
    ]  # fmt: skip
    stop, language, exact = scores(before, after)
    assert [(score.answers, score.before.estimate, score.after.estimate) for score in (stop, language, exact)] == [
        (4, 0, 0.75), (3, 1 / 3, 2 / 3), (2, 0, 0.5),
    ]  # fmt: skip
    assert stop.gain.low < 0.75 < stop.gain.high


def test_answers_are_those_of_plain_transformers(tmp_path, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 8)
    folder = chat_folder(tmp_path / "qwen", "qwen", tiny_model_folder)
    asked = [example("Hi", "x"), example("接ぎ木は何ですか。", "x"), Example("en", "kind", (
        ("system", "Be brief"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "x"),
    ))]  # fmt: skip
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    for one, answer in zip(asked, ask(folder, "qwen", asked), strict=True):
        prompt = tokenizer.apply_chat_template(one.prompt(), add_generation_prompt=True, return_tensors="pt")[
            "input_ids"
        ]
        stops = [2, tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
        with torch.no_grad():
            made = model.generate(prompt, do_sample=False, max_new_tokens=8, eos_token_id=stops, pad_token_id=0)
        new = made[0, prompt.shape[1] :].tolist()
        ended = new[-1] in stops
        assert answer.stopped == ended
        assert answer.text == tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=True)
