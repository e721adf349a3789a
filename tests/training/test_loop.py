"""The loop against a training loop written out naively, and what it does with steps that are not finite."""

import json
import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny_project import Recorder, batch_of, meter_of, tensors_of, weights_of

from tsugiki.corpus.windows import IGNORE
from tsugiki.errors import DivergedError
from tsugiki.model.export import export
from tsugiki.pipeline import Inputs, record_inputs
from tsugiki.training import batches as batches_module
from tsugiki.training import loop as loop_module
from tsugiki.training.batches import rank_samples
from tsugiki.training.checkpoint_writer import Stager
from tsugiki.training.loop import train, train_step
from tsugiki.training.optimizer import Optimizer
from tsugiki.training.tracking import Console


def plain_model(run):
    """The run's model as plain transformers builds it, with the run's weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = dict(run.recipe.model.architecture)
    plain = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32
    )
    plain.load_state_dict(weights_of(run))
    return plain


def test_three_steps_equal_a_loop_written_out_naively(open_tiny):
    run = open_tiny(**{"training.max_steps": 3, "training.max_grad_norm": 0.5})
    settings = run.recipe.training
    naive = plain_model(run)
    decayed = [p for p in naive.parameters() if p.ndim > 1]
    others = [p for p in naive.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, foreach=False, fused=False)
    for step in (1, 2, 3):
        record = train_step(run, batch_of(run, step))
        numbers = rank_samples(step, settings.global_batch_size, 0, 1)
        total = 0.0
        optimizer.zero_grad()
        tokens = []
        for number in numbers:  # the window rule by hand: L + 1 tokens from window * L
            drawn = run.mixture.locate(number)
            store = run.sources[run.mixture.names[int(drawn.source[0])]].train
            start = int(drawn.window[0]) * run.recipe.data.sequence_length
            tokens.append(
                torch.tensor(store.tokens[start : start + run.recipe.data.sequence_length + 1].astype("int64"))
            )
        batch = torch.stack(tokens)
        logits = naive(input_ids=batch[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        total = loss.item()
        norm = torch.nn.utils.clip_grad_norm_(naive.parameters(), settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = run.schedule(step)
        optimizer.step()
        assert record.loss == pytest.approx(total, rel=1e-5)
        assert record.grad_norm == pytest.approx(norm.item(), rel=1e-4)
        assert sum(record.source_targets) == record.targets == batch[:, 1:].numel()
        assert sum(record.source_nats) == pytest.approx(record.loss * record.targets, rel=1e-6)
    for name, tensor in weights_of(run).items():
        torch.testing.assert_close(tensor, naive.state_dict()[name], rtol=1e-4, atol=2e-5, msg=name)


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


def test_a_steps_router_loss_is_the_mean_over_its_targets(open_tiny):
    run = open_tiny("mixtral", **{"training.micro_batch_size": 2})
    batch, plain, sums = batch_of(run, 1), plain_model(run), []
    for micro in batch.micro_batches:
        output = plain(input_ids=micro.inputs, use_cache=False, output_router_logits=True)
        sums.append(output.aux_loss.item() * micro.target_count)
    record = train_step(run, batch)
    assert len(sums) == 3
    assert record.router_loss == pytest.approx(sum(sums) / record.targets, rel=1e-5)
    assert sum(record.source_targets) == record.targets
    dense = open_tiny()
    assert train_step(dense, batch_of(dense, 1)).router_loss is None


def test_buffers_that_a_models_files_hold_are_saved_resumed_and_exported(open_tiny, tmp_path):
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    run = open_tiny("deepseek_v3", **{"training.stop_after_steps": 2, "training.eval_steps": "null"})
    buffer = dict(run.model.hf.named_buffers())[name]
    buffer.copy_(torch.tensor([0.5, -0.25, 0.0, 1.0]))
    train(run, meter_of(run), [])
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
        lambda run, output, micro, targets: right(run, output, micro, targets) * (math.nan if run.step + 1 in bad else 1.0),
    )  # fmt: skip
    recorder, states = Recorder(), {}
    real_step = train_step

    def watched(run, batch):
        record = real_step(run, batch)
        states[record.step] = weights_of(run)
        return record

    monkeypatch.setattr(loop_module, "train_step", watched)
    with pytest.raises(DivergedError, match="steps 5 to 7"):
        train(run, meter_of(run), [recorder])
    assert [figures["applied"] for figures in recorder.steps] == [True, True, False, True, False, False, False]
    for before, after in ((2, 3), (4, 5), (4, 7)):
        assert all(torch.equal(states[before][name], states[after][name]) for name in states[before])
    assert not torch.equal(states[3]["lm_head.weight"], states[4]["lm_head.weight"])
    assert run.checkpointer.newest_whole().step in (4, 6)


def test_validation_runs_before_the_first_step_at_intervals_and_at_the_end(open_tiny):
    run = open_tiny(**{"training.max_steps": 5, "training.eval_steps": 2})
    recorder = Recorder()
    assert train(run, meter_of(run), [recorder], validate_first=True)
    assert [step for step, _ in recorder.validations] == [0, 2, 4, 5]
    first, last = recorder.validations[0][1], recorder.validations[-1][1]
    for name, score in first.items():
        assert score["bits_per_byte"] == pytest.approx(score["nats"] / math.log(2) / score["bytes"])
        assert last[name]["bits_per_byte"] < score["bits_per_byte"]


def test_stop_after_steps_ends_early_with_a_checkpoint(open_tiny):
    run = open_tiny(**{"training.max_steps": 9, "training.stop_after_steps": 4, "training.eval_steps": "null"})
    assert not train(run, meter_of(run), [])
    assert run.checkpointer.newest_whole().step == 4


def test_metrics_file_forgets_what_a_killed_run_logged_beyond_its_checkpoint(tmp_path):
    from tsugiki.training.tracking import JsonLines

    path = tmp_path / "metrics.jsonl"
    path.write_text(
        "".join(json.dumps({"kind": "step", "step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3)) + '{"kind": "st'
    )
    log = JsonLines(path, resumed_step=2)
    log.after_step({"step": 3, "loss": 2.0})
    log.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.0, 1.0, 2.0]


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
    assert train(run, meter_of(run), [recorder]) is False
    assert run.step == at_step
    assert [step for step, _ in recorder.validations] == list(range(2, at_step, 2))
    assert asked.count(2) > 2  # a whole validation asks oftener than the one that was broken off
    assert asked.count(at_step) == 2
    assert run.checkpointer.newest_whole().step == at_step


def test_a_stop_in_the_last_step_owes_the_last_validation(open_tiny, tmp_path):
    run = open_tiny(**{"training.max_steps": 4, "training.save_steps": 100, "training.eval_steps": 2})
    run.stop = SimpleNamespace(requested=lambda _: run.step == 3)
    recorder = Recorder()
    assert train(run, meter_of(run), [recorder]) is False
    assert run.step == 4
    assert [step for step, _ in recorder.validations] == [2]
    unvalidated = open_tiny(
        **{"run_dir": tmp_path / "unvalidated", "training.max_steps": 4, "training.eval_steps": "null"}
    )
    unvalidated.stop = SimpleNamespace(requested=lambda _: unvalidated.step == 3)
    assert train(unvalidated, meter_of(unvalidated), [])  # nothing is owed: finished


def test_a_stop_during_the_validation_before_the_first_step_makes_no_step(open_tiny, monkeypatch):
    run = open_tiny(**{"training.max_steps": 4, "training.eval_steps": 2})
    stop_inside_validation(run, monkeypatch, at_step=0)
    recorder = Recorder()
    assert train(run, meter_of(run), [recorder], validate_first=True) is False
    assert (run.step, recorder.steps, recorder.validations) == (0, [], [])


def without_targets(batch):
    micro_batches = [
        replace(micro, targets=torch.full_like(micro.targets, IGNORE), target_count=0) for micro in batch.micro_batches
    ]
    return replace(batch, micro_batches=micro_batches, target_count=0, source_targets=0 * batch.source_targets)


def test_steps_without_any_target_change_nothing_and_the_run_goes_on(open_tiny, monkeypatch):
    empty = range(2, 6)  # more in a row than bad steps are tolerated
    right, real_step = batches_module.read_step, loop_module.train_step
    monkeypatch.setattr(
        batches_module, "read_step",
        lambda reader, step, **cut: without_targets(right(reader, step, **cut)) if step in empty else right(reader, step, **cut),
    )  # fmt: skip
    run = open_tiny(**{"training.max_steps": 7, "training.save_steps": 100, "training.eval_steps": "null"})
    records, states = {}, {0: tensors_of(run)}

    def watched(run, batch):
        record = real_step(run, batch)
        records[record.step], states[record.step] = record, tensors_of(run)
        return record

    monkeypatch.setattr(loop_module, "train_step", watched)
    recorder, lines = Recorder(), []
    meter = meter_of(run)
    assert train(run, meter, [recorder, Console(run.total_steps, lines.append, meter.by_language)])
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
