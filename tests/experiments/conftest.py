"""Sweeps of a recipe that trains nothing: its processes are `stub_tsugiki`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

STUB = Path(__file__).parents[1] / "support/stub_tsugiki.py"


class SweepProject:
    """A folder with a recipe and sweep files, which is the current directory."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.recipe: dict[str, Any] = {
            "run_dir": "runs/base-run", "seed": 7, "model": {"name_or_path": "base"},
            "data": {
                "sequence_length": 8, "held_out": 0.2,
                "sources": {
                    "ja": {"path": "ja.jsonl", "weight": 70, "language": "ja"},
                    "en": {"path": "en.jsonl", "weight": 30, "language": "en"},
                },
            },
            "training": {
                "max_steps": 12, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-3,
                "warmup_steps": 4, "save_steps": 3,
            },
            "evaluation": {"suite": "quick"},
        }  # fmt: skip
        self.sweep: dict[str, Any] = {
            "recipe": "recipe.yaml",
            "trials": {"low": {"training.learning_rate": 1e-3}, "high": {"training.learning_rate": 1e-2}},
            "judge": {"gain": ["bits_per_byte:ja"], "keep": {"bits_per_byte:en": 0.05}},
        }

    def write(self, name: str = "sweep.yaml", **changes: Any) -> Path:
        """Both files, with top-level keys of the sweep changed (None takes one out)."""
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(self.recipe))
        content = {key: value for key, value in {**self.sweep, **changes}.items() if value is not None}
        path = self.folder / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return Path(name)

    def write_attribution(self, name: str = "effects.yaml", **changes: Any) -> Path:
        """As `write`, of two factors: code taken from Japanese, and the rate."""
        self.recipe["data"]["sources"].setdefault("code", {"path": "code.jsonl", "weight": 0, "language": "code"})
        content = {
            "recipe": "recipe.yaml", "rest": "ja",
            "factors": {
                "code": {"without": {}, "with": {"shares": {"code": 10}}},
                "learning rate": {"low": {}, "high": {"training.learning_rate": 1e-2}},
            },
            "metrics": ["bits_per_byte:ja", "bits_per_byte:en"],
        }  # fmt: skip
        sweep, self.sweep = self.sweep, content
        try:
            return self.write(name, **changes)
        finally:
            self.sweep = sweep

    def calls(self, directory: str = "runs/sweep") -> list[str]:
        path = self.folder / directory / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_model_folder) -> SweepProject:
    """Inputs exist; Python as processes are started is the stub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "base").symlink_to(tiny_model_folder("mistral"))
    for name in ("ja", "en", "code"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "x"}\n')
    wrapper = tmp_path / "stub-python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STUB}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr("tsugiki.experiments.runner.sys.executable", str(wrapper))
    return SweepProject(tmp_path)


@pytest.fixture
def open_sweep(project) -> Callable[..., Any]:
    """open_sweep(path): as the command line opens it."""
    from tsugiki.evaluation.known import known_tasks
    from tsugiki.experiments.sweep import Sweep

    return lambda path: Sweep(path, known_tasks, lambda recipe: Path(str(recipe.model.name_or_path)))


@pytest.fixture
def open_attribution(project) -> Callable[..., Any]:
    """open_attribution(path): as the command line opens it."""
    from tsugiki.evaluation.known import known_tasks
    from tsugiki.experiments.attribution_runs import AttributionRuns

    return lambda path: AttributionRuns(path, known_tasks, lambda recipe: Path(str(recipe.model.name_or_path)))
