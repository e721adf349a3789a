"""Energy that a run takes, where the machine tells: a GPU's own counter through NVML, a processor's through RAPL.

Both count joules by themselves, so that two readings suffice and nothing is sampled in between. NVML counts the one GPU
of this process; RAPL counts the whole processor packages, whoever uses them, and most systems let only root read it.
Memory outside the package, disks, fans and the power supply are in neither.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RAPL = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
Joules = Callable[[], float | None]
"""Counted so far, from any beginning; None where it cannot be read."""


class EnergyMeter:
    """Joules between two readings."""

    def __init__(self, device: torch.device):
        self._joules = gpu_counter(device) if device.type == "cuda" else processor_counter()
        self._last = self._joules()

    def since_last(self) -> float | None:
        """Joules since the reading before; None where they cannot be read, or a counter began anew."""
        before, self._last = self._last, self._joules()
        if before is None or self._last is None or self._last < before:
            return None
        return self._last - before


def processor_counter(root: Path = RAPL) -> Joules:
    """The sum over all packages; each counter goes back to 0 when it is full, which is added up here."""
    packages = [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1]
    last, whole = [0] * len(packages), [0] * len(packages)  # microjoules

    def joules() -> float | None:
        try:
            for place, package in enumerate(packages):
                now = int((package / "energy_uj").read_text(encoding="ascii"))
                if now < last[place]:
                    whole[place] += int((package / "max_energy_range_uj").read_text(encoding="ascii"))
                last[place] = now
        except (OSError, ValueError):
            return None
        return (sum(last) + sum(whole)) / 1e6 if packages else None

    return joules


def gpu_counter(device: torch.device, library: Any = None) -> Joules:
    """NVML's total energy of the device, which it finds by its UUID: its numbers need not be those of CUDA."""
    try:
        nvml = library or ctypes.CDLL(NVML)
        handle, uuid = ctypes.c_void_p(), f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
            return lambda: None
    except (OSError, AttributeError, RuntimeError, AssertionError):
        return lambda: None

    def joules() -> float | None:
        millijoules = ctypes.c_ulonglong()
        failed = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1e3

    return joules
