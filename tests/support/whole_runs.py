"""What tests of whole runs ask of a run directory, and its recipe."""

import json
import shutil
from pathlib import Path

from safetensors import safe_open

LONG_PROBES = ["own_path", "causality", "isolation", "accumulation", "labels", "gradient_scale", "clipping"]
"""Of preflight: most of what a start takes in so small a run. For `training.preflight.skip` where something else is tried."""


def final_tensors(run_dir: Path) -> dict[str, bytes]:
    """Every tensor of the newest checkpoint as bytes, keyed by shard file and name."""
    newest = max(path for path in (run_dir / "checkpoints").iterdir() if path.name.startswith("step_"))
    tensors = {}
    for path in sorted(newest.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensors[f"{path.name}/{name}"] = file.get_tensor(name).numpy().tobytes()
    assert tensors
    return tensors


def step_losses(run_dir: Path) -> dict[int, float]:
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {record["step"]: record["loss"] for record in records if record["kind"] == "step"}


def recipe_for(project, name: str, **changes: object) -> tuple[Path, Path]:
    run_dir = project.folder / name
    shutil.rmtree(run_dir, ignore_errors=True)
    return project.write(f"{name}.yaml", run_dir=str(run_dir), **changes), run_dir
