"""Does every tensor that is to be trained get a gradient?

Adapters begin with B at 0: the model then computes what its base computes, whatever becomes of them, and the gradient
of A is 0 although its path is whole. So where a tensor is all 0 it is given small numbers for one step, and its zeros
back afterwards.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
import xxhash
from torch import nn

from tsugiki.model.adapters import is_trained
from tsugiki.model.shard import local, reshard
from tsugiki.training.preflight.bench import Bench
from tsugiki.training.preflight.over_ranks import local_norms, over_ranks
from tsugiki.training.preflight.report import Finding, fail, ok

PERTURBATION = 0.02


def gradient_paths(bench: Bench) -> Finding:
    """One step reaches every adapter, every row of new vocabulary, every module that is trained whole."""
    model = bench.run.model
    if model.adapters is None:
        frozen = model.description["frozen"]
        left = f"; {len(frozen)} that text cannot train are frozen" if frozen else ""
        return ok(f"all weights are trained, each got a gradient when the model was loaded{left}")
    names = [name for name, _ in model.named_hf_parameters() if is_trained(name)]
    norms: dict[str, float] = {}
    batch = bench.read(1, 1)
    (micro,) = batch.micro_batches
    inputs = micro.inputs.clone()
    rows = sorted({row for rows in (model.adapters.config.trainable_token_indices or {}).values() for row in rows})
    places = inputs[0, : min(len(rows), inputs.shape[1] // 2)]  # a row of the embeddings is reached where it is read
    places.copy_(torch.tensor(rows[: len(places)], device=inputs.device))

    def look(parameters: Mapping[str, nn.Parameter]) -> None:
        norms.update(local_norms(parameters))

    with _zeros_moved(bench):
        bench.step(bench.batch_of([replace(micro, inputs=inputs)], batch), gradients=look)
    squares = over_ranks(torch.tensor([norms.get(name, 0.0) ** 2 for name in names], dtype=torch.float64))
    dead = [
        name
        for name, square in zip(names, squares.tolist(), strict=True)
        if not 0 < square < float("inf") and not (model.has_router and ".experts." in name)  # not chosen, perhaps
    ]
    threshold = "all of them"
    if dead:
        return fail(f"{len(dead)} of {len(names)} trained tensors get no gradient: {', '.join(dead[:3])}", threshold)
    return ok(f"a gradient reaches {len(names)} trained tensors", threshold)


@contextmanager
def _zeros_moved(bench: Bench) -> Iterator[None]:
    """Within the context, what is all 0 of the trained tensors is small numbers; afterwards bitwise as before."""
    moved = []
    for name, parameter in bench.run.optimizer.parameters.items():
        mine = local(parameter.detach())
        if mine.numel() and not mine.any():
            moved.append((mine, mine.clone()))
            generator = torch.Generator().manual_seed(xxhash.xxh3_64_intdigest(name.encode()) >> 1)
            noise = torch.randn(mine.shape, generator=generator) * PERTURBATION
            mine.copy_(noise.to(mine.device))
    try:
        yield
    finally:
        for mine, zeros in moved:
            mine.copy_(zeros)
        reshard(bench.run.model)
