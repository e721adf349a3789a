"""The training loop: read this page first.

A step is `train_step`; `train` repeats it, and around it measures, saves and reports. Everything else is one jump away:
what a batch holds (`batches.py`), what the model returns (`model/loss.py`), what a spike is and how it is refused
(`spikes.py`, `optimizer.py`), what is done about it (`rewind.py`), what a checkpoint is (`checkpoint.py`), how a run is
put together (`run.py`), who calls `train` and records how it ended (`stage.py`).
"""

import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing

import torch
from torch.distributed.tensor import DTensor

from tsugiki.checkpoint_files import parse_name
from tsugiki.model.loss import LossOutput
from tsugiki.recipe_training import TrainingSection
from tsugiki.state_file import write_state
from tsugiki.training.batches import MicroBatch, Prefetcher, StepBatch
from tsugiki.training.metrics import Meter, StepRecord, StepSums
from tsugiki.training.rewind import meet_spike
from tsugiki.training.run import Run
from tsugiki.training.tracking import Listener
from tsugiki.training.validation import validate

Evaluate = Callable[[Run], dict[str, dict[str, float]] | None]
"""Questions to the model as it stands: figures by question, or None when some rank was asked to stop meanwhile. Called
on every rank; draws no random numbers and changes nothing."""


def train_step(run: Run, batch: StepBatch) -> StepRecord:
    """One optimiser step over `global_batch_size` windows.

    The loss is the sum of weight × nats over the target tokens of all ranks, divided by the sum of their weights (of
    text all are 1, and that is their count), so that cutting the batch into other micro-batches, or over other ranks,
    changes nothing but rounding. Gradients are summed over ranks by the model's sharding and clipped once, by their
    global norm.
    """
    step, learning_rate = run.step + 1, run.schedule(run.step + 1)
    stops, written, count, *source_weights = run.processes.agree(  # one small reduction on the CPU, before any forward
        [run.stop_requested(), run.checkpointer.local_done(), batch.target_count, *batch.source_weights.tolist()]
    )
    targets, weight = int(count), sum(source_weights)
    limits = run.limits(source_weights)  # set by the steps before, for a batch of this composition
    run.seed_noise(step)
    sums = StepSums(len(source_weights), run.processes.device)
    for micro in batch.micro_batches if targets else []:
        run.model.sum_over_replicas(micro is batch.micro_batches[-1])
        output = run.model(micro.inputs, micro.targets, micro.positions, micro.weights)
        objective(run, output, micro, weight, targets).backward()
        sums.add(micro, output)  # stays on the device
    run.optimizer.drop_frozen_gradients(step)
    norm = clip_global_norm(run.optimizer.parameters.values(), run.recipe.training.max_grad_norm)
    norm = norm.to(run.processes.device)  # of no gradient at all, torch makes it on the CPU
    nats, norm = sums.over_ranks(norm)
    loss = nats / (weight or 1.0)
    spike = limits.exceeded(loss, norm)  # stays on the device
    refused = spike if run.recipe.training.spikes == "skip" else ~torch.isfinite(loss + norm)
    run.checkpointer.wait_copied()  # what a save that began after the last step still reads
    if targets:
        run.optimizer.step(step, learning_rate, skip=refused)
    record = sums.record(  # the only device sync
        loss, norm, spike, refused, step=step, learning_rate=learning_rate, targets=targets,
        source_weights=source_weights, limits=limits, has_router=run.model.has_router, stop=stops > 0,
        saved=written == run.processes.world, wait_seconds=batch.wait_seconds,
    )  # fmt: skip
    run.step, run.tokens = step, run.tokens + targets
    run.bad_steps, run.recent = 0 if record.finite else run.bad_steps + 1, run.recent.after(record)
    return record


def objective(run: Run, output: LossOutput, micro: MicroBatch, weight: float, targets: int) -> torch.Tensor:
    """This micro-batch's part of the step's loss: its weighted nats over the weights of all targets of the step.

    A router loss (mixture of experts) is a mean over its micro-batch, so it is weighted by that micro-batch's share
    of the targets; the model would add it only when given labels, so we do.
    """
    loss = output.loss_sum / weight
    if output.router_loss is not None:
        loss = loss + run.model.router_coefficient * output.router_loss * (micro.target_count / targets)
    return loss


def clip_global_norm(parameters: Collection[torch.Tensor], max_norm: float) -> torch.Tensor:
    """Scale all gradients by the norm over all parameters *and* ranks; returns that norm, before clipping."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def train(
    run: Run, listeners: Sequence[Listener], evaluate: Evaluate | None = None, owed: Collection[str] = ()
) -> bool:
    """Train from where the run stands to `run.last_step`; returns whether the schedule was finished.

    `evaluate` is called as `training.evaluate` says. `owed`: what of `measures_due` has not been done here, and is done
    before the first step. False is returned where the run was stopped on request or by `stop_after_steps`, after
    saving, and where the last measures are owed. Raises DivergedError where a spike ends the run (`rewind.py`), with
    the last checkpoint kept.
    """
    settings, meter = run.recipe.training, Meter.of(run)
    with closing(_batches(run)) as batches:
        stopped = not _measure(run, meter, listeners, evaluate, owed)
        for batch in batches if not stopped else ():
            started = time.perf_counter()
            record = train_step(run, batch)
            run.step_seconds = time.perf_counter() - started
            meter.add(record)
            logged = record.step % settings.logging_steps == 0 or record.step == run.last_step
            if logged or record.spike or not record.applied:
                figures = meter.flush(record, run.tokens)
                for listener in listeners:
                    listener.after_step(figures)
            with meter.paused():
                if record.spike and meet_spike(run, record, listeners):
                    continue  # from an earlier step
            if record.saved:
                _note_saved(run, run.checkpointer.proceed())
            at_end = record.stop or record.step == run.last_step
            save_now = record.step % settings.save_steps == 0 or at_end
            if save_now:
                _save(run, meter)
            due = measures_due(settings, run.step, at_end=at_end)
            if due:
                # What is owed, the next start makes.
                stopped = record.stop or not _measure(run, meter, listeners, evaluate, due)
                if stopped and not save_now:
                    _save(run, meter)
            if at_end or stopped:
                break
        _note_saved(run, run.checkpointer.wait_and_commit())
    return not stopped and run.step >= run.total_steps


def _batches(run: Run) -> Generator[StepBatch]:
    """Of the steps from where the run stands to its last one; where it has gone back meanwhile, from there again."""
    while run.step < run.last_step:
        ahead = Prefetcher(run.reader, run.cut, run.step + 1, run.last_step)
        try:
            for batch in ahead:
                yield batch
                if run.step < batch.step:
                    break
        finally:
            ahead.close()


def measures_due(settings: TrainingSection, step: int, *, at_end: bool) -> set[str]:
    """What is to be measured after a step, before step 1 (0), at intervals and at the end: held-out losses
    ("validation"), answers to questions ("evaluation")."""
    evaluation = settings.evaluate.every if settings.evaluate else None
    every = {"validation": settings.eval_steps, "evaluation": evaluation}
    return {kind for kind, steps in every.items() if steps is not None and (step % steps == 0 or at_end)}


def _measure(
    run: Run, meter: Meter, listeners: Sequence[Listener], evaluate: Evaluate | None, due: Collection[str]
) -> bool:
    """Measure what is due, for the listeners; False when asked to stop meanwhile."""
    with meter.paused():
        if "validation" in due:
            scores = validate(run)
            if scores is None:
                return False
            for listener in listeners:
                listener.after_validation(run.step, scores)
        if "evaluation" in due and evaluate is not None:
            answers = evaluate(run)
            if answers is None:
                return False
            for listener in listeners:
                listener.after_evaluation(run.step, answers)
    return True


def _save(run: Run, meter: Meter) -> None:
    """Begin a checkpoint of this step, which is copied while the next one computes."""
    with meter.paused():
        _note_saved(run, run.checkpointer.wait_and_commit())  # the one before, if still in flight
        run.checkpointer.begin(run.step, run.tensors(), run.state())


def _note_saved(run: Run, name: str | None) -> None:
    """Tell the state file which step is safe, and people what could not be deleted."""
    if name is not None and run.processes.is_first:
        found = parse_name(name)
        assert found is not None
        write_state(run.recipe.run_dir, "running", found.step)
    run.tell_warnings()
