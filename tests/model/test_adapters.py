"""LoRA's gradients against a naive loop over plain peft, on one process and on two; what may be named, and what not."""

import builtins
import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from forked_scripts import Ranks
from lora_cases import CASES, lora_settings, move_adapters, options_of, plain_peft, trained_of
from naive_step import assert_same_gradients, naive_step
from safetensors.torch import load_file

from tsugiki.errors import RecipeError
from tsugiki.lora_size import about_lora
from tsugiki.model.adapters import base_digest, base_name, is_trained
from tsugiki.preview import preview_adapters
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_training import LoraSection

pytest.importorskip("peft")

ARCHITECTURES = ["mistral", "llama", "qwen3", "gemma2", "mixtral"]
TIED = ("qwen3", "gemma2")
MEETING = [(name, case) for name in ARCHITECTURES for case in CASES if not (case == "head" and name in TIED)]
ON_TWO = {
    **{f"{name}-linear": (name, "linear", "fp32") for name in ARCHITECTURES},
    **{f"qwen3-{case}": ("qwen3", case, "fp32") for case in ("whole", "rows")},
    **{f"mistral-{case}": ("mistral", case, "fp32") for case in ("whole", "rows", "head")},
    "mixed": ("mistral", "whole", "fp32-master"),
}


@pytest.fixture(scope="module")
def two_processes(
    tiny_model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, ranks: Ranks
) -> Path:
    job = tmp_path_factory.mktemp("job")
    entries = {key: (str(tiny_model_folder(name)), case, how) for key, (name, case, how) in ON_TWO.items()}
    (job / "jobs.json").write_text(json.dumps(entries))
    ranks(Path(__file__).with_name("adapters_worker.py"), [[job, rank, 2] for rank in range(2)])
    return job


@pytest.fixture(scope="module")
def moved(tiny_model_folder: Any, load: Any, load_plain: Any, worker: ModuleType) -> Callable[..., Any]:
    """`moved(name, case)`: our model with adapters that have moved, and loss and gradients of plain peft."""

    @functools.cache
    def make(name: str, case: str) -> tuple[Any, float, Any]:
        folder = tiny_model_folder(name)
        options = {"loss_chunk_tokens": 4, "router_coefficient": worker.ROUTER_COEFFICIENT, **options_of(case)}
        model = load(folder, **options)
        move_adapters(model)
        return model, *naive_step(plain_peft(load_plain(folder), model.adapters.config, trained_of(model)), worker)

    return make


@pytest.mark.parametrize(("name", "case"), MEETING)
def test_a_step_on_one_process_equals_plain_peft(name: str, case: str, moved: Any, worker: ModuleType):
    model, expected, expected_gradients = moved(name, case)
    model.zero_grad()
    loss, gradients = worker.run_step(model, 0, 1)
    assert loss == pytest.approx(expected, abs=2e-6)
    assert_same_gradients(gradients, expected_gradients)
    assert all(float(value.abs().max()) > 0 for value in gradients.values())
    assert model.tied == (name in TIED)
    assert model.description["head"].startswith("plain" if case == "head" else "chunked")


@pytest.mark.parametrize("key", [key for key, entry in ON_TWO.items() if entry[2] == "fp32"])
def test_a_step_on_two_processes_equals_plain_peft(key: str, two_processes: Path, moved: Any):
    name, case, _ = ON_TWO[key]
    facts = json.loads((two_processes / "facts.json").read_text())
    model, expected, gradients = moved(name, case)
    assert facts["cases"][key]["loss"] == pytest.approx(expected, abs=2e-6)
    assert facts["cases"][key]["digest"] == model.adapters.base
    assert_same_gradients(load_file(two_processes / f"{key}.safetensors"), gradients)


def test_fp32_adapters_beside_a_bf16_base_compute_in_bf16(
    two_processes: Path, tiny_model_folder: Any, load: Any, worker: ModuleType
):
    model = load(tiny_model_folder("mistral"), **{**options_of("whole"), "precision": "fp32-master"})
    kinds = {(p.requires_grad, p.dtype) for _, p in model.named_hf_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    move_adapters(model)
    exact = load(tiny_model_folder("mistral"), **options_of("whole"))
    move_adapters(exact)
    _, expected = worker.run_step(exact, 0, 1)
    on_one = worker.run_step(model, 0, 1)[1]
    for found in (on_one, load_file(two_processes / "mixed.safetensors")):
        assert all(value.dtype == torch.float32 for value in found.values())
        for name, value in expected.items():
            assert float((found[name] - value).norm() / value.norm()) < 0.05, name


def test_a_name_that_is_wrong_is_an_error_on_every_process(two_processes: Path):
    errors = json.loads((two_processes / "facts.json").read_text())["errors"]
    assert errors == [["RecipeError", errors[0][1]]] * 2
    assert "training.lora.target_modules: 'no_proj' matches no layer of this model" in errors[0][1]


def test_new_adapters_change_nothing_and_are_the_same_for_a_seed(tiny_model_folder: Any, load: Any, load_plain: Any):
    folder, tokens = tiny_model_folder("mistral"), torch.arange(3, 23)[None]
    first, again, other = (load(folder, seed=seed, **options_of("linear")) for seed in (3, 3, 4))
    with torch.no_grad():
        assert torch.equal(first.logits(tokens), load_plain(folder)(tokens).logits)
    drawn = [trained_of(model) for model in (first, again, other)]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert any(not torch.equal(drawn[0][name], drawn[2][name]) for name in drawn[0])


def test_all_linear_leaves_out_the_output_layer_and_towers(tiny_model_folder: Any, load: Any):
    model = load(tiny_model_folder("gemma3-multimodal"), **options_of("linear"))
    trained = [name for name, p in model.named_hf_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith("model.language_model.layers.") and is_trained(name) for name in trained)


def test_layers_are_named_whole_by_their_last_parts_or_by_a_pattern(tiny_model_folder: Any, load: Any):
    def adapted(*names: str) -> set[str]:
        model = load(tiny_model_folder("mistral"), lora=lora_settings(target_modules=list(names)))
        return {name.split(".lora_")[0] for name, p in model.named_hf_parameters() if p.requires_grad}

    q, k = ({f"model.layers.{layer}.self_attn.{kind}_proj" for layer in range(2)} for kind in "qk")
    assert adapted("q_proj") == adapted("self_attn.q_proj") == adapted("*.q_proj") == q
    assert adapted("model.layers.1.self_attn.q_proj", "k_proj") == k | {"model.layers.1.self_attn.q_proj"}


@pytest.mark.parametrize(
    ("name", "changes", "rows", "message"),
    [
        ("mistral", {"target_modules": ["q_prj"]}, [], "'q_prj' matches no layer of this model; the nearest name is q_proj"),
        ("mistral", {"target_modules": ["input_layernorm"]}, [], "'input_layernorm' matches no layer"),
        ("mistral", {"modules_to_save": ["lm_haed"]}, [], "modules_to_save: 'lm_haed' matches no layer of this model; the "
         "nearest name is lm_head"),
        ("mistral", {"target_modules": ["lm_head"], "modules_to_save": ["lm_head"]}, [], "lm_head is named under"),
        ("mistral", {"modules_to_save": ["lm_head"]}, [5], "new_rows: lm_head is trained already by its own name"),
        ("qwen3", {"target_modules": ["lm_head"]}, [], "lm_head is half of a tied pair"),
        ("phi", {}, [5], "peft leaves out the bias of this model's output layer"),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted_is_one_message(
    name: str, changes: dict[str, Any], rows: list[int], message: str, tiny_model_folder: Any, load: Any
):
    with pytest.raises(RecipeError, match=r"^training\.lora") as caught:
        load(tiny_model_folder(name), lora=lora_settings(**changes), new_rows=rows)
    assert message in str(caught.value)


def test_without_peft_the_remedy_is_named(tiny_model_folder: Any, load: Any, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RecipeError, match=r"training\.lora needs: pip install 'tsugiki\[lora\]'"):
        load(tiny_model_folder("mistral"), **options_of("linear"))


def test_a_base_is_known_by_its_values(tiny_model_folder: Any, load: Any, load_plain: Any):
    folder = tiny_model_folder("qwen3")
    models = [load(folder, **options_of(case)) for case in ("linear", "whole", "rows")]
    plain = load_plain(folder)
    assert {model.adapters.base for model in models} == {base_digest(plain, torch.float32)}
    with torch.no_grad():
        plain.model.norm.weight[0] += 1e-3
    assert base_digest(plain, torch.float32) != models[0].adapters.base


@pytest.mark.parametrize(
    ("wrapped", "name"),
    [
        ("model.layers.0.self_attn.q_proj.base_layer.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("lm_head.original_module.weight", "lm_head.weight"),
        ("lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("model.embed_tokens.token_adapter.base_layer.weight", "model.embed_tokens.weight"),
        ("model.norm.weight", "model.norm.weight"),
    ],
)
def test_names_of_the_base_are_found_inside_of_pefts(wrapped: str, name: str):
    assert base_name(wrapped) == name


RECKONED: list[tuple[str, dict[str, Any]]] = [
    ("mistral", {}),
    ("qwen3", {"modules_to_save": ["embed_tokens"], "rank": 3}),
    ("llama", {"target_modules": ["q_proj", "model.layers.1.*_proj"], "modules_to_save": ["lm_head", "norm"]}),
    ("mistral", {"target_modules": ["all-linear", "lm_head"]}),
    ("gemma3-multimodal", {}),
    ("mixtral", {"target_modules": ["self_attn.q_proj"]}),
]


@pytest.mark.parametrize(("name", "keys"), RECKONED)
def test_what_validate_reckons_is_what_is_trained(name: str, keys: dict[str, Any], tiny_model_folder: Any, load: Any):
    section = LoraSection.model_validate(keys)
    model = load(tiny_model_folder(name), lora=section)
    trained = sum(parameter.numel() for _, parameter in model.named_hf_parameters() if parameter.requires_grad)
    line = about_lora(section, tiny_model_folder(name))
    assert line.startswith(f"lora       about {trained:,} parameters are trained beside")


MEANT_BY_NONE: list[tuple[str, dict[str, Any], str]] = [
    (
        "mistral",
        {"target_modules": ["q_prj"]},
        r"training\.lora\.target_modules: 'q_prj' .*; the nearest name is q_proj",
    ),
    ("mistral", {"modules_to_save": ["lm_haed"]}, r"modules_to_save: 'lm_haed' matches no layer .* is lm_head"),
    ("gpt_neox", {"target_modules": ["query_key_values"]}, r"the nearest name is query_key_value"),
    (
        "gpt_neox",
        {"modules_to_save": ["embed_out"]},
        r"'embed_out' matches no layer",
    ),  # in files: transformers says lm_head
    ("mixtral", {"target_modules": ["w1"]}, r"'w1' matches no layer"),  # in files alike: transformers fuses experts
]


@pytest.mark.parametrize(("name", "keys", "said"), MEANT_BY_NONE)
def test_validate_refuses_names_that_no_layer_has(name: str, keys: dict[str, Any], said: str, tiny_model_folder: Any):
    recipe = lora_recipe(tiny_model_folder(name), keys)
    lines = preview_adapters(recipe)
    assert next(lines).startswith("lora       about ")
    with pytest.raises(RecipeError, match=said):
        next(lines)


@pytest.mark.parametrize(("name", "keys"), [*RECKONED, ("gpt_neox", {"modules_to_save": ["lm_head"]})])
def test_validate_takes_the_names_that_training_takes(name: str, keys: dict[str, Any], tiny_model_folder: Any):
    assert len(list(preview_adapters(lora_recipe(tiny_model_folder(name), keys)))) == 1


def lora_recipe(folder: Path, keys: dict[str, Any]) -> Any:
    values = {
        "run_dir": "r", "model": {"name_or_path": str(folder)},
        "data": {"sequence_length": 32, "sources": {"text": {"path": "text.jsonl", "weight": 1}}},
        "training": {"max_steps": 4, "global_batch_size": 4, "micro_batch_size": 1, "learning_rate": 1e-3, "save_steps": 1,
                     "lora": keys},
    }  # fmt: skip
    return parse_recipe(json.dumps(values), check_files=False)
