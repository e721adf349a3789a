"""What a step did, in numbers for people and for files.

`StepSums` adds up what a step's micro-batches give, `StepRecord` is what `train_step` returns; `Meter` turns records
into the figures of an interval (loss per source, tokens a second, MFU, share of time spent waiting for data).
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from tsugiki.model.loss import LossOutput
from tsugiki.training.batches import MicroBatch
from tsugiki.training.energy import EnergyMeter
from tsugiki.training.flops import device_peak, flops_per_token
from tsugiki.training.spikes import NO_LIMITS, Limits

if TYPE_CHECKING:
    from tsugiki.training.run import Run


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step, summed over all ranks. Losses in nats per target token, as weighted."""

    step: int
    loss: float
    source_nats: list[float]  # weight × nats summed by source, in the mixture's order
    source_weights: list[float]  # the sums of those weights: counts of targets, where all are 1
    grad_norm: float  # global, before clipping
    learning_rate: float
    targets: int
    stop: bool  # some rank was asked to stop
    saved: bool  # every rank has finished writing the checkpoint in flight
    wait_seconds: float = 0.0
    limits: Limits = NO_LIMITS
    """What the steps before it have set."""
    spike: bool = False
    """Whether loss or norm exceeded them, or were not finite."""
    refused: bool = False
    """Whether nothing was changed for it."""
    router_loss: float | None = None
    """Mixture of experts: mean load-balancing loss, not multiplied by its coefficient. None for other models."""

    @property
    def finite(self) -> bool:
        """Whether loss and gradient were."""
        return math.isfinite(self.loss + self.grad_norm)

    @property
    def applied(self) -> bool:
        """Whether weights were updated: not by a step that was refused, nor by a batch without any target."""
        return not self.refused and self.targets > 0


class StepSums:
    """What a step adds up, kept on the device until it is over: nats by source [sources], and the router's loss times
    the targets that it is a mean over [1]."""

    def __init__(self, sources: int, device: torch.device):
        self.nats = torch.zeros(sources, dtype=torch.float64, device=device)
        self.router = torch.zeros(1, dtype=torch.float64, device=device)

    def add(self, micro: MicroBatch, output: LossOutput) -> None:
        """Take in a micro-batch and what the model gave for it."""
        counted = output.token_losses if micro.weights is None else output.token_losses * micro.weights
        self.nats.index_add_(0, micro.source, counted.sum(dim=1, dtype=torch.float64))
        if output.router_loss is not None:
            self.router += output.router_loss.detach() * micro.target_count

    def over_ranks(self, norm: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Total nats of the step, after summing everything over ranks, and the gradient norm [0-dim, fp64]. Collective.

        Copies of the model may have rounded their norm otherwise: with the mean all judge the step by the same bits.
        """
        shared = norm.detach().double().reshape(1) / dist.get_world_size()
        everything = torch.cat([self.nats, self.router, shared])
        dist.all_reduce(everything)
        self.nats, self.router, shared = everything.split([len(self.nats), 1, 1])
        return self.nats.sum(), shared[0]

    def record(self, *of_step: torch.Tensor, has_router: bool, **known: Any) -> StepRecord:
        """What the step did: the sums and `of_step` (loss, gradient norm, whether it is a spike, whether it was refused
        [0-dim]) in one transfer; `known` on the host."""
        figures = torch.stack([figure.double() for figure in of_step])
        loss, norm, spike, refused, *nats, router = torch.cat([figures, self.nats, self.router]).tolist()
        return StepRecord(
            loss=loss, grad_norm=norm, spike=bool(spike), refused=bool(refused), source_nats=nats,
            router_loss=router / known["targets"] if has_router and known["targets"] else None, **known,
        )  # fmt: skip


@dataclass
class Meter:
    """Figures of the steps since the last log line."""

    names: Sequence[str]
    """Of the sources, in the mixture's order."""
    flops_per_step: float
    """Of every position that is computed: prompts and padding cost what targets do."""
    devices: int
    device: torch.device
    total_steps: int
    _started: float = field(default_factory=time.perf_counter)
    _paused: float = 0.0
    _targets: int = 0
    _steps: int = 0
    _wait: float = 0.0
    _nats: dict[str, float] = field(default_factory=dict)
    _weights: dict[str, float] = field(default_factory=dict)
    _pace: float | None = None
    _energy: EnergyMeter = field(init=False)

    def __post_init__(self) -> None:
        self._energy = EnergyMeter(self.device)

    @classmethod
    def of(cls, run: "Run") -> "Meter":
        """The meter of a run, which starts now."""
        length = run.recipe.data.sequence_length
        flops = flops_per_token(run.model.hf, length) * length * run.recipe.training.global_batch_size
        return cls(run.mixture.names, flops, run.processes.world, run.processes.device, run.total_steps)

    def add(self, record: StepRecord) -> None:
        self._targets += record.targets
        self._steps += 1
        self._wait += record.wait_seconds
        for name, nats, weight in zip(self.names, record.source_nats, record.source_weights, strict=True):
            self._nats[name] = self._nats.get(name, 0.0) + nats
            self._weights[name] = self._weights.get(name, 0.0) + weight

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave time that is not training (measuring, saving) out of the rates."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def flush(self, record: StepRecord, tokens: int) -> dict[str, Any]:
        """The figures of the interval that ends with `record`, and a fresh start. `tokens`: of the whole run so far."""
        now = time.perf_counter()
        seconds = max(now - self._started - self._paused, 1e-9)
        rate = self._targets / seconds
        pace = seconds / self._steps
        self._pace = pace if self._pace is None else 0.9 * self._pace + 0.1 * pace
        peak = device_peak(self.device)
        flops = self._steps * self.flops_per_step / seconds
        figures: dict[str, Any] = {
            "step": record.step,
            "loss": sum(self._nats.values()) / (sum(self._weights.values()) or 1.0),
            "loss_by_source": {name: self._nats[name] / weight for name, weight in self._weights.items() if weight},
            "grad_norm": record.grad_norm,
            "learning_rate": record.learning_rate,
            "tokens": tokens,
            "applied": record.applied,
            "spike": record.spike,
            "tokens_per_second": rate,
            "tflops": flops / 1e12,
            "mfu": flops / (peak * self.devices) if peak else None,
            "memory_gb": memory_gigabytes(self.device),
            "data_wait": self._wait / seconds,
            "joules": self._energy.since_last(),
            "seconds_left": self._pace * (self.total_steps - record.step),
        }
        if record.router_loss is not None:
            figures["router_loss"] = record.router_loss
        self._started, self._paused, self._targets, self._steps, self._wait = now, 0.0, 0, 0, 0.0
        self._nats, self._weights = {}, {}
        return figures


def memory_gigabytes(device: torch.device) -> float:
    """Peak memory so far in GB (1e9 bytes): allocated on the GPU, or resident in this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0
