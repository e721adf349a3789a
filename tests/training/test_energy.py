"""Energy counters: files and a library as the kernel and NVML have them, made here."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from tsugiki.training.energy import EnergyMeter, gpu_counter, processor_counter


@pytest.fixture
def packages(tmp_path):
    """set(name, microjoules): two packages with counters, and a part of one, which counts what its package counts."""

    def set_counter(name: str, microjoules: int) -> None:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text("10000000\n")

    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        set_counter(name, 1_000_000)
    return set_counter


def test_packages_add_up_and_a_full_counter_goes_on(tmp_path, packages):
    joules = processor_counter(tmp_path)
    assert joules() == 2.0
    packages("intel-rapl:0", 9_000_000)
    assert joules() == 10.0
    packages("intel-rapl:0", 500_000)  # 10 - 9 and .5 more
    assert joules() == 11.5


def test_where_nothing_can_be_read_there_is_no_energy(tmp_path, packages):
    assert processor_counter(tmp_path / "nowhere")() is None
    joules = processor_counter(tmp_path)
    (tmp_path / "intel-rapl:1/energy_uj").write_text("no number")
    assert joules() is None


class Nvml:
    """The four calls of the library, of one GPU."""

    def __init__(self, uuid: str, failing: str = ""):
        self.uuid, self.failing, self.millijoules = uuid, failing, 5_000

    def nvmlInit_v2(self) -> int:
        return 3 if self.failing == "init" else 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle) -> int:
        return 0 if uuid.decode() == self.uuid else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, counter) -> int:
        ctypes.cast(counter, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
        return 3 if self.failing == "read" else 0


@pytest.mark.parametrize(
    ("uuid", "failing", "found"),
    [("GPU-a", "", 5.0), ("GPU-b", "", None), ("GPU-a", "init", None), ("GPU-a", "read", None)],
)
def test_a_gpu_is_known_by_its_uuid(monkeypatch, uuid, failing, found):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="a"))
    assert gpu_counter(torch.device("cuda", 3), Nvml(uuid, failing))() == found


def test_without_a_library_there_is_no_energy():
    assert gpu_counter(torch.device("cuda", 0))() is None or torch.cuda.is_available()


def test_a_meter_gives_what_was_taken_since_the_reading_before(monkeypatch):
    readings = iter([10.0, 12.5, None, 20.0, 15.0, 16.0])
    monkeypatch.setattr("tsugiki.training.energy.processor_counter", lambda: lambda: next(readings))
    meter = EnergyMeter(torch.device("cpu"))
    assert [meter.since_last() for _ in range(5)] == [2.5, None, None, None, 1.0]
