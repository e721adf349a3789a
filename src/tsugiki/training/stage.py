"""Training as a stage: what is said before it, what is recorded in the run directory, and how it ends.

The numerics are in `loop.py`; what is trained has been put together by `run.open_run` and checked by `preflight`.
"""

from typing import Any

from tsugiki.corpus.planned import describe_plan
from tsugiki.errors import RecipeError
from tsugiki.metrics_file import NOTHING, Logged, logged_at, read_logged, require_logged
from tsugiki.model.ranks import on_first_rank
from tsugiki.schedule import schedule_table
from tsugiki.state_file import write_state
from tsugiki.training.environment import record_start
from tsugiki.training.loop import Evaluate, measures_due, train
from tsugiki.training.run import Run
from tsugiki.training.tracking import make_listeners


def describe_run(run: Run) -> None:
    """Say what is about to be trained, on what, with which rates."""
    recipe, settings, say = run.recipe, run.recipe.training, run.say
    say(f"model      {_model_line(run.model.describe())}")
    for group in run.optimizer.groups():
        kind = f"weight decay {group.weight_decay:g}"
        kind += f", learning rate x {group.lr_factor:g}" if group.lr_factor != 1 else ""
        say(f"optimizer  {kind}: {group.tensors} tensors, {group.parameters:,} parameters")
    if settings.embedding_warmup_steps:
        alone = run.optimizer.parameters.keys() - run.optimizer.frozen(settings.embedding_warmup_steps)
        say(f"optimizer  up to step {settings.embedding_warmup_steps:,} only {', '.join(sorted(alone))}")
    say("schedule   " + "  ".join(f"{step:,}: {rate:.3g}" for step, rate in schedule_table(settings, run.total_steps)))
    samples = run.total_steps * settings.global_batch_size
    for line in describe_plan(run.mixture, samples, run.sources, recipe.data.sequence_length):
        say(f"data       {line}")
    for name, source in run.sources.items() if settings.eval_steps else ():
        count = min(settings.eval_documents, source.held_out.document_count)
        if not count:
            continue
        around = source.manifest.add_bos + source.manifest.add_eos
        tokens = int(source.held_out.document_starts[count]) - count * around  # from these one reckons what it costs
        documents = "samples of conversations" if source.is_chat else "documents"
        say(f"held out   {name}: {count:,} {documents}, {tokens:,} tokens at each validation")
    world = run.processes.world
    micro = min(settings.micro_batch_size, settings.global_batch_size // world)
    mean = "; the loss is a mean over conversations" if settings.loss_normalization == "conversation" else ""
    say(
        f"batch      {settings.global_batch_size} windows of {recipe.data.sequence_length:,} tokens on {world} "
        f"process{'es' if world > 1 else ''} ({run.processes.device.type}), {micro} at a time, {settings.precision}"
        + mean
    )


def _model_line(facts: dict[str, Any]) -> str:
    """What `load_model` found, in words."""
    frozen = facts["parameters"] - facts["trained_parameters"]
    parts = [
        f"{facts['class']}, {facts['parameters']:,} parameters"
        + (f", {frozen:,} of them frozen, {facts['trained_parameters']:,} trained" if frozen else ""),
        f"vocabulary {facts['vocabulary']:,}" + (", tied" if facts["tied"] else ""),
        f"{facts['blocks']} blocks ({', '.join(facts['block_classes'])})",
        f"attention {facts['attention']}, loss {facts['head']}, mesh {' x '.join(map(str, facts['mesh']))}",
        f"router loss x {facts['router_coefficient']:g}" if facts["router"] else "",
        ", ".join(f"{name} {rate:g}" for name, rate in facts["dropout"].items()),
        f"left out of config.json: {', '.join(facts['dropped_config_keys'])}" if facts["dropped_config_keys"] else "",
    ]
    return "; ".join(part for part in parts if part)


def require_steps_left(run: Run) -> None:
    """Raise RecipeError for a run that `stop_after_steps` ends where it stands already."""
    if run.last_step <= run.step < run.total_steps:
        raise RecipeError(
            f"training.stop_after_steps is {run.last_step:,}, and the run has reached step {run.step:,}: raise it, or "
            "take it out to go on to the end"
        )


def train_and_record(run: Run, evaluate: Evaluate | None) -> bool:
    """Train to the end, or to a stop; returns whether the schedule was finished and all was measured. Collective.

    What was measured of this step before a stop is not measured again. `evaluate`: see `loop.train`.
    """
    first, run_dir = run.processes.is_first, run.recipe.run_dir
    at_end = run.step >= run.total_steps
    owed = measures_due(run.recipe.training, run.step, at_end=at_end)
    before: list[Logged] = []  # on the first rank
    if run.step > 0:

        def look() -> set[str]:
            before.extend(_logged_before(run))
            return logged_at(before, run.step)

        owed -= on_first_rank(look, run.processes.control)
    nothing_left = at_end and not owed
    if first:
        write_state(run_dir, "finished" if nothing_left else "running", run.step)
    if nothing_left:
        if first:
            run.checkpointer.retain_loaded()
            run.tell_warnings()
        run.say(f"nothing to train: {run_dir} has finished its {run.total_steps:,} steps")
        return True
    if first:
        record_start(run)
    attempt = 1 + len(run.rewinds)
    listeners = make_listeners(run.recipe, before, run.step, run.total_steps, run.say, attempt) if first else []
    try:
        finished = train(run, listeners, evaluate, owed)
    finally:
        for listener in listeners:
            listener.close()
    reason = "" if finished else run.processes.first_text(run.stop.reason) or "training.stop_after_steps"
    if first:
        write_state(run_dir, "finished" if finished else "resumable", run.step, reason)
    saved = run.checkpointer.newest_name() or "nothing to save yet"
    run.say(f"{'finished' if finished else 'stopped, resumable'} after step {run.step:,}: {saved}")
    return finished


def _logged_before(run: Run) -> list[Logged]:
    """What a run that goes on has logged. Raises StorageError where that was damaged or lost."""
    path = run.recipe.run_dir / "metrics.jsonl"
    records = read_logged(path)
    logged = max((record["step"] for record in records), default=NOTHING)
    require_logged(path, logged, reached=run.step, interval=run.recipe.training.logging_steps)
    return records
