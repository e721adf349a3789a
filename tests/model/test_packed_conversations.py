"""A batch of packs teaches what its conversations teach one by one, or its documents."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_conversations import conversation, write_conversations

from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.corpus.pack_table import make_packs
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.windows import IGNORE, WindowReader
from tsugiki.model.loss import TrainingModel

LENGTH = 24
SIZES = [(11, 4), (9, 8), (7, 3), (5, 2), (17, 6), (3, 1), (2, 1)]  # tokens, trained ones at the end


@pytest.mark.parametrize("by_conversation", [False, True], ids=["by token", "by conversation"])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_gradients_of_packs_equal_those_of_the_conversations_one_by_one(
    name: str,
    by_conversation: bool,
    tmp_path: Path,
    load: Callable[..., TrainingModel],
    load_plain: Callable[..., Any],
    tiny_model_folder: Callable[..., Path],
) -> None:
    talks = [conversation(17 * line, size, trained) for line, (size, trained) in enumerate(SIZES, start=1)]
    store = write_conversations(tmp_path / "chat", talks)
    packs = len(make_packs(store, LENGTH, divide=False))
    assert packs == 3
    mixture = Mixture(1, {"chat": packs}, [MixtureStage(0, {"chat": 1})])
    sources = {"chat": SimpleNamespace(train=store)}
    batch = WindowReader(sources, mixture, LENGTH, False, by_conversation=by_conversation).read(np.arange(packs))
    assert batch.target_count == sum(trained for _, trained in SIZES)

    model = load(tiny_model_folder(name))
    model(
        *(torch.from_numpy(part.copy()) for part in (batch.inputs, batch.targets, batch.positions, batch.weights))
    ).loss_sum.backward()

    plain = load_plain(tiny_model_folder(name))
    for talk in talks:
        ids = torch.tensor(talk.ids)[None]
        targets = torch.where(torch.tensor(talk.weights) > 0, ids[0], IGNORE)[1:]
        logits = plain(input_ids=ids, use_cache=False).logits[0, :-1]
        reduction = "mean" if by_conversation else "sum"
        torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction=reduction).backward()
    assert_equal_gradients(model, plain)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_gradients_of_packed_text_equal_those_of_the_documents_one_by_one(
    name: str,
    tmp_path: Path,
    load: Callable[..., TrainingModel],
    load_plain: Callable[..., Any],
    tiny_model_folder: Callable[..., Path],
) -> None:
    sizes = [11, 9, 60, 7, 24, 25, 5, 17, 49, 2, 1]
    drawn = np.random.default_rng(0)
    documents = [drawn.integers(3, 60, size) for size in sizes]
    writer = StoreWriter(tmp_path / "text", 64)
    for ids in documents:
        writer.add_document(ids)
    store = PackedStore(tmp_path / "text", writer.close())
    packs = len(make_packs(store, LENGTH, divide=True))
    mixture = Mixture(1, {"text": packs}, [MixtureStage(0, {"text": 1})])
    batch = WindowReader({"text": SimpleNamespace(train=store)}, mixture, LENGTH, False).read(np.arange(packs))
    assert batch.target_count == sum(size - 1 for size in sizes)

    model = load(tiny_model_folder(name))
    model(
        *(torch.from_numpy(part.copy()) for part in (batch.inputs, batch.targets, batch.positions))
    ).loss_sum.backward()

    plain = load_plain(tiny_model_folder(name))
    for ids in documents:
        for first in range(0, len(ids) - 1, LENGTH):  # of a long document, each window sees itself alone
            part = torch.tensor(ids[first : first + LENGTH + 1])
            logits = plain(input_ids=part[None, :-1], use_cache=False).logits[0]
            torch.nn.functional.cross_entropy(logits, part[1:], reduction="sum").backward()
    assert_equal_gradients(model, plain)


def assert_equal_gradients(model: TrainingModel, plain: Any) -> None:
    compared = 0
    for key, parameter in model.named_hf_parameters():
        expected = plain.get_parameter(key).grad
        if parameter.grad is not None and expected is not None:
            # Against fp64, packs are off by up to 8e-6 of a tensor's largest gradient, one by one by 3e-6.
            error = float((parameter.grad.full_tensor() - expected).abs().max())
            assert error <= 3e-5 * float(expected.abs().max()), key
            compared += 1
    assert compared == sum(parameter.grad is not None for parameter in plain.parameters())
