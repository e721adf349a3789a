"""Is each position trained to give the next token, is every token counted, is the loss the model's own?

A loss value cannot show wrong labels: with targets shifted twice the loss of a random model differs by 0.02 nat and
falls as nicely. The sign of the gradient can: dL/dlogits is p - onehot(target), so that its smallest entry names the
target, on any model, however the loss is computed.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tsugiki.corpus.windows import IGNORE
from tsugiki.training.batches import StepBatch
from tsugiki.training.preflight.bench import Bench, HeadGradient, target_weights
from tsugiki.training.preflight.report import Finding, fail, judge, ok, warn
from tsugiki.training.preflight.store_windows import StoreWindow, own_samples, store_windows

WINDOWS_COMPARED = 64
WINDOWS_SEARCHED = 512


def labels(bench: Bench) -> Finding:
    """The gradient asks at each position for the token that follows it in the store, and so does every target."""
    threshold = "offset +1 at every position"
    head = bench.labelled  # first of all: every rank takes part, also one whose own data is found to be wrong
    batch, windows = bench.own_batch, store_windows(bench.run, own_samples(bench.run)[:WINDOWS_COMPARED])
    inputs, targets = _joined(batch, len(windows))
    expected = np.stack([window.tokens for window in windows])
    scored = targets != IGNORE
    if not np.array_equal(inputs, expected[:, :-1]):
        return fail("the inputs of the next step are not the tokens that the stores hold for its samples", threshold)
    wrong = int(((targets != expected[:, 1:]) & scored).sum())
    seen = f"{int(scored.sum()):,} targets read"
    if wrong:
        return fail(
            f"{wrong:,} of {seen} are not the next token of the store ({_offset(targets, expected, scored)})", threshold
        )
    if head is None:
        return warn(
            f"{seen}; the output layer is not trained, so its gradient could not be asked",
            threshold,
            explains_itself=True,
        )
    asked, used = _asked_for(head)
    positions = int(used.sum())
    right = int((asked == head.tokens[:, 1 : asked.shape[1] + 1])[used].sum())
    if positions and right == positions:
        return ok(f"{seen}; gradient asks for offset +1 at {right} of {positions} positions", threshold)
    missing = int((head.targets != IGNORE).sum()) - positions
    return fail(f"gradient asks for {_offset(asked, head.tokens, used)}, {missing} positions unused", threshold)


def gradient_scale(bench: Bench) -> Finding:
    """The step's gradient is that of the summed loss divided by the weights of the targets of all ranks."""
    head = bench.labelled
    transform = bench.run.model.transform
    if head is None or transform is None:
        return warn(
            "not measured: the output layer is not trained or its loss is not linear in it",
            "1.000",
            explains_itself=True,
        )
    # All logits are near the layer's bias, or 0: the smallest entry of each column is what pulls its target up.
    smallest = head.gradient.min(dim=0)
    weights = head.weights.flatten()
    scored = weights > 0
    wanted = head.SIZE * (head.pull(transform)[smallest.indices.cpu()] * weights)[scored] / float(weights.sum())
    found = -smallest.values.cpu().double()[scored]
    ratio = float(found.sum() / wanted.sum())
    tolerance = 0.005 if bench.exact else 0.02
    measured = f"gradient is {ratio:.4f} times that of loss sum / global weight"
    apart = float((found / wanted / ratio - 1).abs().max())
    if bench.has_chat and apart > 2 * tolerance:
        return fail(f"{measured}, at one target {apart:.0%} off its weight", "1.000 at each")
    return judge(abs(ratio - 1) < tolerance, measured, "1.000")


def targets(bench: Bench) -> Finding:
    """Every token is a target but those that open a document when documents are isolated; ends of documents too. Of
    conversations, those are that have a weight."""
    threshold = "every token once, ends of documents included"
    if bench.has_chat:
        threshold = "every token of text once, of conversations what has a weight, with it; ends included"
    batch, windows = bench.own_batch, store_windows(bench.run, own_samples(bench.run)[:WINDOWS_COMPARED])
    _, found = _joined(batch, len(windows))
    scored = found != IGNORE
    counted = sum(micro.target_count for micro in batch.micro_batches)
    really = sum(int((micro.targets != IGNORE).sum()) for micro in batch.micro_batches)
    weight = sum(float(target_weights(micro).sum()) for micro in batch.micro_batches)
    if not counted == really == batch.target_count or not np.isclose(weight, batch.source_weights.sum(), rtol=1e-6):
        return fail(
            f"{really:,} targets of weight {weight:,.6g}, but the batch says {batch.target_count:,} of weight "
            f"{batch.source_weights.sum():,.6g}"
        )
    problem = _unscored(windows, scored) or _wrong_weights(batch, windows)
    if problem:
        return fail(problem, threshold)
    ends = _ends_counted(bench, windows, scored)
    if isinstance(ends, Finding):
        return ends
    documents = "document or answer" if bench.has_chat else "document"
    return ok(
        f"{int(scored.sum()):,} of {scored.size:,} tokens are targets, {ends} of them end a {documents}", threshold
    )


def own_path(bench: Bench) -> Finding:
    """Our losses are the cross-entropy of the model's own forward, for its own logits and for large ones."""
    batch = bench.read(1, 1)
    micro = batch.micro_batches[0]
    plain = bench.plain_logits(micro.inputs)
    ours = bench.token_losses(micro.inputs, micro.targets)
    natural = _difference(plain, ours, micro.targets)
    # A soft cap or a scale hardly shows on the small logits of a random model: bring them to a spread of 30.
    factor = bench.run.processes.broadcast(30.0 / max(float(plain.std()), 1e-6))
    with bench.hidden_states(lambda hidden: hidden * factor):
        plain_large = bench.plain_logits(micro.inputs)
        ours_large = bench.token_losses(micro.inputs, micro.targets)
    large = _difference(plain_large, ours_large, micro.targets)
    relative = 2e-5 if bench.exact else 0.02
    limits = [relative * (1 + float(logits.abs().max())) for logits in (plain, plain_large)]
    good = natural <= limits[0] and large <= limits[1]
    return judge(
        good,
        f"largest difference {natural:.1e} nats, {large:.1e} with logits up to {float(plain_large.abs().max()):.0f}",
        f"at most {limits[0]:.0e} and {limits[1]:.0e}",
    )


def base_sanity(bench: Bench) -> Finding:
    """A pretrained model predicts the data far better than chance, a random one about as well."""
    batch = bench.read(4, 4)
    nats = sum(float(bench.token_losses(m.inputs, m.targets, m.positions).double().sum()) for m in batch.micro_batches)
    loss, chance = nats / max(batch.target_count, 1), float(np.log(bench.vocabulary))
    measured = f"{loss:.2f} nats a token, chance is {chance:.2f}"
    if not np.isfinite(loss):
        return fail(measured, "finite")
    if bench.run.recipe.model.name_or_path is not None or bench.run.step > 0:
        threshold = "below 0.9 of chance"
        return ok(measured, threshold) if loss < 0.9 * chance else warn(measured, threshold)
    threshold = "near chance for random weights"
    return ok(measured, threshold) if abs(loss - chance) < 0.5 + 0.1 * chance else warn(measured, threshold)


def _joined(batch: StepBatch, windows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets [windows, sequence] of the first windows of a step."""
    inputs = torch.cat([micro.inputs for micro in batch.micro_batches])[:windows]
    found = torch.cat([micro.targets for micro in batch.micro_batches])[:windows]
    return inputs.cpu().numpy(), found.cpu().numpy()


def _asked_for(head: HeadGradient) -> tuple[np.ndarray, np.ndarray]:
    """The token that the gradient asks for [windows, length], and where it asks for one at all."""
    smallest = head.gradient.min(dim=0)
    shape = head.targets.shape
    used = smallest.values < -1e-3 * smallest.values.abs().max().clamp(min=1e-30)
    return smallest.indices.cpu().numpy().reshape(shape), used.cpu().numpy().reshape(shape)


def _offset(asked: np.ndarray, tokens: np.ndarray, used: np.ndarray) -> str:
    """Which token of the window the targets are, in words."""
    shares = {}
    for offset in range(-1, 4):
        begin, end = max(0, -offset), min(asked.shape[1], tokens.shape[1] - offset)
        inside = used[:, begin:end]
        same = asked[:, begin:end] == tokens[:, begin + offset : end + offset]
        shares[offset] = float(same[inside].mean()) if inside.any() else 0.0
    best = max(shares, key=lambda offset: shares[offset])
    names = {-1: "shifted backward", 0: "no shift: the token itself", 1: "the next token", 2: "shifted twice"}
    if shares[best] < 0.5:
        return "tokens that are not in the window at that place: shuffled"
    return f"offset {best:+d} at {shares[best]:.0%}: {names.get(best, 'shifted more than once')}"


def _unscored(windows: list[StoreWindow], scored: np.ndarray) -> str | None:
    """What is wrong with the choice of targets, or None."""
    expected = np.stack([window.weights[1:] > 0 for window in windows])
    if np.array_equal(scored, expected):
        return None
    ends = np.stack([window.tokens[1:] == window.end for window in windows])
    lost, extra = expected & ~scored, scored & ~expected
    if lost.any() and np.array_equal(lost, ends & expected):
        return f"none of {int(ends.sum())} ends of documents is a target: the model would not learn to stop"
    return f"{int(lost.sum()):,} tokens are no targets but should be, {int(extra.sum()):,} are but should not"


def _wrong_weights(batch: StepBatch, windows: list[StoreWindow]) -> str | None:
    """Which weight of a target is not that of its token in the store, or None."""
    found = torch.cat([target_weights(micro) for micro in batch.micro_batches])[: len(windows)].numpy()
    expected = np.stack([window.weights[1:] for window in windows])
    wrong = ~np.isclose(found, expected, rtol=1e-5, atol=0)
    if not wrong.any():
        return None
    row, place = np.argwhere(wrong)[0]
    return (
        f"{int(wrong.sum()):,} targets have another weight than their token, for example {found[row, place]:.4g} and "
        f"not {expected[row, place]:.4g} ({windows[row].source})"
    )


def _ends_counted(bench: Bench, windows: list[StoreWindow], scored: np.ndarray) -> Finding | int:
    """How many ends of documents are targets in the first batch or, if it holds none, in the next windows."""
    added = [name for name, source in bench.run.sources.items() if source.manifest.add_eos or source.is_chat]
    if not added:
        return warn("no source ends its documents with an end token (data.add_eos), so the model cannot learn to stop")
    count = sum(int((window.tokens[1:] == window.end)[row].sum()) for window, row in zip(windows, scored, strict=True))
    if count:
        return count
    for sample in range(WINDOWS_SEARCHED):
        (window,) = store_windows(bench.run, np.array([sample]))
        ends = (window.tokens[1:] == window.end) & (window.weights[1:] > 0)
        if ends.any():
            read = bench.run.reader.read(np.array([sample]))
            return int((read.targets[0][ends] != IGNORE).sum()) or fail("an end of document is no target")
    return warn(
        f"no document ends within the first {WINDOWS_SEARCHED} windows: are documents this long?", explains_itself=True
    )


def _difference(logits: Tensor, ours: Tensor, targets: Tensor) -> float:
    """Largest difference in nats between our token losses and the cross-entropy of logits, at targets."""
    flat = targets.flatten().to(logits.device)
    plain = F.cross_entropy(logits.flatten(0, 1), flat, ignore_index=IGNORE, reduction="none")
    return float((plain.view(ours.shape) - ours).abs().max())
