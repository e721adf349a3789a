"""How many threads and which number format: as measured, and quickly."""

import pytest
import torch

from tsugiki.model import matmul_speed
from tsugiki.quickstart import machine


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("one", "two", "chosen"), [(1.0, 0.6, 2), (1.0, 0.9, 1), (1.0, 9.0, 1)])
def test_more_threads_only_where_they_are_clearly_faster(one, two, chosen, two_threads, monkeypatch):
    monkeypatch.setattr(machine, "_time", lambda *_: {1: one, 2: two}[torch.get_num_threads()])
    assert machine.choose_threads() == chosen == torch.get_num_threads()


def test_one_thread_stays_one(two_threads):
    torch.set_num_threads(1)
    assert machine.choose_threads() == 1


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"), [(1.0, 0.3, "fp32-master"), (1.0, 0.8, "fp32"), (1.0, 300.0, "fp32")]
)
def test_bf16_only_where_this_cpu_multiplies_it_clearly_faster(fp32, bf16, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(matmul_speed, "matmul_seconds", lambda kind: {torch.float32: fp32, torch.bfloat16: bf16}[kind])
    assert machine.choose_precision() == chosen


def test_a_gpu_computes_in_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(matmul_speed, "matmul_seconds", None)
    assert machine.choose_precision() == "fp32-master"


def test_products_are_timed():
    assert 0 < matmul_speed.matmul_seconds(torch.float32) < 1
