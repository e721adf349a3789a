"""Held-out losses against a loop over the texts as they stand in the sources' files."""

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_project import plain_model

from tsugiki.training.stage import describe_run
from tsugiki.training.validation import validate

DOCUMENTS = 3


def test_what_a_validation_will_read_is_said_before_the_first_step(open_tiny):
    run = open_tiny(**{"training.eval_documents": DOCUMENTS, "training.eval_steps": 1})
    said: list[str] = []
    run.say = said.append
    describe_run(run)
    for name, scores in validate(run).items():
        assert f"held out   {name}: {DOCUMENTS} documents, {scores['tokens']:,} tokens at each validation" in said


def lines_of(store) -> list[int]:
    return store.documents["line"].tolist()


def test_held_out_losses_equal_a_loop_over_the_texts_of_the_held_out_documents(open_tiny):
    """Every document alone and whole, after BOS; neither BOS nor EOS scored; bytes of UTF-8."""
    run = open_tiny(
        **{"data.sequence_length": 1024, "model.architecture.max_position_embeddings": 1024,
           "training.eval_documents": DOCUMENTS, "training.micro_batch_size": 2},
    )  # fmt: skip
    found = validate(run)
    plain = plain_model(run).eval()
    assert set(found) == {"en", "ja"}
    for name, scores in found.items():
        source = run.sources[name]
        texts = Path(run.recipe.data.sources[name].path[0]).read_text("utf-8").splitlines()
        assert not set(lines_of(source.held_out)) & set(lines_of(source.train))
        nats = tokens = size = 0.0
        for line in lines_of(source.held_out)[:DOCUMENTS]:
            text = json.loads(texts[line - 1])["text"]
            ids = torch.tensor([[run.tokenizer.bos_id, *run.tokenizer.encode(text)]])
            assert ids.shape[1] <= 1025  # one window
            with torch.no_grad():
                guesses = plain(input_ids=ids[:, :-1], use_cache=False).logits[0].double().log_softmax(-1)
            nats -= sum(float(guess[target]) for guess, target in zip(guesses, ids[0, 1:].tolist(), strict=True))
            tokens, size = tokens + ids.shape[1] - 1, size + len(text.encode("utf-8"))
        assert (scores["documents"], scores["tokens"], scores["bytes"]) == (DOCUMENTS, tokens, size)
        assert scores["nats"] == pytest.approx(nats, rel=1e-5)
        assert scores["nats_per_token"] == pytest.approx(nats / tokens, rel=1e-5)
        assert scores["perplexity"] == pytest.approx(math.e ** (nats / tokens), rel=1e-4)
        assert scores["bits_per_byte"] == pytest.approx(math.log2(math.e) * nats / size, rel=1e-5)
