"""Preflight under sharding: the same verdict on every rank, and the traps that one process cannot show."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from forked_scripts import Ranks
from preflight_project import chat_changes, recipe_values

SUPPORT = Path(__file__).parents[2] / "support"
SOURCE = Path(__file__).parents[3] / "src"
HEALTHY = {
    "mistral": ("mistral", {}),
    "copies": ("gemma2", {"parallel.shard": "none"}),
    "embeddings first": ("phi", {"training.embedding_warmup_steps": 1, "training.embedding_lr_factor": 3.0}),
    "experts, isolated": ("mixtral", {"data.isolate_documents": True}),
    "packed text": ("llama", {"data.packing": "best_fit"}),
    "conversations": ("llama", {"training.loss_normalization": "conversation"}),
    "mixed precision": (
        "mistral-tied",
        {"training.precision": "fp32-master", "training.preflight": {"skip": ["bf16_speed"]}},
    ),
}
if find_spec("peft") is not None:
    HEALTHY["adapters"] = (
        "mistral",
        {
            "training.lora": {"rank": 3, "alpha": 6.0},
            "training.precision": "fp32-master",
            "training.preflight": {"skip": ["bf16_speed"]},
        },
    )
    HEALTHY["adapters, whole embeddings, copies"] = (
        "qwen3",
        {"training.lora": {"rank": 4, "modules_to_save": ["embed_tokens"]}, "parallel.shard": "none"},
    )
TRAPS = {
    "clip by shard": ({"clipping"}, {}),
    "gradients averaged": ({"gradient_scale"}, {}),
    "one rank's schedule": ({"schedule"}, {}),
    # A rank that finds its own data wrong must still take part in what the others do together; the gradient of the
    # output layer, which two checks read, is a sum over ranks.
    "one rank's targets": ({"labels", "gradient_scale"}, {}),
    "one rank's order": ({"labels", "gradient_scale"}, {}),
    "one rank's positions": ({"isolation"}, {"data.isolate_documents": True}),
}


@pytest.fixture(scope="module")
def found(
    preflight_project: Path, tiny_tokenizer_folder: Path, tiny_model_folder: Callable[..., Path],
    tiny_config: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory,
    ranks: Ranks,
) -> list[dict[str, Any]]:  # fmt: skip
    """What each of two ranks found, by job; one launch for all."""
    folder = tmp_path_factory.mktemp("two")
    jobs = [(name, model, changes, "") for name, (model, changes) in HEALTHY.items()]
    jobs += [(trap, "mistral", changes, trap) for trap, (_, changes) in TRAPS.items()]
    entries = []
    for name, model, changes, trap in jobs:
        section = {"architecture": tiny_config(model, vocab_size=384)}
        if name == "mistral" or "training.lora" in changes:
            section = {"name_or_path": str(tiny_model_folder(model, vocab_size=384))}
        if name == "conversations":
            changes = chat_changes(preflight_project) | changes
        values = recipe_values(
            preflight_project, tiny_tokenizer_folder, section, run_dir=str(folder / name.replace(" ", "-")), **changes
        )
        entries.append({"name": name, "recipe": values, "trap": trap})
    (folder / "jobs.json").write_text(json.dumps(entries))
    ranks(SUPPORT / "preflight_worker.py", [[folder, rank, 2] for rank in range(2)])
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_passes_on_both_ranks(found: list[dict[str, Any]], name: str):
    for rank in found:
        assert rank[name]["failed"] == [], rank[name].get("error")
        assert rank[name]["unchanged"]
    assert found[0][name]["verdicts"] == found[1][name]["verdicts"]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_named_on_both_ranks(found: list[dict[str, Any]], trap: str):
    for rank in found:
        assert set(rank[trap]["failed"]) == TRAPS[trap][0], rank[trap].get("error")
        assert rank[trap]["unchanged"]
    assert found[0][trap]["error"] == found[1][trap]["error"]
