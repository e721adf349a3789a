"""The figures of an interval, by a clock of our own."""

import pytest
import torch

from tsugiki.training import metrics
from tsugiki.training.metrics import Meter, StepRecord


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: now[0])
    return now


def record(step: int, nats: list[float], targets: list[int], **changes) -> StepRecord:
    fields = {"loss": 99.0, "grad_norm": 1.0, "learning_rate": 1e-3, "stop": False, "saved": False}
    fields |= {"targets": sum(targets), "source_nats": nats, "source_weights": targets, "wait_seconds": 0.5}
    return StepRecord(step=step, **fields | changes)


def meter(**changes) -> Meter:
    fields = {
        "names": ["a", "b", "c", "d"],
        "flops_per_step": 3e10,
        "devices": 2,
    }
    return Meter(**fields | {"device": torch.device("cpu"), "total_steps": 10, "_started": 1000.0} | changes)


def test_an_interval_is_averaged_over_its_targets_and_the_next_begins_anew(clock):
    found = meter()
    found.add(record(1, [20.0, 30.0, 0.0, 0.0], [10, 10, 0, 0]))
    found.add(record(2, [50.0, 0.0, 0.0, 6.0], [10, 0, 0, 2]))
    clock[0] += 4.0
    figures = found.flush(record(2, [50.0, 0.0, 0.0, 6.0], [10, 0, 0, 2]), tokens=1032)
    assert figures["loss"] == pytest.approx((20 + 30 + 50 + 6) / 32)
    assert figures["loss_by_source"] == {"a": 3.5, "b": 3.0, "d": 3.0}
    assert figures["tokens"] == 1032
    assert figures["tokens_per_second"] == pytest.approx(32 / 4.0)
    assert figures["data_wait"] == pytest.approx(1.0 / 4.0)
    assert figures["seconds_left"] == pytest.approx(8 * 2.0)
    assert figures["tflops"] == pytest.approx(2 * 3e10 / 4.0 / 1e12)  # of two steps, whatever their targets
    assert figures["mfu"] is None

    found.add(record(3, [0.0, 0.0, 8.0, 0.0], [0, 0, 4, 0]))
    clock[0] += 1.0
    with found.paused():
        clock[0] += 2.0
    figures = found.flush(record(3, [0.0, 0.0, 8.0, 0.0], [0, 0, 4, 0]), tokens=1036)
    assert figures["loss_by_source"] == {"c": 2.0}
    assert (figures["loss"], figures["tokens_per_second"]) == (2.0, pytest.approx(4.0))


def test_utilisation_is_of_all_devices(clock, monkeypatch):
    monkeypatch.setattr(metrics, "device_peak", lambda _: 1e12)
    found = meter()
    found.add(record(1, [1.0, 0.0, 0.0, 0.0], [500, 0, 0, 0]))
    clock[0] += 1.0
    assert found.flush(record(1, [1.0, 0.0, 0.0, 0.0], [500, 0, 0, 0]), 500)["mfu"] == pytest.approx(3e10 / (2 * 1e12))
