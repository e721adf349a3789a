"""Shots as published, and what leaves the evaluation where there is nothing to take shots from."""

import json
import random
from dataclasses import replace

import pytest

from tsugiki.errors import DataError
from tsugiki.evaluation.data import SETS, LoadedSet, load_set
from tsugiki.evaluation.shots import DRAWS, RESERVED, Stream, arrange, describe, shuffled


def made_up(name, items, shots=0, published=False, total=None):
    return LoadedSet(
        name=name,
        test=[{"id": f"t{i}", "question": f"Q{i}", "answer": f"A{i}"} for i in range(items)],
        shots=[{"id": f"s{i}", "question": f"q{i}", "answer": f"a{i}"} for i in range(shots)],
        files={},
        published_shots=published,
        published_items=True,
        notes=[],
        total=items if total is None else total,
    )


# Rows of the raw training files, counted from 0, as published (llm-jp-eval 1.3.0's recipe; JSQuAD v1.1 has 62,859).
@pytest.mark.parametrize(
    ("rows", "first_four"),
    [(8939, [1011, 4986, 4239, 1005]), (1059, [5, 200, 425, 149]), (62859, [42740, 29433, 54061, 58804])],
)
def test_fixed_shots_are_the_published_rows_of_the_training_file(rows, first_four):
    assert [row["id"] for row in shuffled([{"id": i} for i in range(rows)])[:4]] == first_four


@pytest.mark.parametrize("profile", ["swallow", "default"])
def test_shots_of_jcommonsenseqa_are_the_published_questions(evaldata, profile):
    lines = (evaldata / "jcommonsenseqa/train-v1.1.json").read_text(encoding="utf-8").splitlines()
    expected = [json.loads(lines[row])["question"] for row in (1011, 4986, 4239, 1005)]
    pool = arrange(profile, load_set("jcommonsenseqa", evaldata)).pool
    assert [shot["question"] for shot in pool[:4]] == expected


def replay_japanese_harness(tests, pool, k, own):
    """The loop of its evaluator: one generator shuffles the documents, then draws for each in turn."""
    generator = random.Random()
    generator.seed(42)
    documents = list(tests)
    generator.shuffle(documents)
    for document in documents:
        if own:
            drawn = [shot for shot in generator.sample(pool, k + 1) if shot != document][:k]
        else:
            drawn = generator.sample(pool, k)
        yield document, drawn


def replay_lm_eval_0_4_2(tests, pool, k, extra):
    """The sampler of lm-eval 0.4.2: one generator a task, seeded with 1234."""
    generator = random.Random(1234)
    for document in tests:
        yield document, [shot for shot in generator.sample(pool, k + extra) if shot != document][:k]


@pytest.mark.parametrize("name", sorted(DRAWS))
@pytest.mark.parametrize("k", [1, 4])
def test_draws_equal_a_replay_of_the_published_loop(name, k):
    loaded = made_up(name, items=60, shots=8, published=name not in ("xwinograd_en", "wmt20_en_ja", "wmt20_ja_en"))
    arrangement = arrange("swallow", loaded)
    draw, pool = arrangement.draw, arrangement.pool
    own = name.startswith(("wmt", "xwino"))
    if name in ("xlsum_ja", "mgsm_ja", "wmt20_en_ja", "wmt20_ja_en"):
        expected = list(replay_japanese_harness(loaded.test, loaded.test if own else loaded.shots, k, own))
    else:
        extra = {"triviaqa": 1, "hellaswag": 1, "squad2": 1}.get(name, 0)
        expected = list(replay_lm_eval_0_4_2(loaded.test, loaded.test if own else loaded.shots, k, extra))
    assert arrangement.items == [document for document, _ in expected]
    stream = Stream(draw, len(arrangement.items), len(pool))
    for place, (document, shots) in enumerate(expected):
        drawn = [pool[i] for i in stream.at(place, k)]
        assert [shot for shot in drawn if not (own and shot == document)][:k] == shots


def test_draws_do_not_depend_on_what_was_asked_before():
    draw = DRAWS["mgsm_ja"]
    in_order = [Stream(draw, 250, 8).at(place, 4) for place in range(20)]
    stream = Stream(draw, 250, 8)
    assert stream.at(7, 2) == Stream(draw, 250, 8).at(7, 2)  # other numbers of shots have draws of their own
    assert [stream.at(place, 4) for place in reversed(range(20))] == in_order[::-1]


def test_an_item_drawn_for_itself_leaves_xwinograd_with_one_shot_fewer():
    """As published: no spare shot is drawn there, since the task names a test split and no split for shots."""
    loaded = made_up("xwinograd_en", items=40)
    short = [len(shots) for _, shots in replay_lm_eval_0_4_2(loaded.test, loaded.test, 4, extra=0)]
    assert min(short) == 3


@pytest.mark.parametrize("profile", ["swallow", "default"])
def test_reserved_items_are_the_same_for_every_k_and_leave_the_evaluation(profile):
    loaded = made_up("openbookqa", items=500)
    arrangement = arrange(profile, loaded)
    reserved = {shot["id"] for shot in arrangement.pool}
    assert len(reserved) == RESERVED
    assert {item["id"] for item in arrangement.items} == {item["id"] for item in loaded.test} - reserved
    plans = [describe(profile, loaded, k) for k in (0, 4, RESERVED)]
    assert [len(plan.ids) for plan in plans] == [0, 4, RESERVED]
    assert plans[2].ids[:4] == plans[1].ids
    assert not any(plan.comparable for plan in plans)
    assert "16 test items give the shots and leave the evaluation" in "; ".join(plans[1].obstacles)


def test_reserved_items_do_not_depend_on_the_order_of_the_file():
    loaded = made_up("openbookqa", items=500)
    reverse = LoadedSet(**{**vars(loaded), "test": loaded.test[::-1]})
    assert describe("swallow", reverse, 4).ids == describe("swallow", loaded, 4).ids


def test_a_small_set_keeps_half_of_its_items():
    arrangement = arrange("default", made_up("openbookqa", items=7))
    assert (len(arrangement.items), len(arrangement.pool)) == (4, 3)


def test_the_default_profile_has_the_same_shots_for_every_item_and_a_random_order():
    loaded = made_up("gsm8k", items=300, shots=50, published=True)
    arrangement = arrange("default", loaded)
    assert arrangement.draw is None
    assert describe("default", loaded, 4).ids == [shot["id"] for shot in arrangement.pool[:4]]
    assert arrangement.items != loaded.test
    assert sorted(item["id"] for item in arrangement.items) == sorted(item["id"] for item in loaded.test)
    half = LoadedSet(**{**vars(loaded), "test": loaded.test[:150]})  # the order of those that remain stays
    remaining = {item["id"] for item in half.test}
    assert arrange("default", half).items == [item for item in arrangement.items if item["id"] in remaining]


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_result_is_comparable_with_published_items_and_shots_alone(name):
    own = name in ("xwinograd_en", "wmt20_en_ja", "wmt20_ja_en")
    k = 1 if name == "xlsum_ja" else 4
    complete = made_up(name, SETS[name].items, shots=20, published=not own)
    plan = describe("swallow", complete, k)
    assert plan.comparable
    assert plan.obstacles == []
    assert (plan.ids is None) == (name in DRAWS)

    assert describe("swallow", complete, k + 1).obstacles == [f"{k + 1} shots (published: {k})"]
    assert not describe("default", complete, k).comparable
    subset = describe("swallow", replace(complete, published_items=False), k)
    assert not subset.comparable
    assert subset.obstacles == [], "which items there are is the set's own to say"
    if not own:
        other = describe("swallow", made_up(name, SETS[name].items, shots=20, published=False), k)
        assert not other.comparable
        assert "shots from 20 other examples" in other.obstacles[0]


def test_too_many_shots_are_an_error_that_says_how_many_there_are():
    with pytest.raises(DataError, match=r"17 shots asked for, 16 there: lower --shots"):
        describe("default", made_up("openbookqa", items=500), 17)
    with pytest.raises(DataError, match=r"9 shots asked for, 8 items to draw from"):
        Stream(DRAWS["mgsm_ja"], 250, 8).at(0, 9)


@pytest.mark.parametrize(("name", "items"), sorted((name, one.items) for name, one in SETS.items()))
def test_real_sets_say_what_keeps_them_from_published_results(evaldata, name, items):
    if name == "xlsum_ja":
        pytest.skip("not among the real sets")
    loaded = load_set(name, evaldata)
    comparable = {
        "jcommonsenseqa",
        "jemhopqa",
        "niilc",
        "mgsm_ja",
        "wmt20_en_ja",
        "wmt20_ja_en",
        "xwinograd_en",
        "gsm8k",
    }
    plan = describe("swallow", loaded, 4)
    assert plan.comparable == (name in comparable), plan.obstacles
    leaving = 16 if name in ("openbookqa", "triviaqa", "hellaswag", "squad2") else 0
    assert len(arrange("swallow", loaded).items) == loaded.total - leaving
