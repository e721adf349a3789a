"""Stand in for the output layer during the model's own forward, and find out what the model does after it.

The model's own forward runs with its masks, positions and router losses; where it would call its output layer, the
stand-in gets the hidden states instead. Nothing has to be known about the architecture but
`get_output_embeddings()`. Whether the chunked loss may be used is decided by values, not by names or configuration:
known numbers from -100 to 100 are put in the output layer's place and must come out of the model unchanged, times
one constant, or soft-capped. (On random weights Gemma 2's cap moves logits by 7.5e-5 only: comparing a random
model's logits would miss it.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tsugiki.model.cross_entropy import Transform


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
    if not isinstance(head, nn.Linear):
        return f"its output layer is a {type(head).__name__}, not a linear layer"
    if "forward" in head.__dict__ or head.forward.__func__ is not nn.Linear.forward:  # type: ignore[attr-defined]
        return f"its output layer ({type(head).__name__}) computes more than a linear layer"
    return None


def probe_values(tokens: int, vocabulary: int, device: torch.device) -> Tensor:
    """[1, tokens, vocabulary] of fp32: every entry another number between -100 and 100."""
    return torch.linspace(-100.0, 100.0, tokens * vocabulary, device=device).reshape(1, tokens, vocabulary)


def recognise_transform(given: Tensor, returned: Tensor, configured_cap: float | None) -> Transform | str:
    """What lies between output layer and logits, from `probe_values` given and logits returned; or why it is unknown.

    Both [1, tokens, vocabulary] fp32. A cap is recognised only at the value that the configuration names.
    """
    if returned.shape != given.shape:
        return f"it turns {list(given.shape)} outputs into {list(returned.shape)} logits"
    if not bool(torch.isfinite(returned).all()):
        return "it turns finite outputs into NaN or infinity"
    given, returned = given.double().flatten(), returned.double().flatten()
    if torch.equal(given, returned):
        return Transform()
    scale = float((given @ returned) / (given @ given))
    if torch.allclose(returned, given * scale, rtol=1e-5, atol=1e-5 * abs(scale)):
        return Transform(scale=scale)
    if configured_cap:
        capped = configured_cap * torch.tanh(given / configured_cap)
        if torch.allclose(returned, capped, rtol=1e-5, atol=1e-5 * configured_cap):
            return Transform(cap=float(configured_cap))
    return "it changes the outputs of that layer in a way that is neither one factor nor a configured soft cap"
