"""Each way in which trainers have trained wrongly, patched in, is found by the check of that name and no other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preflight_project import chat_changes, recipe_values
from torch import nn

from tsugiki.corpus import windows
from tsugiki.corpus.conversation_store import ConversationStore, Pack
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.windows import IGNORE, WindowReader
from tsugiki.errors import ModelError
from tsugiki.model.loss import LossOutput, TrainingModel
from tsugiki.model.transforms import Scale
from tsugiki.recipe import Recipe
from tsugiki.schedule import make_schedule
from tsugiki.training import loop, optimizer
from tsugiki.training.preflight import check_run
from tsugiki.training.preflight import optimizer as preflight_optimizer
from tsugiki.training.run import Run

Open = Callable[..., Run]


@pytest.fixture(scope="module")
def opened(open_in: Open, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """`opened("mixtral", **changes)`: a run that all tests share which ask for the same: they alter it by monkeypatch,
    and the checks leave it as it was."""
    runs: dict[str, Run] = {}

    def find(name: str = "mistral", **changes: Any) -> Run:
        key = json.dumps([name, changes], sort_keys=True)
        if key not in runs:
            runs[key] = open_in(tmp_path_factory.mktemp("opened"), name, **changes)
        return runs[key]

    return find


def failed(run: Run) -> dict[str, str]:
    """What failed, by name, with what was measured; preflight must have refused the run."""
    with pytest.raises(ModelError, match="preflight"):
        check_run(run)
    probes = json.loads((run.recipe.run_dir / "preflight.json").read_text())["probes"]
    return {probe["name"]: probe["measured"] for probe in probes if probe["verdict"] == "FAIL"}


def warned(run: Run) -> dict[str, str]:
    return {entry.name: entry.finding.measured for entry in check_run(run).warned}


# --- labels -----------------------------------------------------------------------------------------------------


def test_labels_shifted_twice_by_the_reader(opened: Open, monkeypatch):
    def twice(tokens: np.ndarray, weights: np.ndarray) -> windows.Shifted:
        further = np.concatenate([tokens[..., 2:], np.full_like(tokens[..., :1], IGNORE + 200)], axis=-1)
        return tokens[..., :-1], further, weights[..., 1:]

    run = opened()
    monkeypatch.setattr(windows, "shift", twice)
    found = failed(run)
    assert set(found) == {"labels"}
    assert "shifted twice" in found["labels"]


def test_labels_shifted_twice_by_the_model(opened: Open, monkeypatch):
    """The reference's bug: right targets are given as `labels=`, which Hugging Face models shift once more."""
    run = opened()

    def forward(
        self: TrainingModel, inputs: Any, targets: Any, positions: Any = None, weights: Any = None
    ) -> LossOutput:
        output = self.hf(input_ids=inputs, labels=targets, use_cache=False)
        count = (targets[:, 1:] != IGNORE).sum()
        losses = nn.functional.cross_entropy(
            output.logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
        )
        return LossOutput(output.loss * count, losses.detach().view(targets.shape), None)

    monkeypatch.setattr(TrainingModel, "forward", forward)
    found = failed(run)
    assert "shifted twice" in found["labels"]
    assert "2 positions unused" in found["labels"]
    assert set(found) <= {"labels", "gradient_scale", "accumulation"}


def test_labels_not_shifted(opened: Open, monkeypatch):
    run = opened()
    monkeypatch.setattr(
        windows, "shift", lambda tokens, weights: (tokens[..., :-1], tokens[..., :-1], weights[..., 1:])
    )
    found = failed(run)
    assert set(found) == {"labels"}
    assert "no shift" in found["labels"]


def test_labels_not_shifted_in_the_loss_alone(opened: Open, monkeypatch):
    run = opened()
    right = TrainingModel.forward
    monkeypatch.setattr(TrainingModel, "forward", lambda self, inputs, targets, *more: right(
        self, inputs, torch.where(targets == IGNORE, targets, inputs), *more))  # fmt: skip
    assert "no shift" in failed(run)["labels"]


def test_labels_shuffled(opened: Open, monkeypatch):
    run = opened()
    right = windows.shift

    def shuffled(tokens: np.ndarray, weights: np.ndarray) -> windows.Shifted:
        inputs, targets, shifted = right(tokens, weights)
        return inputs, np.random.default_rng(0).permuted(targets, axis=-1), shifted

    monkeypatch.setattr(windows, "shift", shuffled)
    found = failed(run)
    assert set(found) == {"labels"}
    assert "shuffled" in found["labels"]


def test_end_of_document_masked_as_padding(opened: Open, monkeypatch):
    run = opened()
    right = windows.shift
    eos = run.tokenizer.eos_id

    def masked(tokens: np.ndarray, weights: np.ndarray) -> windows.Shifted:
        inputs, targets, shifted = right(tokens, weights)
        return inputs, np.where(targets == eos, IGNORE, targets), shifted

    monkeypatch.setattr(windows, "shift", masked)
    found = failed(run)
    assert set(found) == {"targets"}
    assert "ends of documents" in found["targets"]


def test_loss_mask_not_shifted_with_its_token(opened: Open, monkeypatch):
    run = opened(**{"data.isolate_documents": True})

    def unshifted(tokens: np.ndarray, weights: np.ndarray) -> windows.Shifted:
        counts = weights[..., :-1]
        return tokens[..., :-1], np.where(counts > 0, tokens[..., 1:], IGNORE), counts

    monkeypatch.setattr(windows, "shift", unshifted)
    assert set(failed(run)) == {"targets"}


# --- the loss ---------------------------------------------------------------------------------------------------


def test_soft_cap_ignored(open_tiny: Open):
    run = open_tiny("gemma2")
    run.model.transform = Scale()
    assert set(failed(run)) == {"own_path"}


def test_logit_scale_ignored(open_tiny: Open):
    run = open_tiny("granite")
    run.model.transform = Scale()
    assert set(failed(run)) == {"own_path"}


def test_loss_of_every_micro_batch_averaged_by_itself(opened: Open, monkeypatch):
    """Mean of means: right in a probe of one micro-batch, wrong as soon as their targets differ in number."""
    run = opened()

    def mean_of_means(run: Run, output: LossOutput, micro: Any, weight: float, targets: int) -> torch.Tensor:
        micro_batches = 1 if targets == micro.target_count else 2
        return output.loss_sum / micro.target_count / micro_batches

    monkeypatch.setattr(loop, "objective", mean_of_means)
    assert set(failed(run)) == {"accumulation"}


def test_loss_divided_by_the_number_of_micro_batches_as_well(open_tiny: Open, monkeypatch):
    """What clipping would hide: both gradients are longer than the threshold."""
    right = loop.objective
    run = open_tiny(**{"training.max_grad_norm": 1e-2})
    monkeypatch.setattr(loop, "objective", lambda run, output, micro, weight, targets: (
        right(run, output, micro, weight, targets) / (1 if micro.target_count == targets else 2)))  # fmt: skip
    assert set(failed(run)) == {"accumulation"}


def test_gradients_of_wrong_scale(opened: Open, monkeypatch):
    right = loop.objective
    run = opened()
    monkeypatch.setattr(loop, "objective", lambda *arguments: 2 * right(*arguments))
    assert set(failed(run)) == {"gradient_scale"}


def test_clipping_by_tensor(opened: Open, monkeypatch):
    run = opened()

    def by_tensor(parameters: Any, max_norm: float) -> torch.Tensor:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters]).full_tensor()
        for parameter in parameters:
            torch.nn.utils.clip_grad_norm_([parameter], max_norm / len(parameters) ** 0.5)
        return norm

    monkeypatch.setattr(loop, "clip_global_norm", by_tensor)
    found = failed(run)
    assert set(found) == {"clipping"}
    assert "unevenly" in found["clipping"]


def test_no_clipping(opened: Open, monkeypatch):
    run = opened()
    monkeypatch.setattr(
        loop, "clip_global_norm", lambda p, n: torch.nn.utils.get_total_norm([x.grad for x in p]).full_tensor()
    )
    assert set(failed(run)) == {"clipping"}


@pytest.mark.parametrize(
    "trap", ["dropped", "wrong coefficient", "no gradient", "absent", "never asked for", "not by targets"]
)
def test_router_loss(opened: Open, monkeypatch, trap: str):
    run = opened("mixtral")
    right_loss = TrainingModel._router_loss
    if trap == "dropped":
        monkeypatch.setattr(loop, "objective", lambda run, output, micro, weight, targets: output.loss_sum / weight)
    elif trap == "wrong coefficient":
        monkeypatch.setattr(run.model, "router_coefficient", 2 * run.model.router_coefficient)
    elif trap == "not by targets":
        monkeypatch.setattr(loop, "objective", lambda run, output, micro, weight, targets: (
            output.loss_sum / weight + run.model.router_coefficient * output.router_loss))  # fmt: skip
    elif trap == "never asked for":
        right = run.model.hf.forward
        monkeypatch.setattr(
            run.model.hf, "forward", lambda **arguments: right(**arguments | {"output_router_logits": False})
        )
    elif trap == "no gradient":
        monkeypatch.setattr(TrainingModel, "_router_loss", lambda self, output: right_loss(self, output).detach())
    else:
        monkeypatch.setattr(TrainingModel, "_router_loss", lambda self, output: None)
    assert set(failed(run)) == {"router_loss"}


# --- conversations ----------------------------------------------------------------------------------------------


@pytest.fixture
def open_chat(opened: Open, preflight_project: Path) -> Open:
    return lambda **changes: opened(**chat_changes(preflight_project), **changes)


def without_weights(self: TrainingModel, inputs: Any, targets: Any, positions: Any = None, weights: Any = None) -> Any:
    return RIGHT_FORWARD(self, inputs, targets, positions)


RIGHT_FORWARD = TrainingModel.forward


def test_weights_left_out_of_the_loss(open_chat: Open, monkeypatch):
    run = open_chat()
    monkeypatch.setattr(TrainingModel, "forward", without_weights)
    assert set(failed(run)) == {"gradient_scale"}


def test_weights_of_other_targets(open_chat: Open, monkeypatch):
    """Their sum is right: at each target by itself it shows."""
    run = open_chat()

    def moved(self: TrainingModel, inputs: Any, targets: Any, positions: Any = None, weights: Any = None) -> Any:
        if weights is not None:
            scored = weights > 0
            weights = weights.clone()
            weights[scored] = weights[scored].flip(0)
        return RIGHT_FORWARD(self, inputs, targets, positions, weights)

    monkeypatch.setattr(TrainingModel, "forward", moved)
    assert "off its weight" in failed(run)["gradient_scale"]


@pytest.mark.parametrize("trap", ["padding", "prompts", "openings", "of its source", "unshifted", "of another length"])
def test_wrong_weights_of_conversations(open_chat: Open, monkeypatch, trap: str):
    run = open_chat(**{"training.loss_normalization": "conversation"})
    pack, shift = ConversationStore.pack, windows.shift

    def changed(self: ConversationStore, index: int, length: int, by_conversation: bool = False) -> Pack:
        found = pack(self, index, length, by_conversation)
        weights, used = found.weights.copy(), int(found.starts[-1])
        if trap == "padding":
            weights[used:] = 1
        elif trap == "prompts":
            weights[:used] = np.where(weights[:used] == 0, 1, weights[:used])
            weights[found.starts[:-1]] = 0
        elif trap == "openings":
            weights[found.starts[:-1]] = 1
        elif trap == "of another length":
            weights = pack(self, index, length, False).weights / 10
        return found._replace(weights=weights)

    if trap == "of its source":
        monkeypatch.setattr(run.reader, "_loss_weights", np.ones_like(run.reader._loss_weights))
    elif trap == "unshifted":
        monkeypatch.setattr(windows, "shift", lambda tokens, weights: (*shift(tokens, weights)[:2], weights[..., :-1]))
    else:
        monkeypatch.setattr(ConversationStore, "pack", changed)
    assert set(failed(run)) == {"targets"}


def test_ends_of_answers_not_learnt(open_chat: Open, monkeypatch):
    run, shift = open_chat(), windows.shift
    monkeypatch.setattr(windows, "shift", lambda tokens, weights: shift(tokens, np.where(tokens == 2, 0, weights)))
    assert "the model would not learn to stop" in failed(run)["targets"]


def test_positions_of_packs_do_not_restart(open_chat: Open, monkeypatch):
    run = open_chat()
    monkeypatch.setattr(run.reader, "read", without_restarts(run.reader.read))
    assert set(failed(run)) == {"isolation"}


def test_conversations_see_each_other(open_chat: Open, monkeypatch):
    run = open_chat()
    right = run.model.hf.forward
    monkeypatch.setattr(run.model.hf, "forward", lambda **arguments: right(**arguments | {"use_cache": True}))
    assert set(failed(run)) == {"isolation"}


def test_an_answer_that_ends_without_its_end_token(open_chat: Open, monkeypatch):
    run = open_chat()
    source = run.sources["talk"]
    chat = replace(source.manifest.chat, end_id=5, end_token="<|im_end|>")
    changed = replace(source, manifest=replace(source.manifest, chat=chat))
    monkeypatch.setattr(run, "sources", {**run.sources, "talk": changed})
    assert "not <|im_end|>" in failed(run)["bos_eos"]


def test_conversations_changed_after_they_were_written(open_chat: Open, monkeypatch):
    run = open_chat()
    runs = ConversationStore.runs
    monkeypatch.setattr(ConversationStore, "runs", lambda self, index: changed_runs(runs(self, index)))
    assert "was changed after it was written" in failed(run)["store_files"]


def changed_runs(runs: np.ndarray) -> np.ndarray:
    runs = runs.copy()
    runs["weight"] *= 2
    return runs


# --- attention and noise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leak", ["all-ones mask", "cache"])
def test_documents_leak_into_one_another(opened: Open, monkeypatch, leak: str):
    run = opened(**{"data.isolate_documents": True})
    right = run.model.hf.forward

    def leaking(**arguments: Any) -> Any:
        if leak == "cache":
            return right(**arguments | {"use_cache": True})
        return right(**arguments, attention_mask=torch.ones_like(arguments["input_ids"]))

    monkeypatch.setattr(run.model.hf, "forward", leaking)
    assert set(failed(run)) == {"isolation"}


def without_restarts(read: Callable[..., windows.WindowBatch]) -> Callable[..., windows.WindowBatch]:
    """A reader's `read` whose positions count through the window."""

    def counting(samples: Any, *rest: Any) -> windows.WindowBatch:
        batch = read(samples, *rest)
        return replace(batch, positions=np.tile(np.arange(batch.inputs.shape[1]), (len(batch.inputs), 1)))

    return counting


def test_positions_do_not_restart(opened: Open, monkeypatch):
    run = opened(**{"data.isolate_documents": True})
    monkeypatch.setattr(run.reader, "read", without_restarts(run.reader.read))
    assert set(failed(run)) == {"isolation"}


def test_positions_given_although_documents_are_not_isolated(opened: Open, monkeypatch):
    run = opened()
    monkeypatch.setattr(run.reader, "read", without_restarts(run.reader.read))
    assert set(failed(run)) == {"isolation"}


def test_attention_looks_ahead(open_tiny: Open):
    run = open_tiny()
    for module in run.model.hf.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    assert set(failed(run)) == {"causality"}


def test_another_attention_than_asked_for(open_tiny: Open):
    run = open_tiny(**{"model.attn_implementation": "sdpa"})
    run.model.hf.config._attn_implementation = "eager"
    assert set(failed(run)) == {"attention"}


@pytest.mark.parametrize("where", ["module", "attribute"])
def test_dropout_left_on(open_tiny: Open, where: str):
    run = open_tiny("phi")
    for module in run.model.hf.modules():
        if where == "module" and isinstance(module, nn.Dropout):
            module.p = 0.1
        if where == "attribute" and hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.1
    found = failed(run)
    assert set(found) == {"dropout"}
    assert "0.1" in found["dropout"]


# --- weights --------------------------------------------------------------------------------------------------------


def test_a_tensor_drawn_at_random(open_tiny: Open, tiny_model_folder):
    run = open_tiny(folder=tiny_model_folder("llama", vocab_size=384))
    weight = run.model.hf.model.layers[1].self_attn.q_proj.weight
    with torch.no_grad():
        weight.normal_(std=0.2)
    found = failed(run)
    assert set(found) == {"file_weights"}
    assert "layers.1.self_attn.q_proj" in found["file_weights"]


@pytest.mark.parametrize("from_folder", [False, True])
def test_a_broken_tie(open_tiny: Open, tiny_model_folder, from_folder: bool):
    from tsugiki.training.optimizer import Optimizer, no_decay_names

    folder = tiny_model_folder("mistral-tied", vocab_size=384) if from_folder else None
    run = open_tiny("mistral-tied", folder=folder)
    run.model.hf.lm_head.weight = nn.Parameter(run.model.hf.lm_head.weight.detach().clone())
    run.optimizer = Optimizer(
        dict(run.model.named_hf_parameters()), no_decay_names(run.model.hf, decay_embeddings=True),
        run.recipe.training, seed=0,
    )  # fmt: skip
    assert "tied" in failed(run)


def test_weights_in_another_format(open_tiny: Open):
    run = open_tiny(**{"training.precision": "pure-bf16"})
    run.recipe = run.recipe.model_copy(
        update={"training": run.recipe.training.model_copy(update={"precision": "fp32-master"})}
    )
    assert set(failed(run)) == {"formats"}


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_stale_rope_frequencies(open_tiny: Open, name: str):
    run = open_tiny(name)
    buffers = [buffer for key, buffer in run.model.hf.named_buffers() if key.endswith("inv_freq")]
    buffers[0].mul_(0.5)
    assert set(failed(run)) == {"buffers"}


def test_rope_theta_of_the_file_lost(open_tiny: Open, tiny_model_folder, monkeypatch):
    run = open_tiny(folder=tiny_model_folder("llama", vocab_size=384))
    config = run.model.hf.config
    monkeypatch.setitem(config.rope_parameters, "rope_theta", 500_000.0)
    for module in run.model.hf.modules():
        if hasattr(module, "inv_freq"):
            fresh = type(module)(config=config)
            module.inv_freq.copy_(fresh.inv_freq)
            module.original_inv_freq.copy_(fresh.inv_freq)
    found = failed(run)
    assert set(found) == {"buffers"}
    assert "rope_theta" in found["buffers"]


def test_embedding_scale_not_filled(open_tiny: Open):
    run = open_tiny("gemma3")
    run.model.hf.get_input_embeddings().embed_scale.fill_(1.0)
    assert set(failed(run)) == {"buffers"}


def test_a_base_that_knows_nothing_is_warned_of(open_tiny: Open, tiny_model_folder):
    found = warned(open_tiny(folder=tiny_model_folder("mistral", vocab_size=384)))
    assert set(found) == {"base_sanity"}


# --- optimiser ------------------------------------------------------------------------------------------------------


def test_norms_decayed(open_tiny: Open):
    run = open_tiny()
    for group in run.optimizer.torch.param_groups:
        group["weight_decay"] = 0.1
    found = failed(run)
    assert set(found) == {"decay_groups"}
    assert "norm" in found["decay_groups"]


@pytest.mark.parametrize("trap", ["for all", "for another", "for the input alone"])
def test_the_factor_of_embeddings_on_other_tensors(open_tiny: Open, monkeypatch, trap: str):
    right = optimizer.vocabulary_names
    found_names = {
        "for all": lambda hf: {name for name, _ in hf.named_parameters()},
        "for another": lambda hf: {"model.norm.weight"},
        "for the input alone": lambda hf: right(hf) - {"lm_head.weight"},
    }[trap]
    monkeypatch.setattr("tsugiki.training.run.vocabulary_names", found_names)
    found = failed(open_tiny(**{"training.embedding_lr_factor": 3.0}))
    assert set(found) == {"decay_groups"}
    assert "factor of the rate" in found["decay_groups"]


def test_a_tensor_not_in_the_optimizer(open_tiny: Open):
    run = open_tiny()
    lost = run.optimizer.torch.param_groups[1]["params"].pop()
    assert lost is not None
    assert set(failed(run)) == {"decay_groups"}


@pytest.mark.parametrize("trap", ["constant", "stepped twice", "off by one", "ends early", "stateful"])
def test_schedule(opened: Open, monkeypatch, trap: str):
    run = opened()
    right, calls = run.schedule, iter(range(1, 10_000))
    schedules = {
        "constant": lambda step: 1e-3,
        "stepped twice": lambda step: right(2 * step),
        "off by one": lambda step: right(step - 1),
        "ends early": lambda step: right(step) if step < 15 else 0.0,
        "stateful": lambda step: right(next(calls)),
    }
    monkeypatch.setattr(run, "schedule", schedules[trap])
    assert set(failed(run)) == {"schedule"}


def test_a_decay_that_begins_before_its_last_steps(open_tiny: Open):
    run = open_tiny(**{"training.lr_scheduler": "wsd", "training.decay_steps": 6})
    run.schedule = make_schedule(run.recipe.training.model_copy(update={"lr_scheduler": "linear"}), run.total_steps)
    assert set(failed(run)) == {"schedule"}


def test_harmful_rates_are_warned_of(open_tiny: Open):
    assert set(warned(open_tiny(**{"training.adam_beta2": 0.95}))) == {"peak_rate"}  # 4 steps of warm-up


@pytest.mark.parametrize(("alone", "left"), [(2, 2), (4, 0), (9, 0)])
def test_a_warm_up_that_ends_before_the_last_weights_have_begun_is_warned_of(open_tiny: Open, alone: int, left: int):
    found = warned(open_tiny(**{"training.embedding_warmup_steps": alone}))
    said = (
        f"{left} steps of warm-up left after {alone} of the embeddings alone, but Adam's second moment settles over 3"
    )
    assert found == {"peak_rate": said}


def test_a_high_rate_of_the_embeddings_is_warned_of(open_tiny: Open, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(preflight_optimizer, "LARGE", 1000)
    folder = tiny_model_folder("mistral", vocab_size=384)
    rates = {"training.learning_rate": 2e-5, "training.min_lr": 0.0}
    assert "peak_rate" not in warned(open_tiny(folder=folder, **rates))
    found = warned(open_tiny(folder=folder, **rates, **{"training.embedding_lr_factor": 5.0}))
    assert found["peak_rate"].startswith("peak 2e-05 (embeddings 0.0001): ")


# --- data -------------------------------------------------------------------------------------------------------------


def test_another_tokenizer(opened: Open, monkeypatch, tmp_path: Path, tiny_tokenizer_folder: Path):
    run = opened()
    for path in tiny_tokenizer_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = json.loads((tmp_path / "tokenizer.json").read_text())
    changed["model"]["merges"].pop()
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
    monkeypatch.setattr(run, "tokenizer", TextTokenizer.from_folder(tmp_path))
    assert set(failed(run)) == {"tokenizer"}


def test_ids_without_a_row(open_tiny: Open, tiny_config):
    run = open_tiny(**{"model.architecture": tiny_config("mistral", vocab_size=370)})
    found = failed(run)
    assert set(found) == {"token_ids"}  # the model is not called with such ids


def with_documents(run: Run, monkeypatch, folder: Path, change: Callable[[list[int]], list[int]]) -> None:
    """Gives the run a source `en` whose documents were changed as they were written."""
    source = run.sources["en"]
    writer = StoreWriter(folder / "train", 384)
    for index in range(source.train.document_count):
        writer.add_document(change(source.train.document(index).tolist()))
    store = TokenStore(folder / "train", writer.close())
    counts = replace(source.manifest.train, tokens=store.token_count)
    changed = replace(source, train=store, manifest=replace(source.manifest, stores={}, train=counts))
    monkeypatch.setattr(run, "sources", {**run.sources, "en": changed})
    reader = WindowReader(run.sources, run.mixture, run.recipe.data.sequence_length, isolate_documents=False)
    monkeypatch.setattr(run, "reader", reader)


def test_literal_control_strings_became_control_ids(opened: Open, monkeypatch, tmp_path: Path):
    run = opened()
    with_documents(run, monkeypatch, tmp_path, lambda ids: [*ids[:4], 2, *ids[5:]])
    found = failed(run)
    assert set(found) == {"control_ids"}
    assert "</s>" in found["control_ids"]


def test_bos_twice(opened: Open, monkeypatch, tmp_path: Path):
    run = opened()
    with_documents(run, monkeypatch, tmp_path, lambda ids: [1, *ids])
    assert set(failed(run)) == {"bos_eos"}


def test_eos_missing(opened: Open, monkeypatch, tmp_path: Path):
    run = opened()
    with_documents(run, monkeypatch, tmp_path, lambda ids: ids[:-1])
    assert set(failed(run)) == {"bos_eos"}


def test_a_store_changed_after_it_was_written(opened: Open, monkeypatch):
    run = opened()
    source = run.sources["en"]
    index = source.manifest.stores["train"]
    shard = replace(index.shards[0], digests=["0" * 32, *index.shards[0].digests[1:]])
    stores = source.manifest.stores | {"train": replace(index, shards=[shard])}
    changed = replace(source, manifest=replace(source.manifest, stores=stores))
    monkeypatch.setattr(run, "sources", {**run.sources, "en": changed})
    assert set(failed(run)) == {"store_files"}


def test_tokens_of_another_program_are_warned_of(
    open_tiny: Open, preflight_project: Path, tiny_tokenizer_folder, tmp_path
):
    """The store of a source of ours, named as if another program had written it."""
    store = {"store": str(preflight_project / "data/en/train-00000"), "weight": 1, "language": "en"}
    changes = {"data.sources": {"foreign": store}, "data.prepared_dir": str(tmp_path / "foreign")}
    architecture = {"architecture": {"model_type": "mistral", "vocab_size": 384}}
    values = recipe_values(preflight_project, tiny_tokenizer_folder, architecture, **changes)
    prepare(Recipe.model_validate(values), TextTokenizer.from_folder(tiny_tokenizer_folder))
    found = warned(open_tiny(**changes))
    assert "the tokens of foreign (by a tokenizer that is not named)" in found["tokenizer"]


def test_too_many_epochs_are_warned_of(open_tiny: Open):
    assert set(warned(open_tiny(**{"training.max_steps": 300}))) == {"epochs"}


def test_no_replay_is_warned_of(open_tiny: Open, tiny_model_folder, preflight_project: Path):
    run = open_tiny(
        folder=tiny_model_folder("mistral", vocab_size=384),
        **{"data.sources": {"ja": {"path": str(preflight_project / "ja.jsonl"), "weight": 1, "language": "ja"}}},
    )
    report = check_run(run)
    assert report["replay"].verdict == "warn"
    assert "25 %" in report["replay"].threshold
