"""What is done about a spike, as `training.spikes` says: log it, skip it, go back to before it, or end the run.

Going back is PaLM's way (arXiv 2204.02311, section 5.1): training begins again at a checkpoint before the spike,
without the samples around it. A sample keeps its number and its text; those that are stepped over are kept with the
checkpoints, so that a resumed run reads what this one would have read. The rewind is on the disk before anything moves.
"""

from collections.abc import Sequence
from typing import Any

from tsugiki.checkpoint_files import parse_name
from tsugiki.errors import DataError, DivergedError
from tsugiki.model.ranks import on_first_rank
from tsugiki.rewinds import Rewind, write_rewinds
from tsugiki.state_file import write_state
from tsugiki.training.checkpoint_reader import Found
from tsugiki.training.metrics import StepRecord
from tsugiki.training.run import Run, step_over, take_up
from tsugiki.training.spikes import NEVER
from tsugiki.training.tracking import Listener

BAD_STEPS_TOLERATED = 3
"""Steps in a row that are not finite, before the run ends."""
SKIPPED_TOLERATED = 5
"""Spikes skipped in a row: after more it is not the data that stand out, but the weights."""
REWINDS = 3
"""Of a run at most: text that breaks it again and again, or a rate that is too high, needs somebody to look."""


def meet_spike(run: Run, record: StepRecord, listeners: Sequence[Listener]) -> bool:
    """Do what the recipe says about the step just made; returns whether the run stands at an earlier step now.

    Collective: all ranks have the same record. Raises DivergedError, nothing saved, where the run is to end.
    """
    policy, target, problem = run.recipe.training.spikes, None, ""
    # A gradient is clipped; where a few windows make up a step, its norm is large now and then and no harm comes of it.
    grave = not record.finite or record.loss > record.limits.loss
    samples = run.samples_of(run.step, run.step)  # before a rewind moves what comes next
    if policy == "stop" and grave:
        problem = f"{_reason(record)} in step {run.step:,}"
    elif policy == "rewind" and grave:
        target, problem = _way_back(run, record)
    elif run.bad_steps >= BAD_STEPS_TOLERATED:
        first = run.step - BAD_STEPS_TOLERATED + 1
        problem = f"loss or gradient was not finite in steps {first} to {run.step}; none of them was applied"
    elif policy == "skip" and run.recent.spikes_in_a_row > SKIPPED_TOLERATED:
        problem = f"{run.recent.spikes_in_a_row} spikes in a row up to step {run.step:,}; none of them was applied"
    done = "stopped" if problem else "rewound" if target else "recorded" if record.applied else "skipped"
    figures: dict[str, Any] = {
        "step": run.step, "loss": record.loss, "grad_norm": record.grad_norm, "reason": _reason(record), "action": done,
        "loss_limit": _limit(record.limits.loss), "norm_limit": _limit(record.limits.norm),
        "samples": list(samples),
    }  # fmt: skip
    if target is not None:
        found, rewind = target
        figures |= {"to": rewind["step"], "skip": rewind["skip"]}
    for listener in listeners:
        listener.after_spike(figures)
    if problem:
        run.checkpointer.wait_and_commit()  # begun when all was well
        raise DivergedError(_with_remedy(run, problem))
    if target is None:
        return False
    directory = run.checkpointer.directory
    on_first_rank(lambda: write_rewinds(directory, run.rewinds), run.processes.control)
    take_up(run, found)
    if run.processes.is_first:
        write_state(run.recipe.run_dir, "running", run.step)
    return True


def _way_back(run: Run, record: StepRecord) -> tuple[tuple[Found, Rewind] | None, str]:
    """The checkpoint to go back to and the rewind, from which the run reads on; or why there is no way back."""
    settings, said = run.recipe.training, f"{_reason(record)} in step {run.step:,}"
    if len(run.rewinds) >= REWINDS:
        return None, f"{said}, and the run has gone back {REWINDS} times already"
    before = run.step - 1 - settings.rewind_before
    run.checkpointer.wait_and_commit()  # the next line would not see it
    found = run.checkpointer.newest_whole(at_most=before) if before > 0 else None
    if found is None:
        return None, f"{said}, and there is no checkpoint of step {max(before, 0):,} or before to go back to"
    first, end = run.samples_of(before + 1, run.step + settings.rewind_after)
    rewind = Rewind(lineage=found.manifest["lineage"] or "", spike=run.step, step=found.step, skip=[first, end])
    try:
        step_over(run, [*run.rewinds, rewind])
    except DataError as error:
        return None, f"{said}, and without samples {first:,} to {end - 1:,} the run cannot go on: {error}"
    return (found, rewind), ""


def _reason(record: StepRecord) -> str:
    """What is too large, in words."""
    if not record.finite:
        return f"loss {record.loss:.3f}, gradient norm {record.grad_norm:.3f}"
    parts = [
        f"{name} {value:.3f} above {limit:.3f}"
        for name, value, limit in (
            ("loss", record.loss, record.limits.loss), ("gradient norm", record.grad_norm, record.limits.norm),
        )
        if value > limit
    ]  # fmt: skip
    return ", ".join(parts)


def _limit(value: float) -> float | None:
    return None if value == NEVER else value


def _with_remedy(run: Run, problem: str) -> str:
    """The problem, and how to look at the step's samples and go on without them from the last checkpoint."""
    newest = run.checkpointer.newest_name()
    name = parse_name(newest) if newest else None
    bad = max(1, run.bad_steps, run.recent.spikes_in_a_row)
    first, end = run.samples_of(max(run.step - bad, name.step if name else 0) + 1, run.step)
    skip = [*run.recipe.data.skip, [first, end]]
    return (
        f"{problem}. Last checkpoint: {newest or 'none yet'}. Look at the data of samples {first:,} to {end - 1:,} "
        f"(tsugiki sample). Then run again without them, with data.skip: {skip}, or with another training.spikes or "
        "training.learning_rate"
    )
