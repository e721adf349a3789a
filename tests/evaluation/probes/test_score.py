"""Probes and texts against a loop over the plain model's logits, choice by choice."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extended_tokenizers import byte_level_pair, sentencepiece_pair

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.probes import score as score_module
from tsugiki.evaluation.probes.items import Probe, ProbeItem
from tsugiki.evaluation.probes.score import ProbeResult, TextResult, figures, probe_model
from tsugiki.evaluation.probes.suite import quick_suite
from tsugiki.model.bits_per_byte import score_documents
from tsugiki.model.loss import TrainingModel

PROBES = [
    Probe(probe.name, probe.title, probe.language, probe.version, probe.items[::9]) for probe in quick_suite(["ja", "en"])
]  # fmt: skip
TEXTS = {
    "ja": ["川は自分が作った谷を覚えている。", "", "朝"],
    "none": [""],
    "en": ["She wrote down what the river showed."],
}


def ask(
    model: TrainingModel, tokenizer: TextTokenizer, *, probes: Sequence[Probe] = (), texts: Any = None, **settings: Any
) -> list[ProbeResult | TextResult] | None:
    """Through the model as training holds it."""
    score = partial(score_documents, model, **{"bos_id": tokenizer.bos_id} | settings)
    return probe_model(lambda documents, starts: score(documents, scored_from=starts), tokenizer, probes, texts)


def naive_nats(plain: Any, context: list[int], continuation: list[int]) -> float:
    """Of the continuation, in one forward of everything."""
    ids = [*context, *continuation]
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    return -sum(float(logits[place - 1, ids[place]]) for place in range(len(context), len(ids)))


@pytest.fixture(scope="module")
def results(model: TrainingModel, tokenizer: TextTokenizer) -> list[ProbeResult | TextResult]:
    found = ask(model, tokenizer, context=400, batch_tokens=1000, probes=PROBES, texts=TEXTS)
    assert found is not None
    return found


def test_every_choice_scores_as_alone_and_the_best_by_byte_is_the_answer(
    results: list[ProbeResult | TextResult], plain: Any, tokenizer: TextTokenizer
) -> None:
    right = 0
    for probe, result in zip(PROBES, results[: len(PROBES)], strict=True):
        assert isinstance(result, ProbeResult)
        assert result.ids == [item.id for item in probe.items]
        for row, item in enumerate(probe.items):
            context = [tokenizer.bos_id, *tokenizer.encode(item.context)]
            nats = []
            for choice in item.choices:
                whole = [tokenizer.bos_id, *tokenizer.encode(item.context + choice)]
                after = whole[len(context) :] if whole[: len(context)] == context else None
                nats.append(naive_nats(plain, context, after or tokenizer.encode(choice)))
            bits = [nat / math.log(2) / len(choice.encode()) for nat, choice in zip(nats, item.choices, strict=True)]
            np.testing.assert_allclose(result.choice_bits[row], bits, rtol=1e-5)
            assert result.correct[row] == (int(np.argmin(bits)) == item.label)
            assert result.nats[row] == pytest.approx(nats[item.label], rel=1e-5)
            assert result.bytes[row] == len(item.truth.encode())
            right += int(result.correct[row])
    assert 0 < right < sum(len(probe.items) for probe in PROBES)


def test_figures_are_those_of_all_items_together(results: list[ProbeResult | TextResult]) -> None:
    logged = figures(results)
    for result in results[: len(PROBES)]:
        assert isinstance(result, ProbeResult)
        bits = float(result.nats.sum()) / math.log(2) / int(result.bytes.sum())
        expected = {"accuracy": result.correct.mean(), "chance": 0.25, "bits_per_byte": bits, "items": len(result.ids)}
        assert logged[result.name] == pytest.approx(expected)


def test_texts_are_scored_whole_and_empty_ones_left_out(
    results: list[ProbeResult | TextResult], plain: Any, tokenizer: TextTokenizer
) -> None:
    found = results[len(PROBES) :]
    assert [result.name for result in found] == ["ja", "en"]
    for result in found:
        texts = [text for text in TEXTS[result.name] if text]
        nats = [naive_nats(plain, [tokenizer.bos_id], tokenizer.encode(text)) for text in texts]
        np.testing.assert_allclose(result.nats, nats, rtol=1e-5)
        assert result.bytes.tolist() == [len(text.encode()) for text in texts]
        bits = sum(nats) / math.log(2) / sum(len(text.encode()) for text in texts)
        assert result.figures()["bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_batches_of_another_size_give_the_same_scores(
    results: list[ProbeResult | TextResult], model: TrainingModel, tokenizer: TextTokenizer
) -> None:
    one = ask(model, tokenizer, context=400, batch_tokens=1, probes=PROBES[:2])
    assert one is not None
    for alone, batched in zip(one, results[:2], strict=True):
        np.testing.assert_allclose(alone.nats, batched.nats, rtol=1e-5)


def test_a_long_context_loses_its_beginning(model: TrainingModel, plain: Any, tokenizer: TextTokenizer) -> None:
    item = ProbeItem("1", "The valley remembers the river. " * 20 + "So", (" do I.", " does he."), 0)
    found = ask(model, tokenizer, context=40, batch_tokens=80, probes=[Probe("long", "", "en", 1, (item,))])
    assert found is not None
    context, choice = tokenizer.encode(item.context), tokenizer.encode(" do I.")
    ids = [*context, *choice][-41:]
    assert found[0].nats[0] == pytest.approx(naive_nats(plain, ids[: -len(choice)], choice), rel=1e-5)


def test_choices_that_score_alike_share_the_point(
    load: Callable[[Path], TrainingModel], tiny_language_model_folder: Path, tokenizer: TextTokenizer
) -> None:
    """A model that likes every token as well as any other is at chance where all choices are as long."""
    level = load(tiny_language_model_folder)
    with torch.no_grad():
        level.hf.get_output_embeddings().weight.zero_()
    digits = ProbeItem("1", "x", ("5", "6", "7", "8"), 2)
    found = ask(level, tokenizer, context=64, batch_tokens=64, probes=[Probe("p", "", "en", 1, (digits,))])
    assert found is not None
    assert found[0].figures()["accuracy"] == pytest.approx(0.25)


def test_what_stands_before_a_text_is_what_was_asked_for(
    model: TrainingModel, plain: Any, tokenizer: TextTokenizer
) -> None:
    ids = tokenizer.encode("朝の市場")
    for before in (tokenizer.eos_id, 7):
        found = ask(model, tokenizer, context=64, batch_tokens=64, texts={"ja": ["朝の市場"]}, bos_id=before)
        assert found is not None
        assert found[0].nats[0] == pytest.approx(naive_nats(plain, [before], ids), rel=1e-5)


def test_a_stop_gives_none_and_nothing_gives_nothing(model: TrainingModel, tokenizer: TextTokenizer) -> None:
    answers = iter([False, True])
    assert ask(model, tokenizer, context=64, batch_tokens=64, probes=PROBES[:1], stop=lambda: next(answers)) is None
    assert ask(model, tokenizer, context=64, batch_tokens=64) == []


def test_random_state_and_mode_of_the_model_are_left_alone(model: TrainingModel, tokenizer: TextTokenizer) -> None:
    model.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert ask(model, tokenizer, context=64, batch_tokens=640, probes=PROBES[:3]) is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("make", [sentencepiece_pair, byte_level_pair])
def test_a_piece_across_the_join_takes_nothing_from_a_choice(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """川は is one piece of each extension; は has its own tokens and bytes all the same."""
    for tokenizer in make(tmp_path / make.__name__):
        item = ProbeItem("1", "谷もまた川", ("は", "を"), 0)
        texts = score_module._choices(Probe("p", "", "ja", 1, (item,)), tokenizer)
        whole = tokenizer.encode("谷もまた川")
        for text, choice in zip(texts, item.choices, strict=True):
            assert text.ids[: text.scored_from] == whole
            assert tokenizer.decode(text.ids) == "谷もまた川" + choice
            assert (len(text.ids) > text.scored_from, text.size) == (True, 3)


@pytest.mark.parametrize("make", [sentencepiece_pair, byte_level_pair])
def test_every_built_in_choice_has_tokens_that_spell_it(make: Callable[[Path], Any], tmp_path: Path) -> None:
    for tokenizer in make(tmp_path / make.__name__):
        for probe in quick_suite(["ja"]):
            choices = [(item.context, choice) for item in probe.items for choice in item.choices]
            for text, (context, choice) in zip(score_module._choices(probe, tokenizer), choices, strict=True):
                assert tokenizer.decode(text.ids) == context + choice
                assert 0 < text.scored_from < len(text.ids)
