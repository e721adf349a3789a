"""Held-out conversations answered: what is asked against the stores and transformers' own templates, what is said against
transformers' own generation."""

import json

import pytest
import yaml
from chat_models import chat_folder

from tsugiki import sample_answers
from tsugiki.corpus.prepared import open_prepared
from tsugiki.pipeline import run_prepare
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import load_tokenizer
from tsugiki.sample_answers import answers, find_questions

RECORDS = 260
"""Enough for a held-out part."""
COMMITS = {"model": None, "tokenizer": None}
KINDS = [
    lambda n: [("user", f"Hi {n}"), ("assistant", f"Yes {n}"), ("user", "more"), ("assistant", "no")],
    lambda n: [("system", "Be brief"), ("user", f"接ぎ木は {n}？"), ("assistant", f"木をつなぐ {n}")],
    lambda n: [("user", f"<|eot_id|> {n} </s>"), ("assistant", "a marker"), ("user", "and?"), ("assistant", f"b {n}")],
]


def messages(number):
    said = [{"role": role, "content": text} for role, text in KINDS[number % 3](number)]
    if number % 3 == 2:
        said[1]["weight"] = 0.0
    return said


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model_folder):
    place = tmp_path_factory.mktemp("answers")
    return {name: chat_folder(place / name, name, tiny_model_folder) for name in ("llama3", "qwen")}


@pytest.fixture(scope="module")
def talks(folders, tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("talks"), folders["llama3"])


def prepared(place, base, **source):
    """(recipe, tokenizer, sources) of conversations."""
    lines = [json.dumps({"messages": messages(number)}, ensure_ascii=False) for number in range(RECORDS)]
    (place / "talk.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    talk = {"path": str(place / "talk.jsonl"), "format": "chat", "weight": 1, "language": "ja", **source}
    recipe = parse_recipe(yaml.safe_dump({
        "run_dir": str(place / "run"), "model": {"name_or_path": str(base)},
        "data": {"sequence_length": 128, "held_out": 0.55, "workers": 1, "sources": {"talk": talk}},
        "training": {"max_steps": 1, "global_batch_size": 1, "micro_batch_size": 1, "learning_rate": 1e-3,
                     "save_steps": 1},
    }))  # fmt: skip
    run_prepare(recipe)
    tokenizer = load_tokenizer(recipe)
    return recipe, tokenizer, open_prepared(recipe, tokenizer)


def asked(recipe, tokenizer, sources, count=999):
    return find_questions(recipe, tokenizer.folder, sources, count)


def as_dicts(question):
    return [{"role": one.role, "content": one.content} for one in question.conversation.messages]


def by_transformers(folder, question):
    """The prompt as the library makes it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder).apply_chat_template(
        as_dicts(question), add_generation_prompt=True, sanitize_control_tokens=True, return_dict=True
    )["input_ids"]


def said_by_transformers(folder, prompt, stops, budget):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=budget,
        eos_token_id=stops or None, pad_token_id=0,
    )[0, len(prompt) :].tolist()  # fmt: skip
    return made


def test_questions_are_what_stands_before_the_first_trained_answer(folders, talks):
    recipe, tokenizer, sources = talks
    store, questions = sources["talk"].held_out, asked(recipe, tokenizer, sources)
    assert len(questions) == store.document_count > 5
    numbers = {json.dumps(messages(n)[0]["content"] + messages(n)[1]["content"]): n for n in range(RECORDS)}
    kinds = set()
    for index, question in enumerate(questions):
        ids, weights = store.document(index).tolist(), store.weights(index)
        trained = int((weights > 0).argmax())
        assert question.ids == ids[:trained] == by_transformers(folders["llama3"], question)
        end = trained + int((weights[trained:] == 0).argmax()) if (weights[trained:] == 0).any() else len(ids)
        assert question.reference == tokenizer.decode(ids[trained : end - 1])
        whole = [*as_dicts(question), {"role": "assistant", "content": question.reference}]
        number = numbers[json.dumps(whole[0]["content"] + whole[1]["content"])]
        kinds.add(number % 3)
        assert whole == [{k: v for k, v in one.items() if k != "weight"} for one in messages(number)][: len(whole)]
        assert len(whole) == (2, 3, 4)[number % 3]  # where the first answer has no weight, the second
    assert kinds == {0, 1, 2}
    assert asked(recipe, tokenizer, sources, 2) == questions[:2]


def test_where_no_answer_is_trained_or_the_file_is_another_nothing_is_asked(folders, tmp_path):
    (tmp_path / "users").mkdir()
    assert asked(*prepared(tmp_path / "users", folders["llama3"], loss_on=["user"])) == []
    recipe, tokenizer, sources = prepared(tmp_path, folders["llama3"], loss_on="all")
    questions = asked(recipe, tokenizer, sources)
    assert questions[0].ids == by_transformers(folders["llama3"], questions[0])
    path = tmp_path / "talk.jsonl"
    path.write_text(path.read_text("utf-8").replace("Yes", "Oui"), "utf-8")
    left = asked(recipe, tokenizer, sources)
    assert 0 < len(left) < len(questions)
    assert not any(question.reference.startswith(("Yes", "Oui")) for question in left)
    path.unlink()
    assert asked(recipe, tokenizer, sources) == []


def test_both_models_say_the_likeliest_tokens_up_to_an_end(folders, tmp_path, monkeypatch):
    """The base has another tokenizer here, as it has where the vocabulary was extended."""
    monkeypatch.setattr(sample_answers, "BUDGET", 9)
    recipe, tokenizer, sources = prepared(tmp_path, folders["qwen"])
    questions = asked(recipe, tokenizer, sources, 3)
    final, base = folders["qwen"], folders["llama3"]
    first = said_by_transformers(final, questions[0].ids, [], 9)
    monkeypatch.setattr("tsugiki.model.generate.end_tokens", lambda *named: frozenset({first[4]}))
    monkeypatch.setattr(sample_answers, "load_base_tokenizer", lambda *_: type(tokenizer).from_folder(base))
    found = answers(recipe, COMMITS, base, final, questions)
    assert found[0]["after"]["stopped"]
    for one, question in zip(found, questions, strict=True):
        assert one["reference"] == question.reference
        assert one["messages"] == as_dicts(question)
        assert (one["source"], one["language"], one["earlier"]) == ("talk", "ja", 0)
        for key, folder, prompt in (
            ("after", final, question.ids), ("before", base, by_transformers(base, question))
        ):  # fmt: skip
            made = said_by_transformers(folder, prompt, [first[4]], 9)
            stopped = made[-1] == first[4]
            text = type(tokenizer).from_folder(folder).decode(made[: len(made) - stopped], skip_special=True)
            assert one[key] == {"text": text.rstrip("\ufffd").strip(), "stopped": stopped}


def test_the_end_token_of_the_template_ends_an_answer(folders, talks, monkeypatch):
    recipe, tokenizer, sources = talks
    ends = []

    class Silent:
        """Ends every answer before its first token."""

        def __init__(self, model, *, batch_tokens, stop_ids):
            ends.append(stop_ids)

        def generate(self, prompts, done):
            for number, _ in enumerate(prompts):
                done(number, [])

    monkeypatch.setattr("tsugiki.model.answers.CachedModel", Silent)
    found = answers(recipe, COMMITS, folders["llama3"], folders["llama3"], asked(recipe, tokenizer, sources, 1))
    assert found[0]["after"] == found[0]["before"] == {"text": "", "stopped": True}
    assert all(tokenizer.engine.token_id("<|eot_id|>") in stops for stops in ends)


def test_a_base_without_the_templates_tokens_or_without_weights_is_not_asked(folders, talks, monkeypatch):
    monkeypatch.setattr(sample_answers, "BUDGET", 2)
    recipe, tokenizer, sources = talks
    questions = asked(recipe, tokenizer, sources, 1)
    assert answers(recipe, COMMITS, None, folders["llama3"], questions)[0]["before"] is None
    monkeypatch.setattr(sample_answers, "markers_to_add", lambda _, base: ["<|im_start|>"])
    found = answers(recipe, COMMITS, folders["llama3"], folders["llama3"], questions)
    assert found[0]["before"] is None
    assert found[0]["after"] is not None


def test_long_texts_and_many_messages_are_shown_in_part(talks, monkeypatch):
    monkeypatch.setattr(sample_answers, "MOST_CHARACTERS", 4)
    monkeypatch.setattr(sample_answers, "MOST_MESSAGES", 2)
    questions = asked(*talks)
    long = next(one for one in questions if len(one.conversation.messages) == 3).as_json()
    assert long["earlier"] == 1
    assert [one["content"] for one in long["messages"]] == ["a ma …", "and?"]
