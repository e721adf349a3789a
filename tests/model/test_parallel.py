"""Loss and gradients on two processes against a plain Hugging Face forward and backward of the whole model.

One launch serves all architectures, meshes and the other collective promises: a start costs seconds of imports.
"""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from forked_scripts import Ranks
from naive_step import assert_same_gradients, naive_step
from safetensors.torch import load_file, save_file

from tsugiki.model.bits_per_byte import score_documents

NAMES = [
    "mistral", "mistral-tied", "llama", "qwen3", "gemma2", "gemma3", "gemma3-multimodal", "phi3", "gpt_neox",
    "granite", "phi", "mixtral", "qwen3_moe", "deepseek_v3",
]  # fmt: skip
MESHES = {
    "mistral-none": ("mistral", "none", None), "gemma2-hybrid": ("gemma2", "hybrid", 2),
    "mixtral-hybrid": ("mixtral", "hybrid", 2),
}  # fmt: skip


def naive_conversations(model: Any, worker: ModuleType) -> tuple[float, dict[str, torch.Tensor]]:
    """The same of conversations, each alone and whole, token by token (the router's loss aside: it is a mean over a
    micro-batch)."""
    loss, weight = torch.zeros(()), 0.0
    for ids, weights in (conversation for pack in worker.packs() for conversation in pack):
        log_probabilities = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)
        for place in range(1, len(ids)):
            loss = loss - weights[place] * log_probabilities[place - 1, ids[place]]
            weight += weights[place]
    (loss / weight).backward()
    return loss.item() / weight, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def references(
    tiny_model_folder: Callable[..., Path], load_plain: Callable[..., Any], worker: ModuleType
) -> dict[str, tuple[float, dict[str, torch.Tensor]]]:
    return {name: naive_step(load_plain(tiny_model_folder(name)), worker) for name in NAMES}


@pytest.fixture(scope="module")
def ours(load: Callable[..., Any], tiny_model_folder: Callable[..., Path], worker: ModuleType) -> Callable[[str], Any]:
    """`ours(name)`: our model on this one process, without gradients; opened once."""
    opened = functools.cache(
        lambda name: load(tiny_model_folder(name), loss_chunk_tokens=4, router_coefficient=worker.ROUTER_COEFFICIENT)
    )

    def anew(name: str) -> Any:
        model = opened(name)
        model.zero_grad()
        return model

    return anew


@pytest.fixture(scope="module")
def broken_folder(tiny_model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(tiny_model_folder("mistral"), folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def two_processes(
    tiny_model_folder: Callable[..., Path],
    tiny_config: Callable[..., dict[str, Any]],
    broken_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    ranks: Ranks,
) -> Path:
    job = tmp_path_factory.mktemp("job")
    steps = [{"name": name, "folder": str(tiny_model_folder(name)), "shard": "full", "packed": True} for name in NAMES]
    steps += [
        {"name": key, "folder": str(tiny_model_folder(name)), "shard": shard, "replicas": replicas}
        for key, (name, shard, replicas) in MESHES.items()
    ]
    mixed = {"precision": "fp32-master", "micro_batch": 2}
    steps.append({"name": "mixed", "folder": str(tiny_model_folder("mistral")), "shard": "full", **mixed})
    jobs = {"steps": steps, "scored": "mistral", "drawn": tiny_config("mistral"), "broken": str(broken_folder)}
    (job / "jobs.json").write_text(json.dumps(jobs))
    ranks(Path(__file__).with_name("parallel_worker.py"), [[job, rank, 2] for rank in range(2)])
    return job


@pytest.mark.parametrize("name", NAMES)
def test_step_on_one_process_equals_plain_hugging_face(
    name: str, references: Any, worker: ModuleType, ours: Callable[[str], Any]
) -> None:
    model = ours(name)
    assert model.describe()["head"].startswith("chunked")
    loss, gradients = worker.run_step(model, 0, 1)
    expected, expected_gradients = references[name]
    assert loss == pytest.approx(expected, abs=2e-6)
    assert_same_gradients(gradients, expected_gradients)


@pytest.mark.parametrize("name", [*NAMES, *MESHES])
def test_step_on_two_processes_with_uneven_targets_equals_plain_hugging_face(
    name: str, references: Any, two_processes: Path
) -> None:
    facts = json.loads((two_processes / "facts.json").read_text())[name]
    expected, expected_gradients = references[MESHES[name][0] if name in MESHES else name]
    assert facts["loss"] == pytest.approx(expected, abs=2e-6)
    assert_same_gradients(load_file(two_processes / f"{name}.safetensors"), expected_gradients)
    norm = torch.stack([value.norm() for value in expected_gradients.values()]).norm()
    assert facts["norm"] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_packs_equals_that_of_its_conversations_one_by_one(
    name: str, worker: ModuleType, ours: Callable[[str], Any], load_plain: Callable[..., Any],
    tiny_model_folder: Callable[..., Path], two_processes: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expected, gradients = naive_conversations(load_plain(tiny_model_folder(name)), worker)
    model = ours(name)
    monkeypatch.setattr(model, "router_coefficient", 0.0)
    for micro_batch in (1, 4):
        model.zero_grad()
        loss, found = worker.run_step(model, 0, 1, micro_batch, packed=True)
        assert loss == pytest.approx(expected, abs=2e-6)
        assert_same_gradients(found, gradients)
    facts = json.loads((two_processes / "facts.json").read_text())[f"{name}-packed"]
    assert facts["loss"] == pytest.approx(expected, abs=2e-6)
    assert_same_gradients(load_file(two_processes / f"{name}-packed.safetensors"), gradients)


def test_bf16_gradients_of_two_processes_are_added_up_in_fp32(references: Any, two_processes: Path) -> None:
    """The sum of two bf16 numbers of unlike size is none: one that was rounded to bf16 would be."""
    found, (_, expected) = load_file(two_processes / "mixed.safetensors"), references["mistral"]
    for name, gradient in found.items():
        assert (gradient - expected[name]).norm() < 0.1 * expected[name].norm(), name
        if name.endswith("proj.weight"):
            assert (gradient != gradient.bfloat16()).float().mean() > 0.3, name


def test_random_weights_do_not_depend_on_the_number_of_processes(
    two_processes: Path, worker: ModuleType, tiny_config: Callable[..., Any]
) -> None:
    model = worker.load_model(
        worker.settings(architecture=tiny_config("mistral")), mesh=worker.make_mesh("full"), precision="fp32", seed=3
    )
    drawn = load_file(two_processes / "drawn.safetensors")
    ours = {name: value.full_tensor() for name, value in model.named_hf_parameters()}
    assert ours.keys() == drawn.keys()
    assert all(torch.equal(drawn[name], value) for name, value in ours.items())


def test_rank_zeros_load_error_is_raised_on_every_rank(two_processes: Path) -> None:
    first, second = json.loads((two_processes / "facts.json").read_text())["errors"]["broken"]
    assert first == second
    assert first[0] == "ModelError"
    assert "model.layers.1.self_attn.q_proj.weight" in first[1]


def test_what_rank_0_answers_or_fails_at_is_known_to_all(two_processes: Path):
    facts = json.loads((two_processes / "facts.json").read_text())
    assert facts["answers"] == [{"rank": 0}, {"rank": 0}]
    own, other = facts["errors"]["not ours"]
    assert own == ["IndexError", "list index out of range"]
    assert other == ["TsugikiError", "rank 0 failed: IndexError('list index out of range')"]


def test_scores_of_documents_do_not_depend_on_the_number_of_processes(
    two_processes: Path, worker: ModuleType, load: Callable[..., Any], tiny_model_folder: Callable[..., Path]
) -> None:
    facts = json.loads((two_processes / "facts.json").read_text())
    scores = score_documents(
        load(tiny_model_folder("mistral")), worker.documents(), bos_id=1, context=8, batch_tokens=16
    )
    assert scores is not None
    assert facts["nats"] == pytest.approx(scores.nats.tolist(), rel=1e-6)
    assert facts["tokens"] == scores.tokens.tolist() == [1, 40, 7, 23, 3]
