"""What only a GPU can show. Skipped without one; `make gpu` runs these alone."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from whole_runs import final_tensors, recipe_for, step_losses

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NAMES = ["mistral", "mistral-tied", "qwen3", "gemma2", "gemma3-multimodal", "gpt_neox", "granite"]


def close(ours: torch.Tensor, reference: torch.Tensor, tolerance: float) -> None:
    """Relative error of a whole tensor, by its norm."""
    ours, reference = ours.double().cpu(), reference.double().cpu()
    assert torch.linalg.vector_norm(ours - reference) <= tolerance * torch.linalg.vector_norm(reference)


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_the_plain_model_in_float64_on_the_cpu(
    name: str, tiny_model_folder: Callable[..., Path]
) -> None:
    from transformers import AutoModelForCausalLM

    from tsugiki.model.load import load_model
    from tsugiki.model.shard import make_mesh

    folder = tiny_model_folder(name)
    chosen = SimpleNamespace(
        name_or_path=folder, architecture=None, revision=None, attn_implementation=None, allow_pickle=False
    )
    ours = load_model(chosen, mesh=make_mesh("full", device_type="cuda"), precision="fp32", device="cuda")
    window = torch.randint(3, 80, (2, 33), generator=torch.Generator().manual_seed(1))
    inputs, targets = window[:, :-1], window[:, 1:]
    loss = ours(inputs.cuda(), targets.cuda()).loss_sum
    loss.backward()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).train()
    logits = plain(input_ids=inputs, use_cache=False).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    expected.backward()
    close(loss.detach(), expected.detach(), 1e-4)
    gradients = dict(plain.named_parameters())
    for key, parameter in ours.named_hf_parameters():
        if parameter.grad is not None:
            close(parameter.grad.full_tensor(), gradients[key].grad, 1e-3)


@pytest.mark.parametrize("name", ["mistral", "gemma2", "qwen3", "mixtral"])
def test_cached_answers_are_those_of_the_cpu(name: str, tiny_model_folder: Callable[..., Path]) -> None:
    from tsugiki.model.cached import CachedModel, Continuation, Prompt
    from tsugiki.model.load import read_pretrained

    draw = torch.Generator().manual_seed(2)
    texts = [torch.randint(3, 80, (length,), generator=draw).tolist() for length in (5, 9, 9, 17, 30, 12)]
    asked = [Continuation(tuple(text), tuple(text[:4])) for text in texts]
    prompts = [Prompt(tuple(text), 8, lambda new: False) for text in texts]
    answers: list[tuple[dict[int, Any], dict[int, list[int]]]] = []
    for device in ("cpu", "cuda"):
        hf, _ = read_pretrained(tiny_model_folder(name))
        model = CachedModel(hf.to(device), batch_tokens=64, stop_ids=frozenset({2}))
        scores: dict[int, Any] = {}
        written: dict[int, list[int]] = {}
        model.score(asked, scores.__setitem__)
        model.generate(prompts, written.__setitem__)
        answers.append((scores, written))
    (cpu_scores, cpu_written), (gpu_scores, gpu_written) = answers
    assert gpu_written == cpu_written
    for i, score in cpu_scores.items():
        assert gpu_scores[i].logprob == pytest.approx(score.logprob, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "fp32-master"},
        {"precision": "bf16-stochastic"},
        {"precision": "pure-bf16"},
        {"precision": "fp32-master", "compile": True},
        {"precision": "fp32-master", "activation_checkpointing": "blocks"},
        {"precision": "fp32-master", "activation_checkpointing": "selective", "compile": True},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_run_passes_preflight_learns_and_exports(prepared, launch, changes: dict[str, Any]) -> None:
    """The real command in each number format; the loss falls."""
    name = "gpu-" + "-".join(map(str, changes.values()))
    settings = {f"training.{key}": value for key, value in changes.items()}
    recipe, run_dir = recipe_for(
        prepared, name, **settings | {"training.max_steps": 30, "training.learning_rate": 1e-2}
    )
    running = launch("train", recipe)
    assert running.wait() == [0], running.output()
    losses = step_losses(run_dir)
    assert losses[30] < losses[1] - 0.3
    probes = json.loads((run_dir / "preflight.json").read_text(encoding="utf-8"))["probes"]
    assert "FAIL" not in {probe["verdict"] for probe in probes}
    assert (run_dir / "model").is_dir()


def test_a_killed_deterministic_run_ends_bitwise_as_the_uninterrupted_one(prepared, launch) -> None:
    steps = {
        "training.max_steps": 40, "training.save_steps": 4, "training.eval_steps": None,
        "training.deterministic": True, "training.precision": "fp32-master",
    }  # fmt: skip
    whole, whole_dir = recipe_for(prepared, "gpu-whole", **steps)
    assert launch("train", whole).wait() == [0]
    killed, killed_dir = recipe_for(prepared, "gpu-killed", **steps)
    for line in ("step 7/", "step 19/"):
        running = launch("train", killed)
        running.wait_for(line)
        running.signal(signal.SIGKILL)
        running.wait()
    assert launch("train", killed).wait() == [0]
    assert final_tensors(killed_dir) == final_tensors(whole_dir)
    assert step_losses(killed_dir) == step_losses(whole_dir)


def test_a_checkpoint_holds_the_weights_of_its_step_not_of_the_next(prepared, launch) -> None:
    """Copies leave the GPU while the next step runs: a save at every step equals one save at the end."""
    often, often_dir = recipe_for(
        prepared, "gpu-often",
        **{"training.max_steps": 9, "training.save_steps": 1, "training.eval_steps": None, "training.deterministic": True},
    )  # fmt: skip
    assert launch("train", often).wait() == [0]
    for steps in (5, 9):
        seldom, seldom_dir = recipe_for(
            prepared, f"gpu-seldom-{steps}",
            **{"training.max_steps": 9, "training.save_steps": steps, "training.eval_steps": None,
               "training.deterministic": True, "training.save_total_limit": 9},
        )  # fmt: skip
        assert launch("train", seldom).wait() == [0]
    assert final_tensors(often_dir) == final_tensors(seldom_dir)
