"""The loop against a training loop written out naively, and what it does with steps that are not finite."""

import math
import threading
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny_project import Recorder, batch_of, plain_model, tensors_of, weights_of, whole

from tsugiki.corpus.windows import IGNORE
from tsugiki.errors import DivergedError
from tsugiki.model.export import export
from tsugiki.recipe_inputs import Inputs, record_inputs
from tsugiki.training import batches as batches_module
from tsugiki.training import loop as loop_module
from tsugiki.training import validation as validation_module
from tsugiki.training.checkpoint_writer import Stager
from tsugiki.training.loop import train, train_step
from tsugiki.training.optimizer import Optimizer
from tsugiki.training.tracking import Console

KEPT = (64, 3, 40, 1, 64, 8)
"""How many positions of each of a step's windows are learnt from, below: uneven, so that a mean of means would show."""


def uneven(batch):
    """The step's batch with its windows' targets after the first KEPT left out."""
    micro_batches, by_source = [], np.zeros_like(batch.source_weights)
    for index, micro in enumerate(batch.micro_batches):
        targets = micro.targets.clone()
        for row, kept in enumerate(KEPT[2 * index : 2 * index + 2]):
            targets[row, kept:] = IGNORE
        counts = (targets != IGNORE).sum(1).numpy()
        np.add.at(by_source, micro.source.numpy(), counts)
        micro_batches.append(replace(micro, targets=targets, target_count=int(counts.sum())))
    return replace(batch, micro_batches=micro_batches, target_count=int(by_source.sum()), source_weights=by_source)


def naive_documents(run, number: int) -> list[tuple[int, torch.Tensor]]:
    """The window of a global sample as (place, tokens) of its documents, by hand: L + 1 tokens from window * L, cut
    before each document that begins inside."""
    drawn, length = run.mixture.locate(number), run.recipe.data.sequence_length
    store = run.sources[run.mixture.names[int(drawn.source[0])]].train
    first = int(drawn.window[0]) * length
    inside = [int(start) - first for start in store.document_starts[:-1] if first < start <= first + length]
    tokens = torch.tensor(store.read(first, first + length + 1).astype("int64"))
    return [(begin, tokens[begin:end]) for begin, end in pairwise([0, *inside, length + 1])]


@pytest.mark.parametrize("threshold", [0.1, 30.0], ids=["clipped", "not clipped"])
def test_three_steps_equal_a_loop_written_out_naively(open_tiny, threshold):
    """Moments are compared, since Adam's updates hardly depend on the scale of gradients."""
    run = open_tiny(
        **{
            "training.max_steps": 3, "training.max_grad_norm": threshold, "training.micro_batch_size": 2,
            "data.isolate_documents": "true", "data.sequence_length": 64, "training.lr_scheduler": "constant",
        }
    )  # fmt: skip
    settings = run.recipe.training
    naive = plain_model(run)
    decayed = [p for p in naive.parameters() if p.ndim > 1]
    others = [p for p in naive.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.95), eps=1e-8, foreach=False, fused=False)
    documents_seen = 0
    for step in (1, 2, 3):
        record = train_step(run, uneven(batch_of(run, step)))
        optimizer.zero_grad()
        nats, counts = torch.zeros(6), torch.zeros(6)
        for row in range(6):
            for begin, tokens in naive_documents(run, (step - 1) * 6 + row):
                count = min(len(tokens) - 1, KEPT[row] - begin)
                documents_seen += 1
                if count > 0:
                    logits = naive(input_ids=tokens[None, :-1], use_cache=False).logits[0]
                    nats[row] = nats[row] + F.cross_entropy(logits[:count], tokens[1 : count + 1], reduction="sum")
                    counts[row] += count
        loss = nats.sum() / counts.sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(naive.parameters(), threshold)
        assert 0.2 < norm < 15
        optimizer.step()
        assert record.targets == sum(record.source_weights) == counts.sum()
        assert record.loss == pytest.approx(loss.item(), rel=1e-5)
        assert record.grad_norm == pytest.approx(norm.item(), rel=1e-4)
        of = torch.from_numpy(run.mixture.locate(np.arange((step - 1) * 6, step * 6)).source.astype("int64"))
        assert record.source_nats == pytest.approx(torch.zeros(2).index_add(0, of, nats).tolist(), rel=1e-5)
        assert record.source_weights == torch.zeros(2).index_add(0, of, counts).tolist()
    assert documents_seen > 3 * 6
    ours, named = run.optimizer.tensors(), dict(naive.named_parameters())
    for name, tensor in weights_of(run).items():
        torch.testing.assert_close(tensor, named[name].detach(), rtol=1e-4, atol=2e-5, msg=name)
        for key in ("exp_avg", "exp_avg_sq"):
            found, expected = whole(ours[f"{name}.{key}"]), optimizer.state[named[name]][key]
            assert (found - expected).norm() <= 1e-4 * expected.norm(), f"{name}.{key}"


def naive_targets(run, number: int, by_conversation: bool) -> tuple[int, list[tuple[torch.Tensor, torch.Tensor]]]:
    """The source of a global sample, and what of it is read alone: tokens, and their weights in the loss."""
    drawn, length = run.mixture.locate(number), run.recipe.data.sequence_length
    source, window = int(drawn.source[0]), int(drawn.window[0])
    name = run.mixture.names[source]
    store = run.sources[name].train
    if name == "en":
        tokens = torch.tensor(store.read(window * length, (window + 1) * length + 1).astype("int64"))
        return source, [(tokens, torch.full((length + 1,), 0.25 / (length if by_conversation else 1)))]
    parts = []
    for index in store.packs(length)[window].documents:
        weights = torch.from_numpy(store.weights(index).copy())
        count = int((weights > 0).sum()) if by_conversation else 1
        parts.append((torch.tensor(store.document(index).astype("int64")), weights / count))
    return source, parts


@pytest.mark.parametrize("by", ["token", "conversation"])
def test_a_step_of_conversations_and_text_equals_one_over_each_of_them_alone(open_tiny, chatting_tiny, by):
    run = open_tiny(
        given={"prepared": chatting_tiny},
        **{
            "training.micro_batch_size": 2, "training.max_grad_norm": 100, "training.loss_normalization": by,
            "data.sources.en.loss_weight": 0.25,
        }
    )  # fmt: skip
    naive = plain_model(run)
    nats, weights, targets = torch.zeros(2), torch.zeros(2), 0
    for number in range(6):
        source, parts = naive_targets(run, number, by == "conversation")
        for tokens, own in parts:
            losses = F.cross_entropy(
                naive(input_ids=tokens[None, :-1], use_cache=False).logits[0], tokens[1:], reduction="none"
            )
            nats[source] = nats[source] + (losses * own[1:]).sum()
            weights[source] += own[1:].sum()
            targets += int((own[1:] > 0).sum())
    loss = nats.sum() / weights.sum()
    loss.backward()
    record = train_step(run, batch_of(run, 1))
    assert min(weights) > 0
    assert (record.targets, run.tokens) == (targets, targets)
    assert record.source_weights == pytest.approx(weights.tolist(), rel=1e-5)
    assert record.source_nats == pytest.approx(nats.tolist(), rel=1e-5)
    assert record.loss == pytest.approx(loss.item(), rel=1e-5)
    norm = torch.stack([parameter.grad.norm() for parameter in naive.parameters()]).norm()
    assert record.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    ours = run.optimizer.tensors()
    for name, parameter in naive.named_parameters():
        found = whole(ours[f"{name}.exp_avg"]) / 0.1  # of the first step: the gradient
        assert (found - parameter.grad).norm() <= 1e-4 * parameter.grad.norm(), name


EMBEDDINGS = {
    "mistral": ("model.embed_tokens.weight", "lm_head.weight"), "mistral-tied": ("model.embed_tokens.weight",),
    "qwen3": ("model.embed_tokens.weight",), "gemma2": ("model.embed_tokens.weight",),
    "granite": ("model.embed_tokens.weight", "lm_head.weight"), "mixtral": ("model.embed_tokens.weight", "lm_head.weight"),
    "phi": ("model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"),
    "gpt_neox": ("gpt_neox.embed_in.weight", "lm_head.weight"),
}  # fmt: skip
"""What a warm-up of the embeddings trains, by architecture: tied, untied, with a bias, under other names."""


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_first_then_everything_equals_a_loop_with_two_optimisers_groups(open_tiny, name):
    """Three steps of embeddings alone at 3 times the rate, then three of everything, by requires_grad. (Epsilon is above
    the rounding of gradients that are zero but for it, such as that of GPT-NeoX's biases of keys.)"""
    run = open_tiny(
        name,
        **{
            "training.embedding_warmup_steps": 3, "training.embedding_lr_factor": 3, "training.max_grad_norm": 0.1,
            "training.warmup_steps": 2, "training.learning_rate": 2e-3, "training.adam_epsilon": 1e-5,
            "training.router_aux_loss_coef": 0,
        }
    )  # fmt: skip
    naive, start = plain_model(run), weights_of(run)
    named = dict(naive.named_parameters())
    embeddings = [named[key] for key in EMBEDDINGS[name]]
    body = [parameter for key, parameter in named.items() if key not in EMBEDDINGS[name]]
    optimizers = [
        torch.optim.AdamW(
            [
                {"params": [p for p in part if p.ndim > 1], "weight_decay": 0.1},
                {"params": [p for p in part if p.ndim == 1], "weight_decay": 0.0},
            ],
            lr=0.0, betas=(0.9, 0.95), eps=1e-5, foreach=False, fused=False,
        )
        for part in (embeddings, body)
    ]  # fmt: skip
    for step in range(1, 7):
        for parameter in body:
            parameter.requires_grad_(step > 3)
        batch = batch_of(run, step)
        record = train_step(run, batch)
        rate = 2e-3 * step / 2 if step <= 2 else 1e-3 * (1 + math.cos(math.pi * (step - 2) / 4))
        for optimizer, factor in zip(optimizers, (3, 1), strict=True):
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = factor * rate
        (micro,) = batch.micro_batches
        logits = naive(input_ids=micro.inputs, use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), micro.targets.flatten()).backward()
        norm = torch.nn.utils.clip_grad_norm_(naive.parameters(), 0.1)
        for optimizer in optimizers:
            optimizer.step()
        assert record.grad_norm == pytest.approx(norm.item(), rel=1e-4)
        assert record.learning_rate == pytest.approx(rate, abs=1e-12)  # the schedule's, as it is logged
        found = weights_of(run)
        for key, parameter in named.items():
            if step <= 3 and key not in EMBEDDINGS[name]:
                assert torch.equal(found[key], start[key]), key
            torch.testing.assert_close(found[key], parameter.detach(), rtol=1e-4, atol=2e-5, msg=f"{key}, step {step}")
    counts = {key: tensor.item() for key, tensor in run.optimizer.tensors().items() if key.endswith(".step")}
    assert counts == {f"{key}.step": 6 if key in EMBEDDINGS[name] else 3 for key in named}


def test_an_update_waits_for_the_copy_of_the_checkpoint_before_it(open_tiny, monkeypatch):
    held = threading.Event()
    copy, update = Stager._copy, Optimizer.step

    def copy_late(*arguments):
        assert held.wait(60)
        return copy(*arguments)

    def copied_before_update(self, *arguments, **named):
        assert run.checkpointer._stager._copying is None
        update(self, *arguments, **named)

    monkeypatch.setattr(Stager, "_copy", copy_late)
    monkeypatch.setattr(Optimizer, "step", copied_before_update)
    run = open_tiny(**{"training.max_steps": 4, "training.save_steps": 100})
    held.set()
    train_step(run, batch_of(run, 1))
    at_step_1 = weights_of(run)
    held.clear()
    run.checkpointer.begin(run.step, run.tensors(), run.state())
    threading.Timer(0.5, held.set).start()  # well after the forward and backward of the next step have begun
    train_step(run, batch_of(run, 2))
    assert any(not torch.equal(tensor, at_step_1[name]) for name, tensor in weights_of(run).items())
    run.checkpointer.wait_and_commit()
    found = run.checkpointer.newest_whole()
    run.checkpointer.load(found, run.tensors())
    assert [name for name, tensor in weights_of(run).items() if not torch.equal(tensor, at_step_1[name])] == []


def test_cutting_the_batch_otherwise_changes_only_rounding(open_tiny):
    losses = {}
    for micro in (1, 2, 6):
        run = open_tiny(**{"training.micro_batch_size": micro})
        losses[micro] = [train_step(run, batch_of(run, step)).loss for step in (1, 2, 3)]
    assert losses[1] == pytest.approx(losses[6], rel=1e-5)
    assert losses[2] == pytest.approx(losses[6], rel=1e-5)


def test_every_step_is_made_with_the_schedules_rate_of_its_number(open_tiny):
    keys = {"training.warmup_steps": 2, "training.micro_batch_size": 2, "training.lr_scheduler": "linear"}
    run = open_tiny(**keys, **{"training.learning_rate": 4e-3, "training.min_lr": 0.0})
    for step, rate in enumerate((2e-3, 4e-3, 3e-3, 2e-3, 1e-3, 0.0), start=1):
        record = train_step(run, batch_of(run, step))
        assert (record.step, record.learning_rate) == (step, pytest.approx(rate))
        assert {group["lr"] for group in run.optimizer.torch.param_groups} == {record.learning_rate}


def test_a_steps_router_loss_is_the_mean_over_its_targets(open_tiny):
    run = open_tiny("mixtral", **{"training.micro_batch_size": 2})
    batch, plain, sums = batch_of(run, 1), plain_model(run), []
    for micro in batch.micro_batches:
        output = plain(input_ids=micro.inputs, use_cache=False, output_router_logits=True)
        sums.append(output.aux_loss.item() * micro.target_count)
    record = train_step(run, batch)
    assert len(sums) == 3
    assert record.router_loss == pytest.approx(sum(sums) / record.targets, rel=1e-5)
    assert sum(record.source_weights) == record.targets
    dense = open_tiny()
    assert train_step(dense, batch_of(dense, 1)).router_loss is None


def test_buffers_that_a_models_files_hold_are_saved_resumed_and_exported(open_tiny, tmp_path):
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    run = open_tiny("deepseek_v3", **{"training.stop_after_steps": 2, "training.eval_steps": "null"})
    buffer = dict(run.model.hf.named_buffers())[name]
    buffer.copy_(torch.tensor([0.5, -0.25, 0.0, 1.0]))
    train(run, [])
    resumed = open_tiny("deepseek_v3", **{"training.eval_steps": "null"})
    assert resumed.step == 2
    assert torch.equal(dict(resumed.model.hf.named_buffers())[name], buffer)
    record_inputs(run.recipe, Inputs(run.tokenizer, None, {}))
    export(tmp_path / "run/checkpoints/step_00000002", tmp_path / "export", dtype="float32")
    assert torch.equal(load_file(tmp_path / "export/model.safetensors")[name], buffer)


def test_a_step_that_is_not_finite_is_not_applied_and_three_in_a_row_end_the_run(open_tiny, monkeypatch):
    run = open_tiny(**{"training.max_steps": 12, "training.save_steps": 2, "training.eval_steps": "null"})
    right = loop_module.objective
    bad = {3, 5, 6, 7}
    monkeypatch.setattr(
        loop_module, "objective",
        lambda run, *given: right(run, *given) * (math.nan if run.step + 1 in bad else 1.0),
    )  # fmt: skip
    recorder, states = Recorder(), {}
    real_step = train_step

    def watched(run, batch):
        record = real_step(run, batch)
        states[record.step] = weights_of(run)
        return record

    monkeypatch.setattr(loop_module, "train_step", watched)
    with pytest.raises(DivergedError, match="steps 5 to 7"):
        train(run, [recorder])
    assert [figures["applied"] for figures in recorder.steps] == [True, True, False, True, False, False, False]
    for before, after in ((2, 3), (4, 5), (4, 7)):
        assert all(torch.equal(states[before][name], states[after][name]) for name in states[before])
    assert not torch.equal(states[3]["lm_head.weight"], states[4]["lm_head.weight"])
    assert run.checkpointer.newest_whole().step in (4, 6)


def test_validation_runs_before_the_first_step_at_intervals_and_at_the_end(open_tiny):
    run = open_tiny(**{"training.max_steps": 5, "training.eval_steps": 2})
    recorder = Recorder()
    assert train(run, [recorder], owed={"validation"})
    assert [step for step, _ in recorder.validations] == [0, 2, 4, 5]
    first, last = recorder.validations[0][1], recorder.validations[-1][1]
    for name, score in first.items():
        assert score["bits_per_byte"] == pytest.approx(score["nats"] / math.log(2) / score["bytes"])
        assert last[name]["bits_per_byte"] < score["bits_per_byte"]


def test_a_long_validation_says_where_it_is(open_tiny, monkeypatch):
    run = open_tiny()
    validation_module.validate(run)
    quick = len(run.said)
    monkeypatch.setattr(validation_module, "SILENCE_SECONDS", 0)
    validation_module.validate(run)
    lines = [line.rpartition(", ")[0] for line in run.said[quick:]]
    assert list(dict.fromkeys(lines)) == [
        "step 0  held-out text of en (1 of 2 sources)", "step 0  held-out text of ja (2 of 2 sources)",
    ]  # fmt: skip
    assert not any("held-out" in line for line in run.said[:quick])


def test_stop_after_steps_ends_early_with_a_checkpoint(open_tiny):
    run = open_tiny(**{"training.max_steps": 9, "training.stop_after_steps": 4, "training.eval_steps": "null"})
    assert not train(run, [])
    assert run.checkpointer.newest_whole().step == 4


def stop_inside_validation(run, monkeypatch, at_step: int) -> list[int]:
    """Has `run` asked to stop at the second question of the validation of `at_step`; returns the steps at which it was
    asked within a validation."""
    validate, asked, inside = loop_module.validate, [], []

    def watched(*arguments, **named):
        inside.append(run.step)
        try:
            return validate(*arguments, **named)
        finally:
            inside.pop()

    def requested(_reserve_seconds):
        asked.extend(inside)
        return bool(inside) and asked.count(at_step) >= 2

    monkeypatch.setattr(loop_module, "validate", watched)
    run.stop = SimpleNamespace(requested=requested)
    return asked


@pytest.mark.parametrize("at_step", [4, 6])
def test_a_stop_during_validation_breaks_it_off_and_leaves_a_checkpoint(open_tiny, monkeypatch, at_step):
    run = open_tiny(**{"training.max_steps": 6, "training.save_steps": 100, "training.eval_steps": 2})
    asked, recorder = stop_inside_validation(run, monkeypatch, at_step), Recorder()
    assert train(run, [recorder]) is False
    assert run.step == at_step
    assert [step for step, _ in recorder.validations] == list(range(2, at_step, 2))
    assert asked.count(2) > 2  # a whole validation asks oftener than the one that was broken off
    assert asked.count(at_step) == 2
    assert run.checkpointer.newest_whole().step == at_step


def test_a_stop_in_the_last_step_owes_the_last_validation(open_tiny, tmp_path):
    run = open_tiny(**{"training.max_steps": 4, "training.save_steps": 100, "training.eval_steps": 2})
    run.stop = SimpleNamespace(requested=lambda _: run.step == 3)
    recorder = Recorder()
    assert train(run, [recorder]) is False
    assert run.step == 4
    assert [step for step, _ in recorder.validations] == [2]
    unvalidated = open_tiny(
        **{"run_dir": tmp_path / "unvalidated", "training.max_steps": 4, "training.eval_steps": "null"}
    )
    unvalidated.stop = SimpleNamespace(requested=lambda _: unvalidated.step == 3)
    assert train(unvalidated, [])  # nothing is owed: finished


def test_a_stop_during_the_validation_before_the_first_step_makes_no_step(open_tiny, monkeypatch):
    run = open_tiny(**{"training.max_steps": 4, "training.eval_steps": 2})
    stop_inside_validation(run, monkeypatch, at_step=0)
    recorder = Recorder()
    assert train(run, [recorder], owed={"validation"}) is False
    assert (run.step, recorder.steps, recorder.validations) == (0, [], [])


def without_targets(batch):
    micro_batches = [
        replace(micro, targets=torch.full_like(micro.targets, IGNORE), target_count=0) for micro in batch.micro_batches
    ]
    return replace(batch, micro_batches=micro_batches, target_count=0, source_weights=0 * batch.source_weights)


def test_steps_without_any_target_change_nothing_and_the_run_goes_on(open_tiny, monkeypatch):
    empty = range(2, 6)  # more in a row than bad steps are tolerated
    right, real_step = batches_module.read_step, loop_module.train_step
    monkeypatch.setattr(
        batches_module, "read_step",
        lambda reader, step, *rest: (without_targets if step in empty else lambda batch: batch)(right(reader, step, *rest)),
    )  # fmt: skip
    run = open_tiny(**{"training.max_steps": 7, "training.save_steps": 100, "training.eval_steps": "null"})
    records, states = {}, {0: tensors_of(run)}

    def watched(run, batch):
        record = real_step(run, batch)
        records[record.step], states[record.step] = record, tensors_of(run)
        return record

    monkeypatch.setattr(loop_module, "train_step", watched)
    recorder, lines = Recorder(), []
    assert train(run, [recorder, Console(run.total_steps, lines.append, {})])
    for step in empty:
        record = records[step]
        assert (record.loss, record.grad_norm, record.targets, record.applied) == (0.0, 0.0, 0, False)
        assert record.source_nats == [0.0, 0.0]
        assert [name for name, tensor in states[step].items() if not torch.equal(tensor, states[1][name])] == []
    assert [figures["loss"] for figures in recorder.steps[1:5]] == [0.0] * 4
    assert [line.endswith("SKIPPED (no targets)") for line in lines] == [False, *[True] * 4, False, False]
    assert run.bad_steps == 0
    assert run.tokens == 3 * 6 * 32
    for before, after in ((0, 1), (5, 6)):
        assert not torch.equal(states[before]["model.lm_head.weight"], states[after]["model.lm_head.weight"])
