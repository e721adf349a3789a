"""Runs with adapters pass every check; one that nothing reaches is found, though no loss shows it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_cases import move_adapters, trained_of
from preflight_project import chat_changes

from tsugiki.errors import ModelError
from tsugiki.model import head, loss
from tsugiki.model.loss import TrainingModel
from tsugiki.model.shard import inner_layer
from tsugiki.training.batches import read_step
from tsugiki.training.loop import train_step
from tsugiki.training.preflight import PROBES, check_run
from tsugiki.training.run import Run

pytest.importorskip("peft")

HEAD = {"target_modules": ["*.q_proj", "lm_head"]}
Open = Callable[..., Run]


@pytest.fixture
def open_lora(open_tiny: Open, tiny_model_folder: Any) -> Open:
    def build(name: str = "mistral", lora: dict[str, Any] | None = None, **changes: Any) -> Run:
        section = {"rank": 4, "alpha": 8.0, **(lora or {})}
        return open_tiny(folder=tiny_model_folder(name, vocab_size=384), **{"training.lora": section, **changes})

    return build


def failed(run: Run) -> dict[str, str]:
    with pytest.raises(ModelError, match="preflight"):
        check_run(run)
    probes = json.loads((run.recipe.run_dir / "preflight.json").read_text())["probes"]
    return {probe["name"]: probe["measured"] for probe in probes if probe["verdict"] == "FAIL"}


@pytest.mark.parametrize("precision", ["fp32", "fp32-master"])
def test_a_healthy_run_with_adapters_on_conversations_passes(open_lora: Open, preflight_project: Path, precision: str):
    run = open_lora(
        "qwen3", **chat_changes(preflight_project),
        **{"training.precision": precision, "training.loss_normalization": "conversation"},
    )  # fmt: skip
    report = check_run(run)
    assert not report.failed
    assert "gradient asks for offset +1 at" in report["labels"].measured


@pytest.mark.parametrize("precision", ["fp32", "fp32-master"])
@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("mistral", {}), ("qwen3", {}), ("gemma2", {}), ("mixtral", {}), ("phi", {"dropout": 0.1}),
        ("mistral", {"modules_to_save": ["embed_tokens", "lm_head"]}), ("qwen3", {"modules_to_save": ["embed_tokens"]}),
    ],
)  # fmt: skip
def test_a_healthy_run_with_adapters_passes(open_lora: Open, name: str, lora: dict[str, Any], precision: str):
    run = open_lora(name, lora, **{"training.precision": precision})
    before = {key: value.clone() for key, value in trained_of(run.model).items()}
    report = check_run(run)
    assert not report.failed
    assert {entry.name for entry in report.warned} <= {"bf16_speed", "base_sanity"}
    assert "gradient asks for offset +1 at" in report["labels"].measured
    assert f"reaches {len(before)} trained tensors" in report["gradient_paths"].measured
    after = trained_of(run.model)
    assert all(torch.equal(before[key].view(torch.int32), after[key].view(torch.int32)) for key in before)
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_a_run_that_has_moved_passes_too(open_lora: Open):
    for lora in ({}, HEAD):
        run = open_lora("mistral", lora)
        move_adapters(run.model)
        assert not check_run(run).failed


def test_new_rows_pass_before_and_after_they_have_moved(
    open_lora: Open, tiny_model_folder: Any, preflight_processes: Any
):
    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.training.run import open_run

    plain = open_lora()
    rows = sorted(set(read_step(plain.reader, 1, plain.cut).micro_batches[0].targets[0].tolist()))
    for name in ("mistral", "qwen3"):
        recipe = plain.recipe.model_copy(update={"run_dir": plain.recipe.run_dir / name})
        run = open_run(
            recipe, open_prepared(recipe), plain.tokenizer, tiny_model_folder(name, vocab_size=384),
            preflight_processes, plain.stop, plain.say, [row for row in rows if row >= 0],
        )  # fmt: skip
        assert not check_run(run).failed
        move_adapters(run.model)
        assert not check_run(run).failed


def test_the_first_step_is_bitwise_the_same_with_and_without_the_checks(open_lora: Open, tmp_path: Path):
    weights = []
    for check in (False, True):
        run = open_lora(**{"run_dir": str(tmp_path / str(check))})
        if check:
            check_run(run)
        train_step(run, read_step(run.reader, 1, run.cut))
        weights.append(trained_of(run.model))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_an_adapter_on_the_output_layer_that_the_chunked_loss_passes_over(open_lora: Open, monkeypatch):
    """The loss is right to the last bit (B is 0), and the adapter would never move."""
    monkeypatch.setattr(loss, "why_not_linear", lambda layer: None)

    def of_the_base(layer: Any) -> Any:
        linear = inner_layer(layer)
        return linear.weight, linear.bias

    monkeypatch.setattr(loss, "head_weights", of_the_base)
    run = open_lora("mistral", HEAD)
    assert run.model.describe_head().startswith("chunked")
    found = failed(run)
    assert set(found) == {"gradient_paths"}
    assert "2 of 6 trained tensors get no gradient: lm_head.lora_A.default.weight" in found["gradient_paths"]
    monkeypatch.undo()
    run = open_lora("mistral", HEAD)
    assert run.model.describe_head() == "plain: its output layer has an adapter"
    assert not check_run(run).failed
    assert head.why_not_linear(run.model.hf.lm_head) is not None


def test_adapters_that_are_switched_off(open_lora: Open, monkeypatch):
    run = open_lora()
    run.model.hf.model.layers[1].self_attn.q_proj.enable_adapters(False)
    for parameter in run.optimizer.parameters.values():
        parameter.requires_grad_(True)  # which peft has switched off along with them
    found = failed(run)
    assert set(found) == {"gradient_paths"}
    assert "model.layers.1.self_attn.q_proj.lora_A" in found["gradient_paths"]


def test_labels_that_are_not_shifted_are_seen_behind_a_frozen_output_layer(open_lora: Open, monkeypatch):
    run = open_lora()
    right = TrainingModel.forward

    def unshifted(self: TrainingModel, inputs: Any, targets: Any, *others: Any) -> Any:
        return right(self, inputs, torch.where(targets < 0, targets, inputs), *others)

    monkeypatch.setattr(TrainingModel, "forward", unshifted)
    assert "no shift" in failed(run)["labels"]


def test_a_loss_that_is_twice_as_large_is_seen_behind_a_frozen_output_layer(open_lora: Open, monkeypatch):
    from tsugiki.training import loop

    right = loop.objective
    run = open_lora()
    monkeypatch.setattr(loop, "objective", lambda *arguments: 2 * right(*arguments))
    assert failed(run)["gradient_scale"].startswith("gradient is 2.0000 times")


def test_a_base_of_other_values_than_its_files(open_lora: Open):
    run = open_lora("mistral", {"modules_to_save": ["norm"]})
    with torch.no_grad():
        dict(run.model.named_hf_parameters())["model.layers.0.mlp.up_proj.base_layer.weight"].mul_(1.01)
    found = failed(run)
    assert set(found) == {"file_weights"}
    assert "model.layers.0.mlp.up_proj.weight" in found["file_weights"]


def test_every_probe_says_something_of_adapters(open_lora: Open):
    report = check_run(open_lora(**{"training.precision": "fp32-master"}))
    assert {entry.name for entry in report.entries} == {probe.name for probe in PROBES}
    assert report["formats"].threshold == "float32 trained, bfloat16 frozen (fp32-master)"
