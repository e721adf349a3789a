"""A run in epochs: counted sample by sample, against what the prepared data and the weights give."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus.mixture import Mixture
from tsugiki.errors import RecipeError
from tsugiki.recipe_checks import total_steps
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_length import describe_length, in_steps
from tsugiki.recipe_resume import compare_for_resume


def recipe_of(sources, epochs=2, stages=(), batch=4, **training):
    values = {
        "run_dir": "r", "model": {"architecture": {"model_type": "mistral"}, "tokenizer": "t"},
        "data": {"sequence_length": 32, "held_out": 0.1, "stages": list(stages), "sources": {
            name: {"path": f"{name}.jsonl", "weight": weight, "format": form} for name, (weight, form) in sources.items()
        }},
        "training": {"num_epochs": epochs, "global_batch_size": batch, "micro_batch_size": 1, "learning_rate": 1e-3,
                     "save_steps": 1, **training},
    }  # fmt: skip
    return parse_recipe(json.dumps(values), "recipe", [], False)


def stores_of(**windows):
    return {name: SimpleNamespace(window_count=lambda _length, count=count: count) for name, count in windows.items()}


BOTH = {"talk": (1, "chat"), "text": (3, "auto")}


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.floats(0.1, 5), st.integers(1, 9),
    st.floats(0.1, 4), st.integers(0, 4),
)  # fmt: skip
def test_an_epoch_is_over_when_the_chat_sources_have_given_all_their_packs(
    talk, other, text, epochs, batch, weight, text_weight
):
    sources = {"talk": (weight, "chat"), "other": (1, "chat"), "text": (text_weight, "auto")}
    recipe, stores = recipe_of(sources, epochs, batch=batch), stores_of(talk=talk, other=other, text=text)
    steps = total_steps(in_steps(recipe, stores))
    mixture = Mixture.from_recipe(recipe, stores)
    drawn = mixture.locate(range(steps * batch)).source.tolist()
    chats = [mixture.names[source] in ("talk", "other") for source in drawn]
    assert sum(chats) >= epochs * (talk + other)
    assert sum(chats[: (steps - 1) * batch]) < epochs * (talk + other)


def test_without_conversations_all_sources_that_are_drawn_are_counted():
    sources = {"a": (1, "auto"), "b": (1, "auto"), "watched": (0, "auto")}
    recipe = recipe_of(sources, 3)
    found = in_steps(recipe, stores_of(a=10, b=14, watched=1000))
    assert total_steps(found) == 3 * 24 // 4
    assert found.training.num_epochs is None
    assert describe_length(recipe, found) == "3 epochs of a, b: 18 steps"


def test_a_recipe_in_steps_stays_as_it_is():
    recipe = recipe_of(BOTH, None, max_steps=7)
    assert in_steps(recipe, {}) is recipe


def test_later_weights_are_counted_and_a_source_that_is_no_longer_drawn_is_told():
    later = [{"start_step": 10, "weights": {"talk": 1, "text": 0}}]
    assert total_steps(in_steps(recipe_of(BOTH, 1, later), stores_of(talk=40, text=9))) == 10 + 30 // 4 + 1
    never = [{"start_step": 10, "weights": {"talk": 0, "text": 1}}]
    with pytest.raises(RecipeError, match="1 epochs of talk are never reached"):
        in_steps(recipe_of(BOTH, 1, never), stores_of(talk=40, text=9))


def test_keys_that_contradict_the_steps_are_told_with_their_number():
    recipe = recipe_of(BOTH, 1, warmup_steps=100)
    with pytest.raises(RecipeError, match=r"training.warmup_steps: 100 is longer than .* \(1 epochs are 40 steps\)"):
        in_steps(recipe, stores_of(talk=40, text=9))


def test_exactly_one_length_is_given():
    with pytest.raises(RecipeError, match=r"training\.num_epochs: excludes max_steps"):
        recipe_of(BOTH, 1, max_steps=3)
    with pytest.raises(RecipeError, match="has no length: give max_steps, max_tokens or num_epochs"):
        recipe_of(BOTH, None)
    with pytest.raises(RecipeError, match="num_epochs says no number of steps before the data are prepared"):
        total_steps(recipe_of(BOTH, 1))


def test_more_epochs_continue_a_run_and_fewer_than_it_has_behind_it_do_not():
    stores = stores_of(talk=40, text=9)
    two, three, one = (in_steps(recipe_of(BOTH, epochs, lr_scheduler="constant"), stores) for epochs in (2, 3, 1))
    begun = two.model_dump(mode="json")
    assert {one.kind for one in compare_for_resume(begun, three, 60)} == {"extending"}
    assert {one.kind for one in compare_for_resume(begun, one, 60)} == {"fixed"}
