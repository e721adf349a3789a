"""Keys of conversations: what they take, what is refused where there are none, what a resume may change."""

import json

import pytest

from tsugiki.errors import RecipeError
from tsugiki.recipe_file import json_schema, parse_recipe, show
from tsugiki.recipe_resume import compare_for_resume


def recipe_of(source=None, chat=None, vocabulary=None, **data):
    values = {
        "run_dir": "r", "model": {"name_or_path": "owner/model"},
        "data": {"sequence_length": 32, "sources": {
            "talk": {"path": "talk.jsonl", "weight": 1, "format": "chat", **(source or {})}}, **data},
        "training": {"max_steps": 4, "global_batch_size": 4, "micro_batch_size": 1, "learning_rate": 1e-3, "save_steps": 1},
    }  # fmt: skip
    if chat is not None:
        values["data"]["chat"] = chat
    if vocabulary is not None:
        values["vocabulary"] = vocabulary
    return parse_recipe(json.dumps(values), "recipe", [], False)


def test_defaults_are_said_by_the_resolved_recipe_which_is_read_back():
    recipe = recipe_of()
    assert recipe.has_chat
    assert recipe.data.sources["talk"].is_chat
    assert (recipe.data.chat.template, recipe.data.chat.rewritten_history) == (None, "each")
    again = parse_recipe(
        show(recipe_of({"loss_on": ["user", "assistant"], "loss_weight": 2}, {"template": "qwen"})), "r", [], False
    )
    assert again.data.sources["talk"].loss_on == ["user", "assistant"]
    assert again.data.chat.template == "qwen"


TEXT = {"format": "auto"}
CONTRADICTIONS = [
    ({**TEXT, "loss_on": "all"}, None, "data.sources.talk.loss_on: belongs to conversations (format: chat)"),
    ({**TEXT, "loss_weight": 2}, None, "data.sources.talk.loss_weight: needs a source with format: chat"),
    (TEXT, {"append_eos": True}, "data.chat.append_eos: belongs to conversations; no source has format: chat"),
    (TEXT, {"template": "qwen"}, "data.chat.template: belongs to conversations"),
    ({"text_key": "body"}, None, "data.sources.talk.text_key: belongs to text"),
    ({}, {"add_template_tokens": True}, "data.chat.add_template_tokens: adds the markers of a named template"),
    ({"loss_on": "assistent"}, None, "did you mean assistant?"),
    ({"loss_on": []}, None, "data.sources.talk.loss_on: must be one of assistant, completion, last, all, or a list of"),
    ({"loss_on": ["robot"]}, None, "not the text 'robot'"),
    ({"loss_on": {"a": 1}}, None, "data.sources.talk.loss_on: must be one of"),
    ({"loss_weight": 0}, None, "data.sources.talk.loss_weight: must be more than 0"),
    ({}, {"template": "chatmll"}, "did you mean chatml?"),
    ({}, {"rewritten_history": "never"}, "data.chat.rewritten_history: must be one of each, last, refuse"),
    ({}, {"tools": [3]}, "data.chat.tools[0]: must be a mapping"),
    ({}, {"tools": [{"function": "search"}]}, "data.chat.tools[0]: must be the schema of a function"),
    ({"format": "sharegpt"}, None, "; write chat, which tells the layout by a record's keys"),
    ({"train_on_inputs": True}, None, "say whose tokens are trained: data.sources.NAME.loss_on"),
    ({}, {"chat_template": "qwen"}, "chat_template is called template here"),
]


@pytest.mark.parametrize(("source", "chat", "said"), CONTRADICTIONS)
def test_what_is_wrong_with_a_key_is_said_at_the_key(source, chat, said):
    with pytest.raises(RecipeError) as caught:
        recipe_of(source, chat)
    (line,) = str(caught.value).splitlines()
    assert said in line


def test_a_loss_by_conversations_needs_conversations_that_are_trained_on():
    by_conversation = ["training.loss_normalization=conversation"]
    drawn = recipe_of()
    text = show(drawn).replace("format: chat", "format: auto")
    watched = {"talk": {"path": "t", "weight": 0, "format": "chat"}, "text": {"path": "t", "weight": 1}}
    for without in (text, show(recipe_of(sources=watched, held_out=0.1))):
        with pytest.raises(
            RecipeError, match=r"training\.loss_normalization: .*none is trained on: leave it out \(token"
        ):
            parse_recipe(without, "recipe", by_conversation, False)
    stages = [{"start_step": 2, "weights": {"talk": 1, "text": 1}}]
    later = recipe_of(sources=watched, held_out=0.1, stages=stages)
    for recipe in (drawn, later):
        found = parse_recipe(show(recipe), "recipe", by_conversation, False)
        assert found.training.loss_normalization == "conversation"


def test_text_beside_conversations_may_have_a_loss_weight():
    sources = {
        "talk": {"path": "talk.jsonl", "weight": 1, "format": "chat"},
        "text": {"path": "text.jsonl", "weight": 1, "loss_weight": 0.5},
    }
    assert recipe_of(sources=sources).data.sources["text"].loss_weight == 0.5


def test_pieces_are_learned_from_text_alone():
    vocabulary = {"add": 100, "language": "ja"}
    with pytest.raises(RecipeError, match="has nothing to learn from"):
        recipe_of({"language": "ja"}, vocabulary=vocabulary)
    with pytest.raises(RecipeError, match="talk holds conversations; pieces are learned from text"):
        recipe_of(vocabulary={**vocabulary, "sources": ["talk"]})


@pytest.mark.parametrize(
    ("source", "chat", "key"),
    [
        ({"loss_on": "last"}, None, "data.sources.talk.loss_on"),
        ({"loss_weight": 2}, None, "data.sources.talk.loss_weight"),
        ({}, {"template": "qwen"}, "data.chat.template"),
        ({}, {"template_kwargs": {"a": 1}}, "data.chat.template_kwargs"),
        ({}, {"rewritten_history": "last"}, "data.chat.rewritten_history"),
    ],
)
def test_a_resumed_run_keeps_what_decides_its_conversations(source, chat, key):
    begun = recipe_of().model_dump(mode="json")
    (found,) = compare_for_resume(begun, recipe_of(source, chat), 2)
    assert (found.key, found.kind) == (key, "fixed")


def test_a_run_that_was_begun_without_these_keys_goes_on():
    recipe = recipe_of(TEXT)
    begun = recipe.model_dump(mode="json")
    del begun["data"]["chat"], begun["training"]["num_epochs"]
    for key in ("loss_on", "loss_weight"):
        del begun["data"]["sources"]["talk"][key]
    assert compare_for_resume(begun, recipe, 2) == []


def test_editors_know_the_words_of_loss_on_and_the_names_of_templates():
    schema = json.dumps(json_schema())
    assert '"enum": ["assistant", "completion", "last", "all"]' in schema
    assert "mistral-tekken" in schema
