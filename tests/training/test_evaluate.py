"""`training.evaluate`: when the model is asked, that asking changes no bit of the run, and what a stop leaves owed."""

import itertools
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_project import Recorder, batch_of, tensors_of

from tsugiki.evaluation.probes import while_training
from tsugiki.evaluation.probes.while_training import probes_of, questions
from tsugiki.training.loop import measures_due, train, train_step

ASKED = {"training.evaluate.every": 2, "training.eval_steps": "null"}
NOT_ASKED = {"training.eval_steps": "null"}
ITEMS = 2


@pytest.fixture(autouse=True)
def few_items(monkeypatch):
    """A few items of each kind, so that a tiny model is asked in a second."""
    whole = while_training.quick_suite

    def cut(*arguments):
        return [
            while_training.Probe(probe.name, probe.title, probe.language, probe.version, probe.items[:ITEMS])
            for probe in whole(*arguments)
        ]

    monkeypatch.setattr(while_training, "quick_suite", cut)


def questions_of(run):
    sources = {name: replace(source, language=name) for name, source in run.sources.items()}
    return questions(run.recipe, sources, run.tokenizer)


@pytest.mark.parametrize("validated", [True, False])
def test_the_model_is_asked_before_the_first_step_at_intervals_and_at_the_end(open_tiny, validated):
    run = open_tiny(
        **{"training.max_steps": 5, "training.evaluate.every": 2, "training.eval_steps": 3 if validated else "null"}
    )
    recorder = Recorder()
    owed = measures_due(run.recipe.training, run.step, at_end=False)
    assert owed == ({"evaluation", "validation"} if validated else {"evaluation"})
    assert train(run, [recorder], questions_of(run), owed)
    assert [step for step, _ in recorder.evaluations] == [0, 2, 4, 5]
    assert [step for step, _ in recorder.validations] == ([0, 3, 5] if validated else [])
    names = ["arithmetic", *(f"{kind}_{language}" for language in ("en", "ja") for kind in ("order", "copying", "cloze", "word_problems"))]  # fmt: skip
    for _, figures in recorder.evaluations:
        assert list(figures) == names
        assert all(found["items"] == ITEMS and found["chance"] == 0.25 for found in figures.values())
    first, last = recorder.evaluations[0][1], recorder.evaluations[-1][1]
    assert all(last[name]["bits_per_byte"] < first[name]["bits_per_byte"] for name in names)


def test_a_recipe_that_asks_for_nothing_has_no_questions_and_is_not_asked(open_tiny):
    run, recorder = open_tiny(**{"training.max_steps": 2}), Recorder()
    assert questions_of(run) is None
    assert train(run, [recorder], lambda _: pytest.fail("asked"))
    assert recorder.evaluations == []


def random_states():
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


@pytest.mark.parametrize("case", ["fp32-master", "bf16-stochastic", "dropout", "router"])
def test_asking_changes_no_bit_of_weights_moments_losses_or_random_state(open_tiny, tiny_config, tmp_path, case):
    architecture = {
        "dropout": tiny_config("phi", attention_dropout=0.3, embd_pdrop=0.3, resid_pdrop=0.3), "router": "mixtral",
    }.get(case)  # fmt: skip
    settings = {"training.precision": case if "-" in case else "fp32", "training.learning_rate": 0.02}
    settings |= {"training.micro_batch_size": 3, "training.max_steps": 4, "training.save_steps": 2}
    states, logs = {}, {}
    for name, asked in (("asked", ASKED), ("not asked", NOT_ASKED)):
        run = open_tiny(architecture, **{"run_dir": tmp_path / name, **settings, **asked})
        logs[name], seen = Recorder(), []
        evaluate = questions_of(run)

        def watched(run, evaluate=evaluate, seen=seen):
            before = random_states()
            figures = evaluate(run)
            assert random_states() == before
            seen.append(run.step)
            return figures

        train(
            run, [logs[name]], watched if evaluate else None, measures_due(run.recipe.training, run.step, at_end=False)
        )
        assert seen == ([0, 2, 4] if evaluate else [])
        states[name] = tensors_of(run)
        run.checkpointer.load(run.checkpointer.newest_whole(), run.tensors())
        states[f"{name}, saved"] = tensors_of(run)
    expected = states["not asked"]
    for name, found in states.items():
        assert found.keys() == expected.keys()
        assert [key for key in found if not torch.equal(found[key], expected[key])] == [], name
    losses = {name: [(figures["loss"], figures["grad_norm"]) for figures in log.steps] for name, log in logs.items()}
    assert losses["asked"] == losses["not asked"]


def test_the_check_above_would_see_a_question_that_draws_a_number_or_learns(open_tiny, tmp_path):
    """Torch's own state is set at each step, so that only a question inside a step could move it; a gradient would."""
    states = {}
    for name in ("plain", "learnt"):
        run = open_tiny(**{"run_dir": tmp_path / name, **NOT_ASKED})
        for step in (1, 2):
            if name == "learnt" and step == 2:
                (micro,) = batch_of(run, 1).micro_batches
                run.model(micro.inputs[:1], micro.targets[:1]).loss_sum.backward()
            train_step(run, batch_of(run, step))
        states[name] = tensors_of(run)
    assert any(not torch.equal(states["plain"][key], states["learnt"][key]) for key in states["plain"])


@pytest.mark.parametrize("at_step", [0, 2, 4])
def test_a_stop_while_the_model_is_asked_breaks_it_off_saves_and_owes_it(open_tiny, at_step):
    run = open_tiny(**{"training.max_steps": 4, "training.save_steps": 100, **ASKED})
    asked = itertools.count()
    evaluate, inside = questions_of(run), []

    def watched(run):
        inside.append(run.step)
        return evaluate(run)

    def requested(_reserve_seconds):
        return bool(inside) and inside[-1] == at_step and run.step == at_step and next(asked) >= 2

    run.stop = SimpleNamespace(requested=requested)
    recorder = Recorder()
    assert train(run, [recorder], watched, measures_due(run.recipe.training, run.step, at_end=False)) is False
    assert run.step == at_step
    assert [step for step, _ in recorder.evaluations] == list(range(0, at_step, 2))
    if at_step:
        assert run.checkpointer.newest_whole().step == at_step
    else:
        assert run.checkpointer.newest_whole() is None


def test_a_source_in_another_language_gives_questions_of_its_own(open_tiny, monkeypatch):
    """From held-out documents alone."""
    monkeypatch.undo()  # all items: no model is asked
    run = open_tiny(**ASKED)
    source = replace(run.sources["en"], language="de")
    sources = {"web": source, "ja": replace(run.sources["ja"], language="ja"), "other": run.sources["ja"]}
    probes = {probe.name: probe for probe in probes_of(sources, run.tokenizer)}
    assert {"order_web", "copying_web", "next_web", "cloze_ja", "cloze_en"} <= probes.keys()
    assert not any("other" in name for name in probes)  # its language is not known
    held_out = [run.tokenizer.decode(source.held_out_tokens(index)) for index in range(source.held_out.document_count)]
    for item in probes["next_web"].items:
        assert sum(item.context + item.truth in text for text in held_out) == 1
