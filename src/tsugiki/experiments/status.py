"""Where each trial of an experiment stands, from files alone: a line a trial."""

from dataclasses import dataclass

from tsugiki.amounts import duration
from tsugiki.errors import StorageError
from tsugiki.experiments.runner import held, is_over, last_error, lock_of
from tsugiki.experiments.trials import Plan, Trial
from tsugiki.metrics_file import read_metrics
from tsugiki.recipe_checks import total_steps
from tsugiki.state_file import known_state


@dataclass(frozen=True)
class Standing:
    """Where a trial stands."""

    state: str
    """waiting, running, stopped, done, diverged or died."""
    step: int
    words: str
    """For people: what it does now, or how it ended."""


def standing(trial: Trial, suites: list[str]) -> Standing:
    """Of one trial."""
    ended, state = trial.ended(), known_state(trial.folder)
    step = state["step"] if state is not None else 0
    if is_over(ended, suites):
        assert ended is not None
        return Standing(ended["ending"], ended["step"], ended["reason"])
    alive = _is_held(trial)
    if state is None and not alive:
        begun = trial.beside(".log").exists()
        return Standing("stopped" if begun else "waiting", 0, last_error(trial.beside(".log")) if begun else "")
    if not alive:
        return Standing("stopped", step, "goes on with the same command")
    if trial.steps == 0 or step >= trial.steps:
        return Standing("running", step, "is evaluated")
    steps = read_metrics(trial.folder / "metrics.jsonl").steps
    if not steps:
        return Standing("running", step, "starts")
    last = steps[-1]
    words = f"at step {last['step']:,} of {trial.steps:,}"
    loss, left, total = last.get("loss"), last.get("seconds_left"), total_steps(trial.recipe)
    if loss is not None:
        words += f", loss {loss:.3f}"
    if left and total > last["step"]:
        words += f", {duration(left * (trial.steps - last['step']) / (total - last['step']))} left"
    return Standing("running", last["step"], words)


def status_lines(plan: Plan, suites: list[str]) -> list[str]:
    """A line for the base and each trial."""
    width = max(len(trial.title) for trial in (plan.base, *plan.trials))
    lines = []
    for trial in (plan.base, *plan.trials):
        found = standing(trial, suites)
        where = f"step {found.step:,}" if found.state in ("done", "diverged", "died") and trial.steps else ""
        number = f"{trial.number:>3}" if trial.number >= 0 else "   "
        told = "  ".join(part for part in (found.state, where, found.words) if part)
        lines.append(f"{number}  {trial.title:<{width}}  {told}")
    return lines


def _is_held(trial: Trial) -> bool:
    """Whether some process is at work on a trial."""
    if not lock_of(trial).exists():
        return False
    try:
        with held(lock_of(trial), wait=False):
            return False
    except StorageError:
        return True
