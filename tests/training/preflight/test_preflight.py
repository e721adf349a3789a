"""A healthy run passes every check and is left bit for bit as it was; what is found is printed and stored."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from preflight_project import chat_changes

from tsugiki.corpus.pack_table import table_path
from tsugiki.errors import ModelError
from tsugiki.recipe_training import ProbeName
from tsugiki.training.preflight import PROBES, check_run
from tsugiki.training.run import Run

ARCHITECTURES = ["mistral", "llama", "gemma2", "gemma3", "qwen3", "mixtral", "granite", "gpt_neox", "deepseek_v3"]


def verdicts(report) -> dict[str, str]:
    return {entry.name: entry.finding.verdict for entry in report.entries}


@pytest.mark.parametrize("isolate", [False, True], ids=["across", "isolated"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_healthy_run_passes_every_check(open_tiny: Callable[..., Run], name: str, isolate: bool):
    report = check_run(open_tiny(name, **{"data.isolate_documents": isolate}))
    assert verdicts(report) == {probe.name: "ok" for probe in PROBES}


@pytest.mark.parametrize("by", ["token", "conversation"])
@pytest.mark.parametrize("name", ["mistral", "gemma3", "mixtral"])
def test_a_healthy_run_on_conversations_and_text_passes_every_check(
    open_tiny: Callable[..., Run], preflight_project: Path, name: str, by: str
):
    run = open_tiny(name, **chat_changes(preflight_project), **{"training.loss_normalization": by})
    report = check_run(run)
    assert verdicts(report) == {probe.name: "ok" for probe in PROBES}
    assert re.search(r" [1-9][0-9]* of them end a document or answer", report["targets"].measured)
    assert "talk: answers end with </s>" in report["bos_eos"].measured


@pytest.mark.parametrize("name", ["mistral", "gemma3", "mixtral"])
def test_a_healthy_run_on_packed_text_passes_every_check(open_tiny: Callable[..., Run], name: str):
    run = open_tiny(name, **{"data.packing": "best_fit"})
    report = check_run(run)
    assert verdicts(report) == {probe.name: "ok" for probe in PROBES}
    assert report["isolation"].measured.startswith("changing a document moves losses of the next one by ")
    assert re.search(r" [1-9][0-9]* of them end a document", report["targets"].measured)
    padding = sum(int((batch.inputs == 0).sum()) for batch in (run.reader.read(np.arange(64)),))
    assert padding > 0  # of which none is a target


def test_a_damaged_table_of_packs_stops_a_run(open_tiny: Callable[..., Run], preflight_project: Path):
    run = open_tiny(**{"data.packing": "best_fit"})
    path = table_path(run.sources["ja"].train.prefix, 24)
    good = path.read_bytes()
    try:
        path.write_bytes(good[:-4] + (int.from_bytes(good[-4:], "little") ^ 1).to_bytes(4, "little"))
        with pytest.raises(ModelError, match=r"store_files.*ja.*train\.packs-24: damaged"):
            check_run(run)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("precision", ["fp32-master", "bf16-stochastic", "pure-bf16"])
@pytest.mark.parametrize("name", ["mistral", "mixtral"])
def test_bf16_passes_but_for_warnings(open_tiny: Callable[..., Run], name: str, precision: str):
    report = check_run(open_tiny(name, **{"training.precision": precision, "data.isolate_documents": True}))
    warned = {entry.name for entry in report.warned}
    assert not report.failed
    assert warned <= {"bf16_speed", "movable_weights"}
    assert ("movable_weights" in warned) == (precision == "pure-bf16")  # norms near 1 cannot move by 1e-3


def test_a_model_folder_passes_and_its_tensors_are_compared(open_tiny: Callable[..., Run], tiny_model_folder):
    for name in ("mistral-tied", "mixtral"):
        report = check_run(open_tiny(folder=tiny_model_folder(name, vocab_size=384)))
        assert not report.failed
        assert "tensors compared" in report["file_weights"].measured
    assert "stored under other names" in report["file_weights"].measured  # Mixtral's experts


def test_a_biased_output_layer_passes(open_tiny: Callable[..., Run]):
    run = open_tiny("phi")
    bias = whole(run.model.hf.lm_head.bias)
    drawn = 5 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        run.model.hf.lm_head.bias.to_local().copy_(drawn)
    report = check_run(run)
    assert not report.failed
    assert {report[name].verdict for name in ("labels", "gradient_scale", "own_path")} == {"ok"}
    assert {entry.name for entry in report.warned} <= {"base_sanity"}  # with such a bias it is worse than chance


def test_norms_with_a_row_a_head_are_not_decayed_and_pass(open_tiny: Callable[..., Run], tiny_config):
    run = open_tiny(
        **{"model.architecture": tiny_config("llama", model_type="cohere", vocab_size=384, use_qk_norm=True)}
    )
    decays = {
        name: group["weight_decay"] for group in run.optimizer.torch.param_groups for name in group["names"]
    }  # fmt: skip
    norms = {
        name for name, parameter in run.model.named_hf_parameters() if name.endswith(("q_norm.weight", "k_norm.weight"))
    }
    assert [dict(run.model.named_hf_parameters())[name].ndim for name in norms] == [2] * 4
    assert {decays[name] for name in norms} == {0.0}
    assert decays["model.layers.0.self_attn.q_proj.weight"] == 0.1
    assert not check_run(run).failed


def test_activation_checkpointing_and_freezing_pass(open_tiny: Callable[..., Run]):
    freeze = [{"parameters": ["model.layers.*"], "until_step": 5}]
    run = open_tiny(**{"training.activation_checkpointing": "blocks", "training.freeze": freeze})
    assert not check_run(run).failed


@pytest.mark.parametrize("decayed", [True, False])
@pytest.mark.parametrize("name", ["mistral", "qwen3", "phi", "mixtral"])
def test_embeddings_first_and_faster_pass(open_tiny: Callable[..., Run], name: str, decayed: bool):
    keys = {"training.embedding_warmup_steps": 1, "training.embedding_lr_factor": 3.0}
    run = open_tiny(name, **keys, **{"training.decay_embeddings": decayed})
    report = check_run(run)
    assert verdicts(report) == {probe.name: "ok" for probe in PROBES}
    assert report["peak_rate"].measured == "peak 0.001 (embeddings 0.003), 4 steps of warm-up"


def test_the_share_of_weights_that_move_is_counted_at_each_groups_own_rate(open_tiny: Callable[..., Run]):
    """Of bf16 weights, of which nearest rounding loses the smallest steps; those of the norms are all lost."""
    keys = {"training.precision": "pure-bf16", "training.learning_rate": 1e-4, "training.embedding_warmup_steps": 1}
    run = open_tiny("mistral-tied", **keys, **{"training.embedding_lr_factor": 10.0})
    measured = check_run(run)["movable_weights"].measured
    shares = {kind: int(share) / 100 for kind, share in re.findall(r"(\w+) (\d+)%", measured)}
    assert measured.startswith("a step of 0.0001 (embeddings 0.001) moves ")
    tensors = {name: whole(tensor.detach()) for name, tensor in run.model.named_hf_parameters()}
    expected = {}
    for kind, names, step in (
        ("embedding", ["model.embed_tokens.weight"], 1e-3), ("norm", ["model.norm.weight"], 1e-4),
        ("matrix", [name for name, tensor in tensors.items() if tensor.ndim == 2 and ".layers." in name], 1e-4),
    ):  # fmt: skip
        values = torch.cat([tensors[name].flatten() for name in names])
        expected[kind] = ((values.float() - step).bfloat16() != values).float().mean().item()
    assert shares == pytest.approx(expected, abs=0.03)
    assert expected["embedding"] > expected["matrix"] + 0.3


def test_the_attention_of_the_recipe_is_the_one_that_runs(open_tiny: Callable[..., Run]):
    for implementation in ("sdpa", "eager"):
        report = check_run(open_tiny(**{"model.attn_implementation": implementation}))
        assert (report["attention"].verdict, report["attention"].measured) == ("ok", implementation)


def test_a_router_coefficient_of_the_recipes_own_is_the_one_that_counts(open_tiny: Callable[..., Run]):
    report = check_run(open_tiny("mixtral", **{"training.router_aux_loss_coef": 0.125}))
    assert report["router_loss"].measured.endswith("weighted by 0.125")


def test_nothing_is_changed(open_tiny: Callable[..., Run]):
    run = open_tiny("mixtral", **{"data.isolate_documents": True})
    tensors = {name: tensor.clone() for name, tensor in run.tensors().items()}
    buffers = {name: buffer.clone() for name, buffer in run.model.named_buffers()}
    flags = [module.training for module in run.model.modules()]
    random_states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    state = run.state()
    check_run(run)
    for name, tensor in run.tensors().items():
        assert torch.equal(whole(tensor), whole(tensors[name])), name
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in run.model.named_buffers())
    assert flags == [module.training for module in run.model.modules()]
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert np.array_equal(np.random.get_state()[1], random_states[1])
    assert random.getstate() == random_states[2]
    assert run.state() == state
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert not any("preflight" in name for name in vars(run.model))


def test_the_first_step_is_bitwise_the_same_with_and_without(open_tiny: Callable[..., Run], tmp_path: Path):
    from tsugiki.training.batches import read_step
    from tsugiki.training.loop import train_step

    weights = []
    for check in (False, True):
        run = open_tiny(**{"run_dir": str(tmp_path / str(check))})
        if check:
            check_run(run)
        batch = read_step(run.reader, 1, run.cut)
        train_step(run, batch)
        weights.append({name: whole(tensor).clone() for name, tensor in run.tensors().items()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_table_is_printed_and_stored(open_tiny: Callable[..., Run]):
    run = open_tiny()
    report = check_run(run)
    stored = json.loads((run.recipe.run_dir / "preflight.json").read_text())
    assert [probe["name"] for probe in stored["probes"]] == [probe.name for probe in PROBES]
    assert all(probe["measured"] for probe in stored["probes"])
    table = "\n".join(run.said)
    assert all(f" {entry.name} " in table and entry.finding.measured in table for entry in report.entries)
    assert report.seconds < 10


def test_a_check_is_skipped_by_name_and_says_so(open_tiny: Callable[..., Run]):
    run = open_tiny(**{"training.preflight": {"skip": ["labels"]}})
    report = check_run(run)
    assert report["labels"].verdict == "skip"
    assert "labels" in "\n".join(line for line in run.said if "left out" in line)


def test_the_recipe_knows_every_check_by_name():
    assert get_args(ProbeName) == tuple(probe.name for probe in PROBES)


def test_all_failures_are_named_at_once_and_still_stored(open_tiny: Callable[..., Run], monkeypatch):
    run = open_tiny()
    monkeypatch.setattr(run, "schedule", lambda step: 1e-3)
    run.optimizer.torch.param_groups[1]["weight_decay"] = 0.1
    with pytest.raises(ModelError) as caught:
        check_run(run)
    assert "2 checks failed" in str(caught.value)
    assert "decay_groups" in str(caught.value)
    assert "schedule" in str(caught.value)
    assert (run.recipe.run_dir / "preflight.json").exists()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
