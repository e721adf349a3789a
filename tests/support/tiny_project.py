"""A tiny prepared project, and what tests ask of a run that is opened on it in their own process."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from preflight_project import conversations

from tsugiki.training.batches import StepBatch, read_step
from tsugiki.training.run import Run

TEXT = Path(__file__).parents[2] / "src/tsugiki/quickstart/text"


@dataclass
class PreparedTiny:
    text: str  # a recipe as YAML
    sources: Any
    tokenizer: Any


def prepare_tiny(folder: Path, tokenizer: Path, chat: bool = False) -> PreparedTiny:
    """Two languages, prepared below `folder`, and a recipe for a tiny random Mistral. chat: conversations instead of
    the first, in packs of 96 positions."""
    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.pipeline import run_prepare
    from tsugiki.recipe_file import parse_recipe
    from tsugiki.recipe_inputs import load_tokenizer

    for language in ("en", "ja"):
        lines = [
            line for path in sorted(TEXT.glob(f"{language}-*.jsonl")) for line in path.read_text("utf-8").splitlines()
        ]
        (folder / f"{language}.jsonl").write_text("\n".join(lines[:140]) + "\n", encoding="utf-8")
    size = max(json.loads((tokenizer / "tokenizer.json").read_text("utf-8"))["model"]["vocab"].values()) + 1
    recipe = {
        "run_dir": str(folder / "run"),
        "model": {
            "architecture": {
                "model_type": "mistral", "vocab_size": size + size % 2, "hidden_size": 16, "intermediate_size": 24,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
                "max_position_embeddings": 64, "sliding_window": None,
            },
            "tokenizer": str(tokenizer),
        },
        "data": {
            "sequence_length": 32, "held_out": 0.3, "workers": 1, "prepared_dir": str(folder / "data"),
            "sources": {
                "ja": {"path": str(folder / "ja.jsonl"), "weight": 2}, "en": {"path": str(folder / "en.jsonl"), "weight": 1},
            },
        },
        "training": {
            "max_steps": 6, "global_batch_size": 6, "micro_batch_size": 6, "learning_rate": 5e-3, "precision": "fp32",
            "save_steps": 3, "eval_steps": 3, "eval_documents": 3,
        },
        "tracking": {"report_to": ["none"]},
    }  # fmt: skip
    if chat:
        lines = [json.dumps(record, ensure_ascii=False) for record in conversations(240)]
        (folder / "talk.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        data = recipe["data"]
        data["sources"]["talk"] = {"path": str(folder / "talk.jsonl"), "format": "chat", "weight": 2}
        del data["sources"]["ja"]
        recipe["model"]["architecture"]["max_position_embeddings"] = 96
        data |= {"sequence_length": 96, "chat": {"template": "mistral-v1"}}
    text = yaml.safe_dump(recipe)
    parsed = parse_recipe(text)
    run_prepare(parsed)
    return PreparedTiny(text, open_prepared(parsed), load_tokenizer(parsed))


def batch_of(run: Run, step: int) -> StepBatch:
    return read_step(run.reader, step, run.cut)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor, put together if it is sharded."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return {name: whole(tensor) for name, tensor in run.model.named_hf_parameters()}


def tensors_of(run: Run) -> dict[str, torch.Tensor]:
    """Weights and the optimiser's state: all that a checkpoint holds."""
    return {name: whole(tensor) for name, tensor in run.tensors().items()}


def plain_model(run: Run) -> Any:
    """The run's model as plain transformers builds it, with the run's weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = dict(run.recipe.model.architecture)
    plain = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32
    )
    missing, unexpected = plain.load_state_dict(weights_of(run), strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if run.model.tied else [])
    return plain


class Recorder:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.validations: list[tuple[int, dict[str, dict[str, float]]]] = []
        self.evaluations: list[tuple[int, dict[str, dict[str, float]]]] = []
        self.spikes: list[dict[str, Any]] = []
        self.closed = False

    def after_step(self, figures: dict[str, Any]) -> None:
        self.steps.append(figures)

    def after_validation(self, step: int, scores: dict[str, dict[str, float]]) -> None:
        self.validations.append((step, scores))

    def after_evaluation(self, step: int, figures: dict[str, dict[str, float]]) -> None:
        self.evaluations.append((step, figures))

    def after_spike(self, figures: dict[str, Any]) -> None:
        self.spikes.append(figures)

    def close(self) -> None:
        self.closed = True
