"""`<run_dir>/environment.json`: what each start of a run computed on, for its report."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from tsugiki import __version__
from tsugiki.corpus.workers import usable_cores
from tsugiki.errors import TsugikiError
from tsugiki.files import read_json, write_json
from tsugiki.training.flops import device_peak, flops_per_token
from tsugiki.training.resume import software_versions
from tsugiki.training.run import Run

FILE = "environment.json"
MOST_STARTS = 200
"""Kept: a job that is requeued for months starts often."""


def record_start(run: Run) -> None:
    """Add this start to the file. On the first rank alone. Raises StorageError."""
    path = run.recipe.run_dir / FILE
    try:
        before = read_json(path, list[dict[str, Any]]) if path.exists() else []
    except TsugikiError:  # damaged: what it said of earlier starts is lost, which is no reason not to train
        before = []
    write_json(path, [*before[-MOST_STARTS + 1 :], describe_start(run)])


def describe_start(run: Run) -> dict[str, Any]:
    """Hardware, versions and the model's size; memory in GB (1e9 bytes), of the machine of the first rank."""
    device, world = run.processes.device, run.processes.world
    peak, facts = device_peak(device), run.model.describe()
    return {
        "step": run.step,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "processes": world,
        "device": _device_name(device),
        "devices": world if device.type == "cuda" else 1,
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gb": _memory_gigabytes(),
        "system": platform.platform(),
        "peak_tflops": peak / 1e12 if peak else None,
        "flops_per_token": flops_per_token(run.model.hf, run.recipe.data.sequence_length),
        "parameters": facts["parameters"],
        "trained_parameters": facts["trained_parameters"],
        "versions": {"tsugiki": __version__, **software_versions()},
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def _cpu_name() -> str:
    """As the kernel calls it; what Python knows elsewhere."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_gigabytes() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
