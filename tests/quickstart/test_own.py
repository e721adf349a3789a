"""A quickstart on one's own files: what the minutes and the measured speed decide."""

from dataclasses import replace

import numpy as np
import pytest

from tsugiki.errors import RecipeError
from tsugiki.quickstart import own
from tsugiki.quickstart.corpora import Corpus
from tsugiki.quickstart.own import flops_per_token, make_plan, parameters
from tsugiki.quickstart.recipes import EMBEDDED

CORPORA = [
    Corpus("ja-books", ["x"], "ja", "target", 1_600, 58_000_000, 0.02),
    Corpus("en-books", ["y"], "en", "replay", 1_700, 33_000_000, 0.02),
    Corpus("code", ["z"], "other", "other", 500, 9_000_000, 0.06),
]


LENGTHS = [np.full(200, 12_000), np.full(200, 6_500), np.full(30, 6_000)]
"""Tokens of the held-out documents of each."""


GERMAN = [replace(CORPORA[0], name="de-books", language="de"), *CORPORA[1:]]
"""A language whose pieces would change English: the vocabulary stays."""


def plan_for(minutes, speed, lengths=LENGTHS, corpora=CORPORA):
    return make_plan(lengths, own._first_guess(minutes, corpora), speed, 60.0 * minutes)


def speed_of(plan, speed, minutes):
    """Tokens a second of a plan's largest model, where `speed` was measured on the smallest base."""
    smallest = replace(own._first_guess(minutes, CORPORA), added=0)
    return speed * flops_per_token(smallest) / flops_per_token(plan)


def test_the_vocabulary_grows_where_the_language_has_its_own_script():
    plan, german = plan_for(15, 4_000), plan_for(15, 4_000, corpora=GERMAN)
    assert (plan.vocabulary, plan.added) == (8192, 4096)
    assert plan.steps["without-extension"] == plan.steps["continued"]
    assert german.added == 0
    assert list(german.steps) == ["base", "continued", "without-replay"]
    # the base's tokenizer sees as little of the new language as real ones, if it is to grow
    assert plan.tokenizer_target_bytes < 100_000 < german.tokenizer_target_bytes


def test_little_text_gives_few_pieces_in_whole_multiples():
    little = [replace(CORPORA[0], size=100_000), *CORPORA[1:]]
    added = own._first_guess(15, little).added
    assert 0 < added <= 1_000
    assert added % 64 == 0


def test_more_time_or_speed_gives_a_larger_model_or_more_steps():
    plans = [plan_for(10, 4_000), plan_for(30, 4_000), plan_for(30, 16_000), plan_for(300, 16_000)]
    work = [flops_per_token(p) * sum(p.steps.values()) for p in plans]
    assert work == sorted(work)
    assert [parameters(p) for p in plans] == sorted(parameters(p) for p in plans)
    assert parameters(plans[-1]) > 4 * parameters(plans[0])


@pytest.mark.parametrize("minutes", [15, 30, 120])
@pytest.mark.parametrize("speed", [2_000, 8_000])
@pytest.mark.parametrize("corpora", [CORPORA, GERMAN])
def test_the_parts_fit_into_the_time(minutes, speed, corpora):
    plan = plan_for(minutes, speed, corpora=corpora)
    training = sum(plan.steps.values()) * plan.batch * plan.sequence_length / speed_of(plan, speed, minutes)
    assert 0.55 * 60 * minutes < training < 60 * minutes


def seconds_of_evaluation(plan, speed, minutes, lengths):
    """Seven validations of the plan's documents, each window's tokens scored with half a window before them."""
    tokens = sum(int(length) for source in lengths for length in source[: plan.eval_documents])
    return 7 * 2 * tokens / (3 * speed_of(plan, speed, minutes))


@pytest.mark.parametrize(
    "lengths",
    [
        LENGTHS,
        [np.full(24, 333_000), np.full(200, 300)],  # a megabyte each
        [np.r_[300, np.full(20, 300), 400_000, np.full(100, 300)], np.full(150, 300)],  # one long one among short ones
        [np.full(24, 50), np.full(24, 50)],
    ],
)
def test_evaluation_never_takes_more_than_a_third_of_the_time(lengths):
    for minutes in (5, 30, 120):
        for speed in (3_000, 30_000):
            try:
                plan = plan_for(minutes, speed, lengths)
            except RecipeError as error:
                assert "scoring one held-out document" in str(error)  # noqa: PT017
                least = replace(own._first_guess(minutes, CORPORA), eval_documents=1)
                assert seconds_of_evaluation(least, speed, minutes, lengths) > 20 * minutes
                continue
            assert 1 <= plan.eval_documents <= 200
            evaluation = seconds_of_evaluation(plan, speed, minutes, lengths)
            tokens = sum(plan.steps.values()) * plan.batch * plan.sequence_length
            assert evaluation < 20 * minutes
            assert evaluation + tokens / speed_of(plan, speed, minutes) < 60 * minutes


def test_documents_too_long_for_the_minutes_are_an_error_that_says_so():
    with pytest.raises(RecipeError, match=r"would take 9\.9 of the 5\.0 minutes.*Cut them into shorter ones"):
        plan_for(5, 3_000, [np.full(24, 333_000), np.full(200, 300)])


def test_held_out_lengths_are_those_of_the_store_in_its_order(tmp_path):
    from tsugiki.corpus.store import DOCUMENT
    from tsugiki.corpus.store_writer import StoreWriter

    lengths = [5, 2, 9, 4]
    (tmp_path / "data" / "base" / "ja-books").mkdir(parents=True)
    writer = StoreWriter(tmp_path / "data" / "base" / "ja-books" / "held_out", 100)
    writer.add_documents(np.arange(20, dtype=np.int32), np.array(lengths), np.zeros(4, DOCUMENT))
    writer.close()
    assert own.held_out_lengths(tmp_path, CORPORA[0]).tolist() == lengths


def test_too_little_time_is_an_error_that_says_so():
    with pytest.raises(RecipeError, match=r"too few at 300 tokens/s; give --minutes more"):
        plan_for(4, 300, [np.full(24, 300), np.full(24, 300)])


def test_parameters_are_those_of_the_model():
    from transformers import AutoConfig, AutoModelForCausalLM

    from tsugiki.quickstart.base import architecture
    from tsugiki.training.flops import flops_per_token as counted

    for plan in (EMBEDDED, plan_for(30, 8_000)):
        config = architecture(
            plan.vocabulary + plan.added, hidden_size=plan.hidden_size, layers=plan.layers, heads=plan.heads,
            sequence_length=plan.sequence_length,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
        assert parameters(plan) == pytest.approx(model.num_parameters(), rel=0.01)
        assert flops_per_token(plan) == pytest.approx(counted(model, plan.sequence_length), rel=0.01)


def test_a_directory_with_another_quickstart_is_refused(tmp_path):
    (tmp_path / "base.yaml").write_text("")
    with pytest.raises(RecipeError, match="another quickstart; give another --run-dir"):
        own.own_corpora_and_plan(tmp_path, tmp_path / "texts", 30, None, print)


def test_the_same_command_continues_and_another_one_is_refused(tmp_path):
    from dataclasses import asdict

    from tsugiki.files import write_json

    kept = {
        "question": {"corpora": "texts", "minutes": 30.0},
        "corpora": [asdict(c) for c in CORPORA],
        "plan": asdict(EMBEDDED),
    }
    write_json(tmp_path / "plan.json", kept)
    from pathlib import Path

    assert own.own_corpora_and_plan(tmp_path, Path("texts"), 30.0, None, print) == (CORPORA, EMBEDDED)
    with pytest.raises(RecipeError, match="holds a quickstart on texts of 30 minutes"):
        own.own_corpora_and_plan(tmp_path, Path("texts"), 60.0, None, print)


ENGLISH = {"en": "It was the dog of the man in the house. "}


def write_texts(folder, lines):
    folder.mkdir()
    for language, line in lines.items():
        documents = [f'{{"text": "{number} {line * 100}"}}\n' for number in range(200)]
        (folder / f"{language}-books.jsonl").write_text("".join(documents), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "grows"), [("ja", "古い家に犬と住む人。", True), ("de", "Der Hund lebt. ", False)]
)
def test_a_vocabulary_that_cannot_grow_is_said_to_stay(name, text, grows, tmp_path, monkeypatch):
    write_texts(tmp_path / "texts", {name: text, **ENGLISH})
    limits = {}
    monkeypatch.setattr(own, "write_tokenizer", lambda *_, **options: limits.update(options["limits"]))
    monkeypatch.setattr(own, "_calibrate", lambda directory, corpora, first, console: (first, 4_000.0, 10.0))
    monkeypatch.setattr(own, "held_out_lengths", lambda directory, corpus: np.full(30, 300))
    said = []
    _, plan = own.own_corpora_and_plan(tmp_path / "run", tmp_path / "texts", 15, None, said.append)
    assert (plan.added > 0) is grows
    assert (limits["target"] < 100_000) is grows  # as little of it as real bases have seen
    stays = [line for line in said if line.startswith("vocabulary stays the base's: de is no language")]
    assert len(stays) == (0 if grows else 1)
    (line,) = [line for line in said if line.startswith("plan")]
    assert ("more; " in line) is grows
    assert line.count(" + ") == (3 if grows else 2)


def test_growing_the_vocabulary_takes_its_time_from_the_training(tmp_path, monkeypatch):
    """Its own seconds, a second preparation and a fourth run: all from the same minutes."""
    write_texts(tmp_path / "texts", {"ja": "古い家に犬と住む人。", **ENGLISH})
    monkeypatch.setattr(own, "write_tokenizer", lambda *_, **options: None)
    monkeypatch.setattr(own, "held_out_lengths", lambda directory, corpus: np.full(30, 300))
    seconds = []
    monkeypatch.setattr(own, "make_plan", lambda held_out, first, speed, left: seconds.append(left) or first)
    for preparing in (10.0, 110.0):
        monkeypatch.setattr(own, "_calibrate", lambda d, c, first, o, p=preparing: (first, 4_000.0, p))
        own.own_corpora_and_plan(tmp_path / f"run-{preparing}", tmp_path / "texts", 15, None, lambda _: None)
    assert seconds[0] - seconds[1] == pytest.approx(100, abs=5)
    assert seconds[0] == pytest.approx(15 * 60 - 4 * own.START_SECONDS - own.EXTENSION_SECONDS - 10, abs=5)
