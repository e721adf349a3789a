"""Run directories with checkpoints of given models, as the training loop writes them, without training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tsugiki.training.checkpoint import Checkpointer
from tsugiki.training.distributed import Processes

MakeRun = Callable[..., tuple[Any, Path]]


@pytest.fixture
def make_run(processes: Processes) -> MakeRun:
    """make_run(run_dir, folder, tokenizer=None, dtype="float32"): the model of a folder, and its checkpoint of step 7
    in a run directory; with `more` further ones, at steps 8, 9, … with other weights, and the name of the last."""

    def make(
        run_dir: Path, folder: Path, tokenizer: Path | None = None, dtype: str = "float32", more: int = 0
    ) -> tuple[Any, Path]:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        target = run_dir / "model"
        target.mkdir(parents=True)
        for source in filter(None, (folder, tokenizer)):
            for path in source.iterdir():
                if path.suffix != ".safetensors" and "index" not in path.name:
                    (target / path.name).write_bytes(path.read_bytes())
        if tokenizer is None:
            (target / "tokenizer.json").write_text("{}")
        checkpointer = Checkpointer(run_dir / "checkpoints", processes, lineage="test")
        for step in range(7, 8 + more):
            if step > 7:
                move(model, step)
            moments = {f"optimizer.{name}.exp_avg": torch.randn_like(p) for name, p in model.named_parameters()}
            checkpointer.begin(step, stored_tensors(model) | moments, {"step": step, "model_files": "model"})
            name = checkpointer.wait_and_commit()
            assert name is not None
        return model, run_dir / "checkpoints" / name

    return make


def stored_tensors(model: Any) -> dict[str, torch.Tensor]:
    """A model's tensors by the names of a checkpoint: parameters, a tied one once, and buffers that its files hold."""
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    return tensors | {f"model.{name}": value for name, value in model.state_dict().items() if name not in tied}


def move(model: Any, seed: int) -> None:
    """Change every weight a little, as steps of training do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in stored_tensors(model).values():
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
