"""What each position sees: nothing that comes after it and, where documents are isolated, nothing of another one."""

import numpy as np
import torch

from tsugiki.corpus.windows import IGNORE
from tsugiki.training.batches import MicroBatch
from tsugiki.training.preflight.bench import LENGTH, Bench
from tsugiki.training.preflight.report import Finding, fail, judge, ok
from tsugiki.training.preflight.store_windows import own_samples, store_windows


def causality(bench: Bench) -> Finding:
    """Changing a token changes no loss before it, and some at or after it."""
    micro = bench.read(2, 2, LENGTH // 2).micro_batches[0]
    middle, targets = micro.inputs.shape[1] // 2, _everywhere(micro)
    changed = micro.inputs.clone()
    changed[:, middle] = (changed[:, middle] + 1) % bench.vocabulary
    moved = (bench.token_losses(micro.inputs, targets) - bench.token_losses(changed, targets)).abs()
    before, after = float(moved[:, :middle].max()), float(moved[:, middle:].max())
    limit = _limit(bench)
    measured = f"changing token {middle} moves losses before it by {before:.1e}, from it on by {after:.1e}"
    return judge(before <= limit and after > 0, measured, f"at most {limit:.0e}, more than 0")


def isolation(bench: Bench) -> Finding:
    """Changing a document changes no loss of the next one in its window; positions restart at each document."""
    batch = bench.own_batch
    if not bench.run.reader.isolates:
        apart = any(micro.positions is not None for micro in batch.micro_batches)
        return judge(not apart, "documents of a window see each other", "as data.isolate_documents: false says")
    micro = bench.read(2, 2, LENGTH // 2).micro_batches[0]
    length = micro.inputs.shape[1]
    middle = length // 2
    positions = torch.cat([torch.arange(middle), torch.arange(length - middle)]).to(micro.inputs.device)
    positions = positions.expand(2, length).contiguous()
    targets = _everywhere(micro).clone()
    targets[:, middle - 1] = IGNORE  # the first token of the second document
    changed = micro.inputs.clone()
    changed[:, :middle] = (changed[:, :middle] + 1) % bench.vocabulary
    moved = (
        bench.token_losses(micro.inputs, targets, positions) - bench.token_losses(changed, targets, positions)
    ).abs()
    wrong = _wrong_positions(bench)  # after the forwards, in which every rank takes part
    if wrong:
        return fail(wrong, "0 at each document and at the window's start")
    limit = _limit(bench)
    measured = f"changing a document moves losses of the next one by {float(moved[:, middle:].max()):.1e}"
    return judge(float(moved[:, middle:].max()) <= limit, measured, f"at most {limit:.0e}")


def _everywhere(micro: MicroBatch) -> torch.Tensor:
    """The micro-batch's targets or, where they are chosen, one at every position: whichever they are, what a position
    sees shows in its loss."""
    return micro.targets if micro.weights is None else micro.inputs.roll(-1, 1).cpu()


def attention_used(bench: Bench) -> Finding:
    """The attention implementation that the recipe asks for is the one that runs, in every layer."""
    asked = bench.run.recipe.model.attn_implementation
    used = {
        str(module.config._attn_implementation)
        for name, module in bench.hf.named_modules()
        if name.rsplit(".", 1)[-1] in ("self_attn", "attention", "attn") and hasattr(module, "config")
        and hasattr(module.config, "_attn_implementation")
    } or {str(bench.text_config._attn_implementation)}  # fmt: skip
    measured = ", ".join(sorted(used))
    if asked is None:
        return ok(f"{measured} (the model class's own choice)")
    return judge(used == {asked}, measured, asked)


def _limit(bench: Bench) -> float:
    """What rounding may move: nothing in most models; experts are multiplied in groups whose size may change."""
    return 1e-4 if bench.exact else 0.05


def _wrong_positions(bench: Bench) -> str | None:
    """How the positions of this rank's next step differ from the stores' documents, or None."""
    micro_batches = bench.own_batch.micro_batches
    if any(micro.positions is None for micro in micro_batches):
        return "windows come without positions, so documents see each other"
    found = torch.cat([micro.positions for micro in micro_batches if micro.positions is not None]).cpu().numpy()[:64]
    for row, window in zip(found, store_windows(bench.run, own_samples(bench.run)[: len(found)]), strict=True):
        starts = window.starts[:-1] & window.apart
        starts[0] = True
        places = np.arange(len(starts))
        expected = places - np.maximum.accumulate(np.where(starts, places, 0))
        if not np.array_equal(row, expected):
            at = int(np.flatnonzero(row != expected)[0])
            return f"position {int(row[at])} where the stores' documents give {int(expected[at])} ({window.source})"
    return None
