"""Adapters trained by the loop: as a naive loop over plain peft trains them, stopped and gone on with, merged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_cases import move_adapters, plain_peft, trained_of
from safetensors.torch import load_file, save_file
from tiny_project import PreparedTiny, Recorder, batch_of, tensors_of
from transformers import AutoModelForCausalLM

from tsugiki.checkpoint_files import EXPORT_MARK, is_export_of
from tsugiki.errors import ModelError, RecipeError, StorageError
from tsugiki.evaluation.probes import while_training
from tsugiki.files import read_json
from tsugiki.inspection import inspect_path
from tsugiki.model.export import export, read_weights
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import Inputs, record_inputs
from tsugiki.training.loop import measures_due, train, train_step
from tsugiki.training.run import Run

peft = pytest.importorskip("peft")

CASES: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "mistral": ("mistral", {}, []),
    "mixtral": ("mixtral", {}, []),
    "rows": ("mistral", {}, [5, 300, 9]),
    "tied-rows": ("qwen3", {}, [5, 300, 9]),
    "tied-whole": ("qwen3", {"modules_to_save": ["lm_head"]}, []),
    "whole": ("llama", {"modules_to_save": ["embed_tokens", "lm_head", "norm"]}, []),
    "head": ("mistral", {"target_modules": ["*_proj", "embed_tokens", "lm_head"]}, []),
}
"""Architecture, keys of `training.lora`, new rows."""
Open = Callable[..., Run]


@pytest.fixture
def open_lora(open_tiny: Open, prepared_tiny: PreparedTiny, tiny_model_folder: Any, tmp_path: Path) -> Open:
    """`open_lora(case, **changes)`: a run with adapters on the tiny project, ready to be exported from."""

    def build(case: str = "mistral", folder: Path | None = None, lora: Any = None, **changes: Any) -> Run:
        name, keys, rows = CASES[case]
        recipe = parse_recipe(prepared_tiny.text)
        size = recipe.model.architecture["vocab_size"]
        base = folder or tiny_model_folder(name, vocab_size=size)
        model = {"name_or_path": str(base), "tokenizer": recipe.model.tokenizer}
        changes = {"training.lora": json.dumps({"rank": 4, "alpha": 8, **keys, **(lora or {})}), **changes}
        given = {"model_folder": base, "new_rows": rows}
        run = open_tiny(given=given, **{"model": json.dumps(model), **changes})
        record_inputs(run.recipe, Inputs(run.tokenizer, base, {}))
        return run

    return build


def save(run: Run) -> Path:
    run.checkpointer.begin(run.step, run.tensors(), run.state())
    name = run.checkpointer.wait_and_commit()
    assert name is not None
    return run.checkpointer.directory / name


@pytest.mark.parametrize("case", ["mistral", "mixtral", "tied-rows", "whole"])
def test_steps_equal_those_of_a_naive_loop_over_plain_peft(open_lora: Open, case: str):
    run = open_lora(case, **{"training.weight_decay": 0.05, "training.max_grad_norm": 0.7})
    base = AutoModelForCausalLM.from_pretrained(run.model_folder, dtype=torch.float32).train()
    plain = plain_peft(base, run.model.adapters.config, trained_of(run.model))
    trained = {name: parameter for name, parameter in plain.named_parameters() if parameter.requires_grad}
    groups = [
        {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in trained.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    settings = run.recipe.training
    adamw = torch.optim.AdamW(groups, betas=(settings.adam_beta1, settings.adam_beta2), eps=settings.adam_epsilon)
    for step in range(1, 5):
        batch = batch_of(run, step)
        (micro,) = batch.micro_batches
        output = plain(input_ids=micro.inputs, use_cache=False, **(
            {"output_router_logits": True} if run.model.has_router else {}))  # fmt: skip
        loss = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), micro.targets.flatten())
        total = loss + (plain.config.router_aux_loss_coef * output.aux_loss if run.model.has_router else 0.0)
        total.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), settings.max_grad_norm)
        for group in adamw.param_groups:
            group["lr"] = run.schedule(step)
        adamw.step()
        adamw.zero_grad()
        assert train_step(run, batch).loss == pytest.approx(loss.item(), abs=1e-5)
    moved = trained_of(run.model)
    for name, parameter in trained.items():
        assert torch.allclose(moved[name], parameter, atol=2e-5), name


@pytest.mark.parametrize(("case", "precision"), [("whole", "fp32-master"), ("tied-rows", "fp32")])
def test_resume_is_bitwise_equal_to_an_uninterrupted_run(open_lora: Open, tmp_path: Path, case: str, precision: str):
    keys = {"training.precision": precision, "lora": {"dropout": 0.2}}
    whole = open_lora(case, **keys, run_dir=str(tmp_path / "whole"))
    for step in range(1, 5):
        train_step(whole, batch_of(whole, step))
    first = open_lora(case, **keys)
    for step in range(1, 3):
        train_step(first, batch_of(first, step))
    save(first)
    second = open_lora(case, **keys)
    assert second.step == 2
    for step in range(3, 5):
        train_step(second, batch_of(second, step))
    expected, found = tensors_of(whole), tensors_of(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_checkpoint_holds_what_is_trained_and_the_bases_digest(open_lora: Open):
    run = open_lora("tied-rows")
    place = save(run)
    manifest, state = read_json(place / "manifest.json"), read_json(place / "state.json")
    trained = {name: tuple(value.shape) for name, value in trained_of(run.model).items()}
    assert {name for name in manifest["tensors"] if name.startswith("model.")} == {f"model.{name}" for name in trained}
    assert len(manifest["tensors"]) == 4 * len(trained)  # two moments and a count each
    assert trained["model.embed_tokens.token_adapter.trainable_tokens_delta.default"] == (3, 16)
    assert state["base"]["digest"] == run.model.adapters.base
    assert state["base"]["folder"] == str(run.model_folder)
    assert state["base"]["parameters"] == sum(
        p.numel() for p in AutoModelForCausalLM.from_pretrained(run.model_folder).parameters()
    )
    lines, sound = inspect_path(place)
    assert sound
    numbers = sum(value.numel() for value in trained_of(run.model).values())
    assert any(
        f"  adapters: {numbers:,} parameters, trained beside the {state['base']['parameters']:,} of " in line
        for line in lines
    )
    assert run.checkpoint_bytes < 0.6 * sum(path.stat().st_size for path in run.model_folder.glob("*.safetensors"))


def changed_copy(base: Path, folder: Path) -> Path:
    """The same model in another folder, but for one number."""
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 0.125
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_another_base_is_refused_and_a_moved_one_taken(open_lora: Open, tmp_path: Path):
    run = open_lora()
    place = save(run)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in run.model_folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert open_lora(folder=moved).recipe.model.name_or_path == str(moved)
    other = changed_copy(run.model_folder, tmp_path / "other")
    with pytest.raises(RecipeError, match=r"are not those of the base that its adapters were trained beside"):
        open_lora(folder=other)
    with pytest.raises(ModelError, match=r"other are not those of the base"):
        export(place, tmp_path / "out", base=other)
    assert not (tmp_path / "out").exists()
    export(place, tmp_path / "out", base=moved)


def test_a_run_does_not_go_on_with_other_adapters_or_with_all_weights(open_lora: Open):
    save(open_lora())
    with pytest.raises(RecipeError, match=r"training\.lora\.rank: 4 in the checkpoint, 8 in the recipe"):
        open_lora(lora={"rank": 8})
    with pytest.raises(RecipeError, match=r"training\.lora: "):
        open_lora(**{"training.lora": "null"})


@pytest.mark.parametrize("case", CASES)
def test_the_export_is_what_peft_merges_and_its_adapter_what_peft_loads(open_lora: Open, tmp_path: Path, case: str):
    run = open_lora(case)
    move_adapters(run.model)
    place = save(run)
    for dtype in ("float32", "bfloat16"):
        export(place, tmp_path / dtype, dtype)
        assert is_export_of(place, tmp_path / dtype, dtype)
    assert "adapter/adapter_model.safetensors" in read_json(tmp_path / "float32" / EXPORT_MARK)["files"]
    ours, rounded = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype="auto") for name in ("float32", "bfloat16")
    )
    base = AutoModelForCausalLM.from_pretrained(run.model_folder, dtype=torch.float32)
    plain = peft.PeftModel.from_pretrained(base, tmp_path / "bfloat16" / "adapter")
    tokens = torch.tensor([[5, 300, 9, *range(20, 40)]])
    with torch.no_grad():
        assert torch.equal(run.model.logits(tokens), plain(tokens).logits)
        torch.testing.assert_close(ours(tokens).logits, plain(tokens).logits, rtol=1e-5, atol=1e-5)
    merged = plain.merge_and_unload().state_dict()
    assert merged.keys() == ours.state_dict().keys()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, merged[name], rtol=1e-6, atol=1e-7)
        assert torch.equal(rounded.state_dict()[name], value.to(torch.bfloat16) if value.is_floating_point() else value)
    assert ours.config.tie_word_embeddings == case.startswith("tied")
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) == case.startswith("tied")


@pytest.mark.parametrize("hub_id", [None, "owner/base-7b"])
def test_an_adapter_names_its_base_as_others_know_it_and_no_place_of_this_machine(
    open_lora: Open, tmp_path: Path, hub_id: str | None
):
    """peft loads it all the same (`test_the_export_is_what_peft_merges…` does, from a base of this machine)."""
    run = open_lora()
    if hub_id is not None:  # which the run has found in its cache
        model = run.recipe.model.model_copy(update={"name_or_path": hub_id})
        run.recipe = run.recipe.model_copy(update={"model": model})
    export(save(run), tmp_path / "out")
    folder = tmp_path / "out" / "adapter"
    assert read_json(folder / "adapter_config.json")["base_model_name_or_path"] == hub_id
    assert peft.PeftConfig.from_pretrained(folder).base_model_name_or_path == hub_id
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
        assert str(run.model_folder).encode() not in path.read_bytes()


def test_the_mean_of_checkpoints_is_that_of_their_merged_models(open_lora: Open, tmp_path: Path):
    run = open_lora("whole")
    places, merged = [], []
    for step in (1, 2):
        run.step = step
        move_adapters(run.model)
        places.append(save(run))
        merged.append(read_weights(places[-1:], "float32").tensors)
    mean = read_weights(places, "float32").tensors
    for name, value in mean.items():
        torch.testing.assert_close(value, (merged[0][name] + merged[1][name]) / 2, rtol=1e-6, atol=1e-7)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(merged[0][name], merged[1][name])


def test_a_base_that_is_gone_is_named_with_the_remedy(open_lora: Open, tmp_path: Path):
    run = open_lora()
    base = changed_copy(run.model_folder, tmp_path / "base")
    place = save(open_lora(folder=base, run_dir=str(tmp_path / "second")))
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"base is gone: .* holds adapters alone.* --base"):
        export(place, tmp_path / "out")
    export(place, tmp_path / "out", base=tmp_path / "elsewhere")


def test_embeddings_alone_need_something_of_them_that_is_trained(open_lora: Open):
    rows = open_lora("rows", **{"training.embedding_warmup_steps": 2, "training.embedding_lr_factor": 3.0})
    free = rows.optimizer.parameters.keys() - rows.optimizer.frozen(1)
    assert all("trainable_tokens" in name for name in free)
    assert len(free) == 2
    for key, value in (("embedding_warmup_steps", 2), ("embedding_lr_factor", 3.0)):
        with pytest.raises(
            RecipeError, match=rf"training\.{key}: nothing of .* is trained; with training\.lora set new_rows"
        ):
            open_lora("mistral", **{f"training.{key}": value})


def test_freezing_goes_by_the_names_of_adapters(open_lora: Open):
    run = open_lora(**{"training.freeze": json.dumps([{"parameters": ["model.layers.0.*"]}])})
    before = trained_of(run.model)
    for step in (1, 2):
        train_step(run, batch_of(run, step))
    moved = {name for name, value in trained_of(run.model).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("model.layers.1.")}


@pytest.mark.parametrize("case", ["tied-rows", "whole"])
def test_held_out_text_and_questions_are_asked_of_the_adapted_model(open_lora: Open, monkeypatch, case: str):
    whole = while_training.quick_suite
    monkeypatch.setattr(
        while_training, "quick_suite", lambda *arguments: [replace(p, items=p.items[:6]) for p in whole(*arguments)][:2]
    )
    run = open_lora(case, **{"training.max_steps": 2, "training.evaluate.every": 2, "training.eval_steps": 2})
    move_adapters(run.model)
    recorder = Recorder()
    sources = {name: replace(source, language=name) for name, source in run.sources.items()}
    asked = while_training.questions(run.recipe, sources, run.tokenizer)
    assert train(run, [recorder], asked, measures_due(run.recipe.training, run.step, at_end=False))
    assert [step for step, _ in recorder.evaluations] == [step for step, _ in recorder.validations] == [0, 2]
    before, after = (scores["ja"]["bits_per_byte"] for _, scores in recorder.validations)
    assert before != after


@pytest.mark.parametrize("mode", ["blocks", "selective"])
def test_recomputed_activations_change_no_bit_of_what_is_trained(open_lora: Open, tmp_path: Path, mode: str):
    trained = []
    for how in ("none", mode):
        run = open_lora("mistral", **{"training.activation_checkpointing": how, "run_dir": str(tmp_path / how)})
        for step in (1, 2):
            train_step(run, batch_of(run, step))
        trained.append(trained_of(run.model))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
