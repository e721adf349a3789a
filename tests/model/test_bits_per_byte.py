"""Scores of documents against scoring each alone, token by token."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.model.bits_per_byte import bits_per_byte, plan_batches, plan_windows, score_documents
from tsugiki.model.loss import TrainingModel

Load = Callable[..., TrainingModel]
Folder = Callable[..., Path]


def documents(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(8)
    return [torch.randint(3, 80, (n,), generator=generator).tolist() for n in lengths]


def naive(plain: Any, ids: list[int]) -> list[float]:
    """Nats of each token but the first, whole document in one forward."""
    with torch.no_grad():
        log_probabilities = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    return [-float(log_probabilities[place, target]) for place, target in enumerate(ids[1:])]


@pytest.mark.parametrize("name", ["mistral", "gemma3", "mixtral", "gpt_neox"])
def test_short_documents_score_as_each_alone(
    name: str, load: Load, load_plain: Callable[..., Any], tiny_model_folder: Folder
) -> None:
    """Padding on the right changes nothing, BOS is context and not scored."""
    texts = documents(1, 20, 7, 33, 2)
    plain = load_plain(tiny_model_folder(name)).eval()
    scores = score_documents(load(tiny_model_folder(name)), texts, bos_id=1, context=40, batch_tokens=100)
    assert scores is not None
    expected = [sum(naive(plain, [1, *text])) for text in texts]
    np.testing.assert_allclose(scores.nats, expected, rtol=1e-5)
    assert scores.tokens.tolist() == [1, 20, 7, 33, 2]


def test_long_document_is_scored_in_windows_with_half_a_window_of_context(
    load: Load, load_plain: Callable[..., Any], tiny_model_folder: Folder
) -> None:
    (text,) = documents(29)
    plain, ids = load_plain(tiny_model_folder("llama")).eval(), [1, *text]
    expected = sum(naive(plain, ids[:9]))  # the first eight tokens after BOS, with all that is before them
    for end in (13, 17, 21, 25, 29, 30):  # then four at a time, at the end of a window of eight inputs
        expected += sum(naive(plain, ids[end - 9 : end])[-1 if end == 30 else -4 :])
    scores = score_documents(load(tiny_model_folder("llama")), [text], bos_id=1, context=8, stride=4)
    assert scores is not None
    assert scores.nats[0] == pytest.approx(expected, rel=1e-6)
    assert scores.tokens[0] == 29


@pytest.mark.parametrize("bos", [1, None])
def test_only_a_continuation_is_scored_after_its_context(
    bos: int | None, load: Load, load_plain: Callable[..., Any], tiny_model_folder: Folder
) -> None:
    """Four continuations of other lengths, two after a context that is longer than the window."""
    texts, starts = documents(12, 9, 30, 30), [10, 1, 27, 12]
    plain, first = load_plain(tiny_model_folder("llama")).eval(), [] if bos is None else [bos]
    rows = [[*first, *text] for text in texts]
    expected = [sum(naive(plain, rows[0])[-2:]), sum(naive(plain, rows[1])[-8:])]
    expected.append(sum(naive(plain, rows[2][-17:])[-3:]))  # the last 16 inputs
    begin = len(first) + 12  # eight tokens at a time at the ends of windows of 16 inputs; then what is left
    pieces = [(begin + 8, 8), (begin + 16, 8), (len(rows[3]), 2)]
    expected.append(sum(sum(naive(plain, rows[3][end - 17 : end])[-count:]) for end, count in pieces))
    scores = score_documents(
        load(tiny_model_folder("llama")), texts, bos_id=bos, context=16, scored_from=starts, batch_tokens=40
    )
    assert scores is not None
    assert scores.tokens.tolist() == [2, 8, 3, 18]
    np.testing.assert_allclose(scores.nats, expected, rtol=1e-5)


def test_dropout_is_off_while_documents_are_scored_and_on_again_after(
    load: Load, load_plain: Callable[..., Any], tiny_model_folder: Folder
) -> None:
    folder = tiny_model_folder("phi", attention_dropout=0.3, embd_pdrop=0.3, resid_pdrop=0.3)
    model, (text,) = load(folder), documents(20)
    scores = score_documents(model, [text], bos_id=1, context=40)
    assert scores is not None
    assert scores.nats[0] == pytest.approx(sum(naive(load_plain(folder).eval(), [1, *text])), rel=1e-5)
    assert model.training
    assert all(module.training for module in model.modules())


def test_without_bos_the_first_token_is_not_scored(load: Load, tiny_model_folder: Folder) -> None:
    scores = score_documents(load(tiny_model_folder("llama")), documents(0, 1, 5), bos_id=None, context=8)
    assert scores is not None
    assert scores.tokens.tolist() == [0, 0, 4]
    assert scores.nats[:2].tolist() == [0.0, 0.0]


def test_asked_to_stop_gives_none_and_leaves_the_model_in_its_mode(load: Load, tiny_model_folder: Folder) -> None:
    model = load(tiny_model_folder("llama"))
    answers = iter([False, True])
    assert (
        score_documents(model, documents(5, 5, 5), bos_id=1, context=8, batch_tokens=5, stop=lambda: next(answers))
        is None
    )
    assert model.training


@given(st.lists(st.integers(0, 70), max_size=8), st.integers(2, 16), st.data())
def test_every_token_but_the_first_is_scored_once_with_enough_context(
    lengths: list[int], context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context // 2))
    scored: list[tuple[int, int]] = []
    for window in plan_windows(lengths, context, stride):
        assert 1 <= window.length <= context
        assert window.end <= lengths[window.document]
        scored += [(window.document, token) for token in range(window.scored_from, window.end)]
        before = window.scored_from - window.start
        assert before >= min(window.scored_from, math.ceil(context / 2))
    assert sorted(scored) == [(d, token) for d, length in enumerate(lengths) for token in range(1, length)]


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 80)), max_size=8), st.integers(2, 16), st.data())
def test_every_token_of_a_continuation_is_scored_once_with_as_much_context_as_there_can_be(
    documents: list[tuple[int, int]], context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context // 2))
    lengths, starts = [length for length, _ in documents], [start for _, start in documents]
    scored: list[tuple[int, int]] = []
    for window in plan_windows(lengths, context, stride, starts):
        assert 1 <= window.length <= context
        assert window.end <= lengths[window.document]
        scored += [(window.document, token) for token in range(window.scored_from, window.end)]
        assert window.scored_from - window.start >= min(window.scored_from, context - stride + 1)
        if window.end == lengths[window.document] and window.start > 0:
            assert window.length == context  # a short continuation has a whole window before it
    expected = [(d, token) for d, (length, start) in enumerate(documents) for token in range(max(1, start), length)]
    assert sorted(scored) == expected


@given(st.lists(st.integers(1, 70), max_size=12), st.integers(1, 64))
def test_batches_hold_every_window_once_and_stay_within_the_limit(lengths: list[int], limit: int) -> None:
    windows = plan_windows(lengths, 16)
    batches = plan_batches(windows, limit)
    assert sorted(map(repr, windows)) == sorted(repr(window) for batch in batches for window in batch)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(window.length for window in batch) <= limit


def test_stride_that_leaves_too_little_context_is_refused() -> None:
    with pytest.raises(ValueError, match="less than half"):
        plan_windows([10], 8, 5)


def test_bits_per_byte_of_a_fair_coin_per_byte_is_one() -> None:
    assert bits_per_byte(10 * math.log(2), 10) == pytest.approx(1.0)
