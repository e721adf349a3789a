"""Held-out losses against a loop over the texts as they stand in the sources' files."""

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_project import plain_model

from tsugiki.corpus.planned import trained_shares
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
    return store.documents()["line"].tolist()


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


def test_held_out_conversations_equal_a_loop_over_them_token_by_token(open_tiny, chatting_tiny):
    """Each whole and alone; text and the end of an answer told apart; bytes of the answers as they stand in the file."""
    run = open_tiny(given={"prepared": chatting_tiny}, **{"training.eval_documents": 8, "training.micro_batch_size": 2})
    scores, source, plain = validate(run)["talk"], run.sources["talk"], plain_model(run).eval()
    records = [
        json.loads(line) for line in Path(run.recipe.data.sources["talk"].path[0]).read_text("utf-8").splitlines()
    ]
    text, every, at_ends, within, size = [], [], [], [], 0
    for index in range(8):
        said = records[lines_of(source.held_out)[index] - 1]["messages"]
        answers = [message["content"] for message in said if message["role"] == "assistant"]
        size += sum(len(f" {answer}".encode()) for answer in answers)  # with the space that the template writes
        ids = source.held_out.document(index).tolist()
        with torch.no_grad():
            guesses = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
        trained = []
        for place in range(1, len(ids)):
            if source.held_out.weights(index)[place] == 0:
                continue
            nats, of_end = -guesses[place - 1, ids[place]].item(), guesses[place - 1, 2].exp().item()
            every.append(nats)
            trained.append(ids[place])
            (at_ends if ids[place] == 2 else within).append(of_end)
            text += [nats] if ids[place] != 2 else []
        assert trained.count(2) == len(answers)  # </s>
        assert run.tokenizer.decode([token for token in trained if token != 2]).replace(" ", "") == "".join(answers)
    assert (scores["documents"], scores["tokens"], scores["bytes"]) == (8, len(text), size)
    assert scores["nats"] == pytest.approx(sum(text), rel=1e-5)
    assert scores["bits_per_byte"] == pytest.approx(math.log2(math.e) * sum(text) / size, rel=1e-5)
    assert scores["loss"] == pytest.approx(sum(every) / len(every), rel=1e-5)
    assert scores["end_probability"] == pytest.approx(sum(at_ends) / len(at_ends), rel=1e-5)
    assert scores["false_end_probability"] == pytest.approx(sum(within) / len(within), rel=1e-5)


def test_the_share_of_trained_tokens_is_said_of_conversations_beside_text(open_tiny, chatting_tiny):
    run = open_tiny(given={"prepared": chatting_tiny}, **{"training.max_steps": 40})
    counts = {"talk": 0, "en": 0}
    for step in range(1, 41):
        batch = run.reader.read(run.mixture.sample_numbers(run.cut.places(step)))
        for row, name in enumerate(run.mixture.names[source] for source in batch.source):
            counts[name] += int((batch.targets[row] >= 0).sum())
    samples, length = 40 * run.recipe.training.global_batch_size, run.recipe.data.sequence_length
    shares = trained_shares(run.mixture, samples, run.sources, length)
    assert shares["talk"] == pytest.approx(counts["talk"] / sum(counts.values()), rel=0.02)
    assert sum(shares.values()) == pytest.approx(1)
    said: list[str] = []
    run.say = said.append
    describe_run(run)
    ends = f", {shares['talk']:.2%} of the trained tokens"
    assert any(line.startswith("data       talk: ") and line.endswith(ends) for line in said)
