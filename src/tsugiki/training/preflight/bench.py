"""The bench on which a run is probed: its own step, model and data, and nothing of it changed afterwards.

Probes that need a step call the loop's own `train_step`. They give it, instead of the optimiser, a `Watcher` that
looks at the gradients where the optimiser would use them and makes no update. What is then measured is what would
have been applied: the reading of the batch, the model, the objective, the sum over ranks, the clipping.

Every rank makes the same calls in the same order, since a sharded forward is a collective.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from types import MethodType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

from tsugiki.corpus.windows import IGNORE
from tsugiki.model.precision import Precision, get_precision
from tsugiki.model.shard import inner_layer, reshard
from tsugiki.model.transforms import Transform
from tsugiki.training import loop
from tsugiki.training.batches import MicroBatch, StepBatch, read_step
from tsugiki.training.metrics import StepRecord
from tsugiki.training.optimizer import Optimizer
from tsugiki.training.preflight.frozen_head import gradient_of_logits
from tsugiki.training.preflight.over_ranks import over_ranks, whole
from tsugiki.training.preflight.store_windows import store_windows
from tsugiki.training.run import Run

LENGTH = 64
"""Tokens of a window that go through the model: enough to see every trap, few enough for a model of 70 B."""

Look = Callable[[Mapping[str, nn.Parameter]], None]


def _nothing(_: Mapping[str, nn.Parameter]) -> None:
    return


@dataclass
class Watcher:
    """Stands in for the optimiser in `train_step`: looks at gradients and never moves a weight."""

    optimizer: Optimizer
    gradients: Look = _nothing
    """Called with the named parameters after the last backward."""
    plant: Look = _nothing
    """Called after frozen gradients were dropped, before clipping; may change gradients."""
    clipped: Look = _nothing
    """Called where the update would be made."""

    def drop_frozen_gradients(self, step: int) -> None:
        self.gradients(self.optimizer.parameters)
        self.optimizer.drop_frozen_gradients(step)
        self.plant(self.optimizer.parameters)

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self.optimizer.parameters

    def step(self, step: int, learning_rate: float, *, skip: Tensor) -> None:
        self.clipped(self.optimizer.parameters)
        for parameter in self.optimizer.parameters.values():
            parameter.grad = None


@dataclass
class Bench:
    """A run under test."""

    run: Run

    # --- facts ---------------------------------------------------------------------------------------------------

    @cached_property
    def precision(self) -> Precision:
        return get_precision(self.run.recipe.training.precision)

    @property
    def exact(self) -> bool:
        """Whether the model computes in fp32, so that differences are rounding of 1e-7."""
        return self.precision.compute == torch.float32

    @property
    def hf(self) -> Any:
        return self.run.model.hf

    @property
    def head(self) -> Any:
        return self.hf.get_output_embeddings()

    @property
    def text_config(self) -> Any:
        return self.hf.config.get_text_config()

    @property
    def vocabulary(self) -> int:
        """Rows of the input embeddings."""
        return inner_layer(self.hf.get_input_embeddings()).weight.shape[0]

    @property
    def sequence_length(self) -> int:
        return self.run.recipe.data.sequence_length

    @property
    def length(self) -> int:
        return min(LENGTH, self.sequence_length)

    @property
    def has_chat(self) -> bool:
        """Whether conversations are trained on, so that windows come with positions and targets with weights."""
        return self.run.reader.reads_conversations

    # --- data ----------------------------------------------------------------------------------------------------

    def read(self, windows: int, per_micro: int, length: int | None = None) -> StepBatch:
        """`length` tokens of each of the run's first windows, read as the loop reads them. Equal on all ranks."""
        alone = replace(self.run.cut, global_batch=windows, micro_batch=per_micro, rank=0, world=1)
        batch = read_step(self.run.reader, 1, alone)
        return self.batch_of([_part(micro, length or self.length) for micro in batch.micro_batches], batch)

    @staticmethod
    def batch_of(micro_batches: list[MicroBatch], like: StepBatch) -> StepBatch:
        """A step of these micro-batches, with targets and their weights counted anew."""
        counted = [replace(micro, target_count=int((micro.targets != IGNORE).sum())) for micro in micro_batches]
        by_source = np.zeros_like(like.source_weights)
        for micro in counted:
            np.add.at(by_source, micro.source.cpu().numpy(), target_weights(micro).sum(1).numpy())
        return StepBatch(like.step, counted, sum(micro.target_count for micro in counted), by_source)

    @cached_property
    def own_batch(self) -> StepBatch:
        """What this rank's next step will really read, on the CPU."""
        return read_step(self.run.reader, self.run.step + 1, replace(self.run.cut, device=torch.device("cpu")))

    # --- calls ---------------------------------------------------------------------------------------------------

    def step(self, batch: StepBatch, **looks: Look) -> StepRecord:
        """The loop's own step on `batch`, without its update. Collective."""
        watcher = cast(Optimizer, Watcher(self.run.optimizer, **looks))
        return loop.train_step(replace(self.run, optimizer=watcher), batch)

    def token_losses(self, inputs: Tensor, targets: Tensor, positions: Tensor | None = None) -> Tensor:
        """Nats of each token [batch, sequence] by the loop's model, fp32. Collective."""
        with torch.no_grad():
            return self.run.model(inputs, targets, positions).token_losses.clone()

    def plain_logits(self, inputs: Tensor) -> Tensor:
        """fp32 logits [batch, sequence, vocabulary] of the wrapped model's own forward, called from here and not
        by the code under test, on the same sharded weights. Collective."""
        model = self.run.model

        def preflight_forward(module: Any, tokens: Tensor) -> Tensor:
            return module.hf(input_ids=tokens, use_cache=False).logits

        cast(Any, model).preflight_forward = MethodType(preflight_forward, model)
        try:
            if isinstance(model, FSDPModule):
                register_fsdp_forward_method(model, "preflight_forward")
            with torch.no_grad():
                return cast(Any, model).preflight_forward(inputs).float()
        finally:
            del model.preflight_forward
            reshard(model)

    @contextmanager
    def hidden_states(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Within the context, what reaches the output layer is `change(hidden)` instead of hidden."""

        def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (change(arguments[0]), *arguments[1:])

        handle = self.head.register_forward_pre_hook(hook, prepend=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def without_router_loss(self) -> Iterator[None]:
        """Within the context the router's loss counts nothing."""
        former, self.run.model.router_coefficient = self.run.model.router_coefficient, 0.0
        try:
            yield
        finally:
            self.run.model.router_coefficient = former

    @cached_property
    def labelled(self) -> "HeadGradient | None":
        """dL/dlogits at each position of two windows, read off one real step. None where no gradient reaches the head.

        The hidden state of token i is replaced by the i-th unit vector (times a small number, and added to zero
        times the real one, so that the backward pass runs through the whole model as ever). The gradient of the
        output weight, sum over i of dL/dlogits_i h_i, then has dL/dlogits_i as its column i, whatever computes the
        loss, chunked or fused, and whatever scaling or cap lies behind the output layer. Of a frozen one it is told
        from the gradient of these inputs (`frozen_head.py`).
        """
        if self.head is None:
            return None
        layer = inner_layer(self.head)
        weight: Any = getattr(layer, "weight", None)
        names = [name for name, parameter in self.run.optimizer.parameters.items() if parameter is weight]
        if not names and self.run.model.adapters is None:
            return None
        width = weight.shape[1]
        length = min(LENGTH // 2, self.sequence_length, width // 2)
        batch = self.read(2, 2, length)
        tokens = 2 * length
        kept: list[Tensor] = []

        def one_by_one(hidden: Tensor) -> Tensor:
            basis = torch.eye(tokens, width, device=hidden.device, dtype=hidden.dtype) * HeadGradient.SIZE
            replaced = hidden * 0 + basis.reshape(hidden.shape)
            if not names and replaced.requires_grad:
                replaced.register_hook(lambda gradient: kept.append(gradient.detach().reshape(tokens, width)))
            return replaced

        def look(parameters: Mapping[str, nn.Parameter]) -> None:
            gradient = parameters[names[0]].grad if names else None
            if gradient is not None:
                kept.append(whole(gradient[:, :tokens]).to(torch.float32, copy=True))  # before it is clipped in place

        with self.without_router_loss(), self.hidden_states(one_by_one):
            self.step(batch, gradients=look)
        (micro,) = batch.micro_batches
        begins = part_begins(self.read(2, 2, self.sequence_length).micro_batches[0], length)
        width = min(length + 3, self.sequence_length + 1 - int(begins.max()))
        windows = zip(store_windows(self.run, np.arange(2)), begins.tolist(), strict=True)
        expected = np.stack([window.tokens[begin : begin + width] for window, begin in windows])
        bias = getattr(layer, "bias", None)
        at_zero = torch.zeros(weight.shape[0]) if bias is None else whole(bias.detach()).float().cpu()
        if not names:
            if not kept:
                return None
            pull = over_ranks(-kept[0].to("cpu", torch.float32))
            kept = [gradient_of_logits(pull, self.head, at_zero) * HeadGradient.SIZE]
        found = kept[0] if kept else torch.zeros(weight.shape[0], tokens)
        return HeadGradient(found, micro.targets, target_weights(micro), expected, at_zero)


@dataclass(frozen=True)
class HeadGradient:
    """What `Bench.labelled` found."""

    SIZE = 2.0**-10  # of the unit vectors: so small that every logit is near 0 and every probability near 1/vocabulary
    gradient: Tensor  # [vocabulary, windows * length]: column i is SIZE times dL/dlogits at position i
    targets: Tensor  # [windows, length] int64, as the batch holds them
    weights: Tensor  # [windows, length] fp64 on the CPU, of each target in the loss
    tokens: np.ndarray  # [windows, up to length + 3] int64, as the store holds them
    bias: Tensor  # [vocabulary] of the output layer, fp32 on the CPU

    def pull(self, transform: Transform) -> Tensor:
        """-dL/d(output layer) of each token as a target where hidden states are nearly 0 [vocabulary], float64: one
        minus its probability, times the slope of what the model does after that layer."""
        logits = self.bias.double()[None]
        slope = transform.apply_(logits, True)
        return ((1.0 - logits.softmax(1)) * (1.0 if slope is None else slope))[0]


def target_weights(micro: MicroBatch) -> Tensor:
    """Of each target in the loss [rows, sequence], fp64 on the CPU; 0 where there is none."""
    scored = (micro.targets != IGNORE).cpu().double()
    return scored if micro.weights is None else scored * micro.weights.cpu().double()


def part_begins(micro: MicroBatch, length: int) -> Tensor:
    """Where in each window [rows] the part of `length` tokens begins that stands for it: at its start or, where targets
    are chosen, at the first of them, since the first tokens of a pack may all be a prompt."""
    scored = (micro.targets != IGNORE).cpu()
    if micro.weights is None:
        return torch.zeros(len(scored), dtype=torch.int64)
    return scored.int().argmax(1).clamp(max=scored.shape[1] - length)


def _part(micro: MicroBatch, length: int) -> MicroBatch:
    """The windows cut to `length` tokens, or all that there are, from `part_begins` on; positions begin at 0 there."""
    length = min(length, micro.inputs.shape[1])
    places = part_begins(micro, length)[:, None] + torch.arange(length)

    def cut(tensor: Tensor) -> Tensor:
        return tensor.gather(1, places.to(tensor.device))

    positions = None if micro.positions is None else cut(micro.positions)
    if positions is not None:
        counted = torch.arange(length, device=positions.device).expand_as(positions)
        starts = torch.where(positions == 0, counted, 0)
        positions = counted - starts.cummax(1).values
    return replace(
        micro, inputs=cut(micro.inputs), targets=cut(micro.targets), positions=positions,
        weights=None if micro.weights is None else cut(micro.weights),
    )  # fmt: skip


def finish_forward(run: Run) -> None:
    """Free gathered weights and gradients, also after a forward that an error ended half-way."""
    reshard(run.model)
    for parameter in run.model.parameters():
        parameter.grad = None


@contextmanager
def nothing_changed(run: Run) -> Iterator[None]:
    """Random states, buffers, training flags and gradients afterwards as before. (Weights are never written.)"""
    python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    training = [(module, module.training) for module in run.model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in run.model.buffers()]
    step, tokens = run.step, run.tokens
    try:
        yield
    finally:
        finish_forward(run)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for module, flag in training:
            module.training = flag
        run.step, run.tokens = step, tokens
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
