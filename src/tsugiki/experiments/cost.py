"""What an experiment takes: runs, time by a rate that was measured, disk."""

from collections.abc import Sequence

from tsugiki.amounts import duration, quantity
from tsugiki.experiments.trials import Plan, Trial
from tsugiki.files import free_bytes
from tsugiki.recipe_checks import total_steps
from tsugiki.run_cost import disk_bytes, measured_rate


def plan_lines(plan: Plan, asked: Sequence[str], parameters: int, at_once: int | None, where: str) -> list[str]:
    """The plan in words; `asked`: the lines that say what is measured, and what for."""
    section = plan.file.section
    variants = len(plan.file.variants)
    lines = [
        f"{plan.file.verb:<10} {variants} trial{'s' if variants != 1 else ''} x {section.seeds} seed"
        f"{'s' if section.seeds != 1 else ''} ({', '.join(map(str, plan.file.seeds))}) of {plan.file.recipe_path}, in "
        f"{plan.directory}"
    ]
    for name, changes in {one.name: one.changes for one in plan.trials}.items():
        changed = ", ".join(f"{key}={value}" for key, value in changes.items())
        lines.append(f"trial      {name}: {changed or 'the recipe as it stands'}")
    lines.append(f"probe      {probe_words(plan)}")
    if plan.scaled:
        lines.append(f"probe      {'; '.join(plan.scaled)}")
    lines += asked
    lines.append(f"shared     {_shared(plan)}; the base's evaluation, once")
    lines.append(f"cost       {_cost(plan, at_once)}; {where}")
    lines.append(f"disk       {_disk(plan, parameters)}")
    return lines


def probe_words(plan: Plan) -> str:
    """How far trials run, and how much of that is warm-up."""
    trial = plan.trials[0]
    total, warmup = total_steps(trial.recipe), min(trial.recipe.training.warmup_steps, trial.steps)
    how = f"the first {trial.steps:,} of {total:,} steps" if trial.steps < total else f"{trial.steps:,} steps"
    warmups = {min(one.recipe.training.warmup_steps, one.steps) for one in plan.trials}
    if len(warmups) > 1:
        return f"{how} each, {min(warmups):,} to {max(warmups):,} of them warm-up"
    return f"{how} each, {warmup:,} of them warm-up ({warmup / trial.steps:.0%})"


def _shared(plan: Plan) -> str:
    recipes = [trial.recipe for trial in plan.trials]
    stores = {recipe.prepared_dir for recipe in recipes}
    vocabularies = {recipe.vocabulary_dir for recipe in recipes if recipe.vocabulary is not None}
    parts = [f"{len(stores)} set{'s' if len(stores) > 1 else ''} of token stores"]
    if vocabularies:
        parts.append(
            f"{len(vocabularies)} extended vocabular{'ies' if len(vocabularies) > 1 else 'y'}"
            + (" (new rows are drawn by seed)" if len(vocabularies) > 1 else "")
        )
    return " and ".join(parts)


def tokens_of(trial: Trial) -> int:
    """That a trial trains on."""
    return trial.steps * trial.recipe.training.global_batch_size * trial.recipe.data.sequence_length


def _cost(plan: Plan, at_once: int | None) -> str:
    tokens = sum(map(tokens_of, plan.trials))
    text = f"{len(plan.trials)} runs, {quantity(tokens)} tokens of training"
    found = measured_rate((*(trial.folder for trial in plan.trials), plan.file.base.run_dir))
    if found is None:
        return f"{text}; no rate has been measured yet"
    rate, folder = found
    seconds = tokens / rate / (at_once or 1)
    aside = "" if at_once else " one after another"
    return f"{text}, {duration(seconds)}{aside} at {quantity(rate)} tokens a second ({folder}), evaluation not counted"


def _disk(plan: Plan, parameters: int) -> str:
    each = [disk_bytes(trial.recipe, trial.steps, parameters) for trial in plan.trials]
    extended = {one.recipe.vocabulary_dir for one in plan.trials if one.recipe.vocabulary is not None}
    needed, free = sum(each) + 2 * parameters * len(extended), free_bytes(plan.directory)
    text = f"about {quantity(needed)}B of checkpoints and models, token stores not counted; {quantity(free)}B are free"
    if needed > free:
        text += ": NOT ENOUGH. training.save_total_limit: 1 keeps one checkpoint a run"
    return text
