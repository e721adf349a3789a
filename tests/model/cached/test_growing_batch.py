"""Rows that come and go leave no more columns in the cache than the longest of them needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tsugiki.model.cached.call import CachedCall
from tsugiki.model.cached.growing_batch import GrowingBatch


def read(call: CachedCall, tokens: list[int]) -> GrowingBatch:
    past = call.nothing()
    call(past, torch.tensor([tokens]), torch.arange(len(tokens))[None])
    return GrowingBatch(past, torch.ones(1, len(tokens), dtype=torch.bool), [len(tokens)])


def test_columns_of_rows_that_have_left_go_when_others_join(
    load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    hf = load_plain(tiny_model_folder("llama")).eval()
    call = CachedCall(hf)
    batch = read(call, list(range(20, 50))).join(read(call, [5, 6, 7]))
    batch.step(call, [8, 9])
    assert (batch.lengths, batch.past.columns) == ([31, 4], 31)
    batch.drop(0)
    assert (batch.lengths, batch.past.columns) == ([4], 31)
    batch.join(read(call, [11, 12]))
    assert (batch.lengths, batch.past.columns) == ([4, 2], 4)
    assert batch.seen.tolist() == [[True] * 4, [True, True, False, False]]
    logits = batch.step(call, [10, 13])
    for row, tokens in enumerate([[5, 6, 7, 9, 10], [11, 12, 13]]):
        with torch.no_grad():
            expected = hf(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(logits[row], expected, rtol=1e-4, atol=1e-5)
