"""What the loop makes of gradients: summing micro-batches, clipping, the router's part, and no noise of dropout."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from tsugiki.corpus.windows import IGNORE
from tsugiki.model.loss import LossOutput, configured_router_coefficient
from tsugiki.training import loop
from tsugiki.training.batches import MicroBatch, StepBatch
from tsugiki.training.preflight.bench import LENGTH, Bench
from tsugiki.training.preflight.over_ranks import global_norm, local_norms, over_ranks, strided
from tsugiki.training.preflight.report import Finding, fail, judge, ok, warn

KEPT = (1.0, 0.25)
"""Share of targets kept in each window: uneven, since a mean of means is right when all are equal."""


def accumulation(bench: Bench) -> Finding:
    """The gradient of a batch is the same whether it is cut into one micro-batch or into many."""
    batch = _uneven(bench)
    windows = len(batch.micro_batches)
    joined = replace(
        batch.micro_batches[0],
        inputs=torch.cat([micro.inputs for micro in batch.micro_batches]),
        targets=torch.cat([micro.targets for micro in batch.micro_batches]),
        positions=_join([micro.positions for micro in batch.micro_batches]),
        source=torch.cat([micro.source for micro in batch.micro_batches]),
        weights=_join([micro.weights for micro in batch.micro_batches]),
    )
    seen: list[dict[str, Tensor]] = []

    def look(parameters: Mapping[str, nn.Parameter]) -> None:
        seen.append({name: strided(p.grad) for name, p in parameters.items() if p.grad is not None})

    with bench.without_router_loss():
        one = bench.step(bench.batch_of([joined], batch), gradients=look)
        many = bench.step(batch, gradients=look)
    squares = torch.zeros(2, dtype=torch.float64)
    for name in seen[0].keys() & seen[1].keys():
        squares[0] += (seen[0][name] - seen[1][name]).double().square().sum()
        squares[1] += seen[0][name].double().square().sum()
    over_ranks(squares)
    if not seen[0] or seen[0].keys() != seen[1].keys():
        return fail(f"{len(seen[0])} tensors have a gradient with one micro-batch, {len(seen[1])} with {windows}")
    difference = float((squares[0] / squares[1].clamp(min=1e-60)).sqrt())
    loss = abs(one.loss - many.loss) / max(abs(one.loss), 1e-9)
    limit = 1e-3 if bench.exact else (0.15 if bench.run.model.has_router else 0.05)
    good = difference <= limit and loss <= limit
    return judge(
        good,
        f"1 x {windows} against {windows} x 1 windows: gradients {difference:.1e} apart",
        f"at most {limit:.0e}, relative",
    )


def clipping(bench: Bench) -> Finding:
    """A planted gradient of four times the threshold comes out with exactly the threshold, all tensors scaled alike."""
    limit = bench.run.recipe.training.max_grad_norm
    planted = 4 * limit
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    norms: list[float] = []

    def plant(parameters: Mapping[str, nn.Parameter]) -> None:
        found = local_norms(parameters)
        norms.append(global_norm(found, parameters))
        for name, norm in found.items():
            before[name] = norm * planted / max(norms[0], 1e-30)
            cast(Tensor, parameters[name].grad).mul_(planted / max(norms[0], 1e-30))

    def clipped(parameters: Mapping[str, nn.Parameter]) -> None:
        after.update(local_norms(parameters))
        norms.append(global_norm(after, parameters))

    record = bench.step(bench.read(1, 1), plant=plant, clipped=clipped)
    if norms[0] == 0:
        return warn("nothing moves at this step: every parameter is frozen", explains_itself=True)
    ratios = [after[name] * planted / limit / norm for name, norm in before.items() if norm > 1e-12 * planted]
    uneven = max((abs(ratio - 1) for ratio in ratios), default=0.0)
    full = all(parameter.dtype == torch.float32 for parameter in bench.run.optimizer.parameters.values())
    tolerance = 1e-3 if full else 0.02
    measured = f"norm {planted:.4g} became {norms[1]:.4g}, reported {record.grad_norm:.4g}"
    if uneven > tolerance:
        measured += f"; tensors scaled unevenly by up to {uneven:.0%}: clipped by shard or by tensor"
    good = (
        abs(norms[1] / limit - 1) < tolerance
        and abs(record.grad_norm / planted - 1) < tolerance
        and uneven <= tolerance
    )
    return judge(good, measured, f"{limit:g} after, {4 * limit:g} before, on all processes together")


def router_loss(bench: Bench) -> Finding:
    """A mixture of experts: its load-balancing loss is there, has a gradient, and counts with its coefficient."""
    run = bench.run
    stated = run.recipe.training.router_aux_loss_coef
    if not run.model.has_router:
        return fail("this model computes no router loss", f"coefficient {stated:g}") if stated else ok("none computed")
    if stated is None:
        stated = configured_router_coefficient(bench.text_config)
    micro = bench.read(2, 2).micro_batches[0]
    output = run.model(micro.inputs, micro.targets, micro.positions)
    loss = output.router_loss
    ends = [0.0 * part for part in (output.loss_sum, loss) if part is not None and part.requires_grad]
    sum(ends[1:], ends[0]).backward()  # of zero: lets the sharding finish this forward
    if loss is None:
        return fail("the model returned no router loss", f"coefficient {stated:g}")
    if not loss.requires_grad:
        return fail("the router loss has no gradient", f"coefficient {stated:g}")
    leaf = loss.detach().clone().requires_grad_(True)
    given = LossOutput(output.loss_sum.detach(), output.token_losses, leaf)
    targets = 3 * micro.target_count  # as if this were a third of the step
    objective = loop.objective(run, given, micro, float(targets), targets)
    gradient = torch.autograd.grad(objective, leaf, allow_unused=True)[0] if objective.requires_grad else None
    weight = 0.0 if gradient is None else float(gradient) * 3
    measured = f"router loss {float(loss.detach()):.3f}, weighted by {weight:.4g}"
    if abs(weight - stated) > 1e-3 * max(stated, 1e-6):
        return fail(measured, f"{stated:g} times the micro-batch's share of targets")
    return (
        ok(measured, f"{stated:g}") if stated > 0 else warn(measured + ": experts will not be kept balanced", "above 0")
    )


def dropout(bench: Bench) -> Finding:
    """Two forwards in training mode agree as well as two in evaluation mode do."""
    micro = bench.read(1, 1).micro_batches[0]
    model = bench.run.model
    flags = [(module, module.training) for module in model.modules()]
    noise = [_repeated(bench, micro)]
    if noise[0] > 1e-6:  # kernels that are not deterministic, or dropout?
        model.eval()
        noise.append(_repeated(bench, micro))
        for module, flag in flags:
            module.training = flag
    rates = active_dropout(bench)
    measured = f"two training forwards differ by {noise[0]:.1e} nats"
    if len(noise) > 1:
        measured += f", two others by {noise[1]:.1e}"
    if rates:
        measured += "; " + ", ".join(f"{name} {rate:g}" for name, rate in list(rates.items())[:4])
    lora = bench.run.recipe.training.lora
    if lora is not None and lora.dropout and all(".lora_dropout." in name for name in rates):
        return ok(f"{measured}: what training.lora.dropout asks for, and nothing else")
    return judge(len(noise) == 1 or noise[0] <= 4 * noise[1], measured, "equal: no dropout")


def _repeated(bench: Bench, micro: MicroBatch) -> float:
    """Largest difference between the losses of two equal forwards, in nats."""
    first = bench.token_losses(micro.inputs, micro.targets)
    return float((first - bench.token_losses(micro.inputs, micro.targets)).abs().max())


def active_dropout(bench: Bench) -> dict[str, float]:
    """Modules and attributes with a dropout rate above zero, by name."""
    rates: dict[str, float] = {}
    for name, module in bench.hf.named_modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            rates[name] = module.p
        for key, value in vars(module).items():
            if "drop" in key and isinstance(value, float) and value > 0:
                rates[f"{name}.{key}"] = value
    return rates


def _uneven(bench: Bench) -> StepBatch:
    """Two windows, one a micro-batch, with uneven counts of targets, other ones on each rank."""
    batch = bench.read(len(KEPT), 1, LENGTH // len(KEPT))
    cut = []
    for index, micro in enumerate(batch.micro_batches):
        kept = KEPT[(index + bench.run.processes.rank) % len(KEPT)]
        found = micro.targets.clone()
        found[:, max(1, round(kept * found.shape[1])) :] = IGNORE
        cut.append(replace(micro, targets=found))
    return bench.batch_of(cut, batch)


def _join(parts: list[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in parts if tensor is not None]
    return torch.cat(present) if present else None
