"""The model as training sees it: inputs and targets in, a sum of losses with its gradient out.

`TrainingModel.call` is the one place where a model is called in training and for held-out loss: without cache,
without a 2-D mask, with positions only where documents are isolated (the defaults of transformers let packed
documents attend to one another). Targets come already shifted (`corpus/windows.py`); `labels=` is never used, since
the model would shift them again.
"""

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from tsugiki.corpus.windows import IGNORE
from tsugiki.model.cross_entropy import chunked_cross_entropy
from tsugiki.model.head import head_weights, replaced_head, why_not_linear
from tsugiki.model.shard import inner_layer, is_tied, reshard
from tsugiki.model.transforms import Transform, probe_values, recognise_transform

log = logging.getLogger(__name__)


class LossOutput(NamedTuple):
    """What one micro-batch gives. (A tuple, so that FSDP finds the tensors in it and hangs its hooks on them.)"""

    loss_sum: Tensor
    """Nats summed over targets, each times its weight; fp32 scalar with gradient."""
    token_losses: Tensor
    """Nats of each target, whatever its weight, fp32 [batch, sequence], no gradient; 0 where the target is ignored."""
    router_loss: Tensor | None
    """Load-balancing loss of a mixture of experts as the model computes it, not multiplied by its coefficient."""


class TrainedAdapters(NamedTuple):
    """What is trained beside a frozen base (`adapters.py`)."""

    config: Any
    """peft's."""
    base: str
    """Digest of the base, in `dtype`."""
    dtype: torch.dtype
    """Of the base."""
    base_parameters: int
    """Numbers in the base."""


class TrainingModel(nn.Module):
    """Root module around a Hugging Face causal language model; its forward is the root forward of FSDP.

    `transform` None means the plain path, which holds all logits; `plain_reason` then says why.
    """

    def __init__(self, hf: PreTrainedModel, chunk_tokens: int = 1024, router_coefficient: float | None = None) -> None:
        super().__init__()
        self.hf: PreTrainedModel = hf
        self.chunk_tokens = chunk_tokens
        text = text_config(hf)
        self.has_router = self._router_is_open = hasattr(text, "output_router_logits")
        """Whether the model computes a load-balancing loss; the first call settles it, once and for all."""
        configured = configured_router_coefficient(text)
        self.router_coefficient = configured if router_coefficient is None else router_coefficient
        self.flattens_packed = str(getattr(text, "_attn_implementation", "")).startswith("flash")
        self.transform: Transform | None = None
        self.plain_reason: str | None = "the output layer was not probed"
        self.description: dict[str, Any] = {}
        self.adapters: TrainedAdapters | None = None
        """None where the base's own weights are trained."""
        self._summing = True

    # --- calls -------------------------------------------------------------------------------------------------

    def forward(
        self, inputs: Tensor, targets: Tensor, positions: Tensor | None = None, weights: Tensor | None = None
    ) -> LossOutput:
        """Losses of inputs [batch, sequence] at targets [batch, sequence] (IGNORE where there is none), of which each
        counts by its weight (fp32 [batch, sequence]; None: all 1).

        positions [batch, sequence] restart at 0 where a document starts, and isolate documents; None lets a window
        be one text. Targets and positions had better stay in host memory: choosing rows and counting lengths there
        costs no synchronisation with the GPU. Without gradient, gathered weights are freed before returning.
        """
        if self.transform is not None:
            return self._chunked_loss(inputs, targets, positions, weights, self.transform)
        output = self.call(inputs, positions)
        logits = output.logits.float().view(*targets.shape, -1)
        losses = F.cross_entropy(
            logits.flatten(0, 1), to_device(targets, logits.device).flatten(), ignore_index=IGNORE, reduction="none"
        )
        counted = losses if weights is None else losses * weights.flatten()
        return LossOutput(counted.sum(), losses.detach().view(targets.shape), self._router_loss(output))

    def logits(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        """Logits [batch, sequence, vocabulary] through the model's own, unmodified forward (probes and tests)."""
        logits = self.forward_logits(inputs, positions)
        if not torch.is_grad_enabled():
            reshard(self)
        return logits

    def forward_logits(self, inputs: Tensor, positions: Tensor | None) -> Tensor:
        """The body of `logits`, which sharding registers as a forward of its own."""
        logits = self.call(inputs, positions).logits
        return logits if logits.shape[:2] == inputs.shape else logits.reshape(*inputs.shape, -1)

    def call(self, inputs: Tensor, positions: Tensor | None) -> Any:
        """THE call of the model in training: see the module's docstring. FlashAttention reads packing only from one
        row, so micro-batches become one row of cumulative lengths there: the output then is [1, batch x sequence]."""
        arguments: dict[str, Any] = {"input_ids": inputs, "use_cache": False}
        if self.has_router:
            arguments["output_router_logits"] = True  # else no router loss at all (Mixtral's default)
        if self.flattens_packed and (positions is not None or len(inputs) == 1):
            # Of a single row, transformers would look on the device in every layer whether documents are packed.
            bounds = torch.arange(inputs.shape[1])[None] if positions is None else positions
            arguments |= cumulative_lengths(bounds, inputs.device)
        if positions is not None:
            if self.flattens_packed:
                arguments["input_ids"], positions = inputs.reshape(1, -1), positions.reshape(1, -1)
            arguments["position_ids"] = to_device(positions, inputs.device)
        output = self.hf(**arguments)
        if self._router_is_open:
            # A configuration may speak of router logits where no loss is computed: DeepSeek-V3 balances experts by a
            # bias. One that is asked for by a coefficient and does not come is for preflight to name.
            room, loss = hasattr(output, "aux_loss"), getattr(output, "aux_loss", None)
            self.has_router, self._router_is_open = room and (loss is not None or self.router_coefficient > 0), False
        return output

    def sum_over_replicas(self, wanted: bool) -> None:
        """Whether the next backward passes end in the sum of gradients over replicas (`parallel.shard: hybrid` and
        `none`). Once a step is enough: what earlier micro-batches gave is added up on each replica in fp32."""
        if isinstance(self, FSDPModule) and wanted != self._summing:
            self.set_requires_all_reduce(wanted)
            self._summing = wanted

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        output = super().__call__(*arguments, **named)
        if not torch.is_grad_enabled():
            reshard(self)
        return output

    # --- the loss ----------------------------------------------------------------------------------------------

    def _chunked_loss(
        self, inputs: Tensor, targets: Tensor, positions: Tensor | None, weights: Tensor | None, transform: Transform
    ) -> LossOutput:
        flat = targets.flatten()
        scored = (flat != IGNORE).nonzero().squeeze(1)  # rows without a target cost nothing
        losses = torch.zeros(flat.shape, dtype=torch.float32, device=inputs.device)
        head = self.hf.get_output_embeddings()
        handed_over: list[Tensor] = []

        def stand_in(hidden: Tensor) -> Tensor:
            rows = hidden.reshape(-1, hidden.shape[-1])
            chosen = to_device(flat, hidden.device)
            counting = None if weights is None else weights.flatten()
            if len(scored) < len(flat):
                index = to_device(scored, hidden.device)
                rows, chosen = rows.index_select(0, index), chosen.index_select(0, index)
                counting = None if counting is None else counting.index_select(0, index)
            weight, bias = head_weights(head)  # not before: FSDP has gathered them now
            total, of_tokens = chunked_cross_entropy(rows, weight, bias, chosen, transform, self.chunk_tokens, counting)
            if len(scored) < len(flat):
                losses.index_copy_(0, index, of_tokens)
            else:
                losses.copy_(of_tokens)
            # Returned in the logits' place and used by us from here: FSDP hangs the head's backward hook on it.
            handed_over.append(total)
            return handed_over[-1]

        with replaced_head(head, stand_in):
            output = self.call(inputs, positions)
        (total,) = handed_over
        return LossOutput(total.sum(), losses.view(targets.shape), self._router_loss(output))

    def _router_loss(self, output: Any) -> Tensor | None:
        loss = getattr(output, "aux_loss", None)
        return loss.float() if isinstance(loss, Tensor) else None

    def probe_head(self, inputs: Tensor) -> None:
        """Choose the path: put known values in the output layer's place and see what the model makes of them.

        inputs [1, tokens], the same on every rank (collective). Warns where the plain path is taken.
        """
        self.transform, self.plain_reason = None, why_not_linear(self.hf.get_output_embeddings())
        if self.plain_reason is None:
            found = self._after_head(inputs)
            if isinstance(found, str):
                self.plain_reason = found
            else:
                self.transform = found
                return
        log.warning(
            "%s takes the plain loss, which holds batch x sequence x vocabulary logits: %s",
            type(self.hf).__name__, self.plain_reason,
        )  # fmt: skip

    def _after_head(self, inputs: Tensor) -> Transform | str:
        """What the model does to its output layer's values, or why the chunked loss cannot do the same."""
        head = self.hf.get_output_embeddings()
        given = probe_values(inputs.shape[1], inner_layer(head).weight.shape[0], inputs.device)
        calls: list[Tensor] = []

        def stand_in(_: Tensor) -> Tensor:
            calls.append(given.clone())
            return calls[-1]

        with torch.enable_grad(), replaced_head(head, stand_in):
            returned = self.logits(inputs)
        reshard(self)
        if len(calls) != 1:
            return f"it calls its output layer {len(calls)} times"
        if returned.requires_grad:  # `given` does not: only weights of the model can have made it so
            return "it changes the outputs of that layer by weights that are trained, too"
        return recognise_transform(given, returned.float())

    # --- names and facts ---------------------------------------------------------------------------------------

    def named_hf_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters under the names of the wrapped model (no prefix of ours); a tied one once."""
        return self.hf.named_parameters()

    def named_hf_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All that a checkpoint holds of the model: its parameters, and buffers that are no result of its configuration
        (DeepSeek-V3's correction of expert scores); beside a frozen base, what is trained."""
        if self.adapters is not None:
            yield from ((name, tensor) for name, tensor in self.hf.named_parameters() if tensor.requires_grad)
            return
        yield from self.hf.named_parameters()
        stored = self.hf.state_dict().keys()
        yield from ((name, buffer) for name, buffer in self.hf.named_buffers() if name in stored)

    def describe(self) -> dict[str, Any]:
        """Facts for the start of a run, JSON-able."""
        return {**self.description, "router_coefficient": self.router_coefficient if self.has_router else None}

    def describe_head(self) -> str:
        """The path of the loss in words."""
        if self.transform is None:
            return f"plain: {self.plain_reason}"
        return ", ".join(filter(None, ("chunked", str(self.transform))))

    @property
    def tied(self) -> bool:
        """Whether input and output embeddings are one parameter."""
        return is_tied(self.hf)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`; the host does not wait for the copy."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host in memory from which `device` can copy while the host goes on (a GPU asks for pinned)."""
    if device.type == "cuda" and not tensor.is_cuda and not tensor.is_pinned():
        return tensor.pin_memory()
    return tensor


def text_config(hf: PreTrainedModel) -> Any:
    """The configuration of the text model: a multimodal one holds it as a part."""
    return hf.config.get_text_config()


def configured_router_coefficient(text: Any) -> float:
    """The factor of the load-balancing loss that a text configuration names (JetMoE under a name of its own), or 0."""
    named = (getattr(text, key, None) for key in ("router_aux_loss_coef", "aux_loss_coef"))
    return float(next((value for value in named if value is not None), 0.0))


def cumulative_lengths(positions: Tensor, device: torch.device) -> dict[str, Any]:
    """Boundaries of packed documents as FlashAttention's arguments, from positions [batch, sequence] alone.

    Every row starts a document, as its position is 0 there; lengths are counted where `positions` lie.
    """
    flat = positions.reshape(-1)
    starts = (flat == 0).nonzero().squeeze(1)
    bounds = torch.cat([starts, starts.new_tensor([len(flat)])])
    longest = int(bounds.diff().max())
    on_device = to_device(bounds.to(torch.int32), device)
    return {
        "cu_seq_lens_q": on_device,
        "cu_seq_lens_k": on_device,
        "max_length_q": longest,
        "max_length_k": longest,
    }
