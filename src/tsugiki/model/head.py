"""Stand in for the output layer during the model's own forward.

The model's own forward runs with its masks, positions and router losses; where it would call its output layer, the
stand-in gets the hidden states instead. Nothing has to be known about the architecture but
`get_output_embeddings()`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from tsugiki.model.shard import inner_layer


@contextmanager
def replaced_head(head: nn.Module, stand_in: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the context `head(hidden)` calls `stand_in(hidden)`; hooks on the head (FSDP's) run as ever."""
    own = head.__dict__.get("forward")
    head.forward = stand_in
    try:
        yield
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own


def why_not_linear(head: nn.Module | None) -> str | None:
    """Why `head` is no plain linear layer, or None where it is one."""
    if head is None:
        return "the model names no output layer (get_output_embeddings)"
    if any(hasattr(module, "lora_A") for module in head.modules()):
        return "its output layer has an adapter"
    linear = inner_layer(head)
    if not isinstance(linear, nn.Linear):
        return f"its output layer is a {type(linear).__name__}, not a linear layer"
    if "forward" in linear.__dict__ or linear.forward.__func__ is not nn.Linear.forward:  # type: ignore[attr-defined]
        return f"its output layer ({type(linear).__name__}) computes more than a linear layer"
    return None


def head_weights(head: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight [vocabulary, hidden] and bias of a linear output layer; where rows of it are trained by themselves, with
    these in their places: the gradient finds its way to them. Within a forward of the model."""
    rows = getattr(head, "token_adapter", None)
    if rows is not None:
        return rows.get_merged_weights(rows.active_adapters), None
    linear = inner_layer(head)
    return linear.weight, linear.bias
