"""What needs more than one key to judge: contradictions, and what a launch must fit.

Each check gives every problem it finds as (path, message); `recipe_file` adds the line. `recipe_source_checks` judges
what is read, `recipe_machine` looks for what the recipe names. Nothing reads a corpus or starts torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath

from tsugiki.errors import RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_evaluation import INSTRUCTION_TASKS, QUICK_TASKS, TEXTS, split_tasks, task_names
from tsugiki.recipe_executor import OF_SLURM
from tsugiki.recipe_machine import missing_inputs, too_long_windows
from tsugiki.recipe_source_checks import source_problems
from tsugiki.schedule import SHAPES
from tsugiki.shapes import Path, Problem


def total_steps(recipe: Recipe) -> int:
    """Steps of the whole run: `max_steps`, or `max_tokens` rounded up to whole steps.

    Raises RecipeError for a run measured in epochs: `recipe_length.in_steps` says how many steps these are."""
    training = recipe.training
    if training.max_steps is not None:
        return training.max_steps
    if training.max_tokens is None:
        raise RecipeError(
            "training.num_epochs says no number of steps before the data are prepared: give training.max_steps here"
        )
    return -(-training.max_tokens // (training.global_batch_size * recipe.data.sequence_length))


def check(recipe: Recipe, check_files: bool = True) -> list[Problem]:
    """Every contradiction between keys, and with `check_files` every input that is not on this machine."""
    problems = [
        *_model(recipe),
        *source_problems(recipe),
        *_stages(recipe),
        *_skip(recipe),
        *_training(recipe),
        *_evaluation(recipe),
        *_surroundings(recipe),
    ]
    if check_files:
        problems += missing_inputs(recipe)
    return problems


def _model(recipe: Recipe) -> Iterator[Problem]:
    model = recipe.model
    if model.name_or_path is not None and model.architecture is not None:
        yield Problem(
            ("model", "architecture"),
            "excludes model.name_or_path: give one of them (architecture draws random weights)",
        )
    if model.name_or_path is None and model.architecture is None:
        yield Problem(("model",), "names no model: give name_or_path (a folder or hub id) or architecture")
    if model.architecture is not None:
        if not isinstance(model.architecture.get("model_type"), str):
            yield Problem(("model", "architecture"), "needs model_type, e.g. model_type: mistral")
        if model.tokenizer is None:
            yield Problem(("model", "architecture"), "has no tokenizer of its own: give model.tokenizer, a folder")
        if model.revision is not None:
            yield Problem(("model", "revision"), "has no meaning with architecture; remove it")
        yield from too_long_windows(recipe, model.architecture, "model.architecture")


def _stages(recipe: Recipe) -> Iterator[Problem]:
    steps = total_steps(recipe) if _has_length(recipe) else None
    drawn = {name: source.weight for name, source in recipe.data.sources.items()}
    before = 0
    for index, stage in enumerate(recipe.data.stages):
        here: Path = ("data", "stages", index)
        if stage.start_step <= before and index:
            yield Problem(
                (*here, "start_step"),
                f"{stage.start_step} is not after the stage before it ({before}); list stages in order",
            )
        before = stage.start_step
        if steps is not None and stage.start_step >= steps:
            yield Problem((*here, "start_step"), f"{stage.start_step} is not before the end of the run ({steps} steps)")
        unknown = [name for name in stage.weights if name not in recipe.data.sources]
        for name in unknown:
            yield Problem(
                (*here, "weights", name),
                f"no source has this name; sources are {', '.join(recipe.data.sources)}",
            )
        missing = [name for name, weight in drawn.items() if weight > 0 and name not in stage.weights]
        if missing:
            yield Problem(
                (*here, "weights"),
                f"must name every source drawn so far, {', '.join(missing)} too (0 stops drawing from it)",
            )
        if not any(weight > 0 for name, weight in stage.weights.items() if name not in unknown):
            yield Problem((*here, "weights"), "add up to nothing: give at least one source a weight above 0")
        drawn = {name: stage.weights.get(name, 0.0) for name in recipe.data.sources}


def _skip(recipe: Recipe) -> Iterator[Problem]:
    for index, (first, end) in enumerate(recipe.data.skip):
        if first >= end:
            yield Problem(
                ("data", "skip", index),
                f"[{first}, {end}] holds no sample: the first number is skipped, the second not",
            )


LENGTHS = ("max_steps", "max_tokens", "num_epochs")


def _has_length(recipe: Recipe) -> bool:
    """Whether its length is known, in steps."""
    given = [key for key in LENGTHS if getattr(recipe.training, key) is not None]
    return len(given) == 1 and given != ["num_epochs"]


def _training(recipe: Recipe) -> Iterator[Problem]:
    training = recipe.training
    given = [key for key in LENGTHS if getattr(training, key) is not None]
    if not given:
        yield Problem(("training",), "has no length: give max_steps, max_tokens or num_epochs")
    for key in given[1:]:
        yield Problem(("training", key), f"excludes {given[0]}: give one of them")
    if training.global_batch_size % training.micro_batch_size:
        yield Problem(
            ("training", "global_batch_size"),
            f"{training.global_batch_size} is not a multiple of micro_batch_size {training.micro_batch_size}",
        )
    if training.min_lr > training.learning_rate:
        yield Problem(
            ("training", "min_lr"),
            f"{training.min_lr:g} is above learning_rate {training.learning_rate:g}: the rate would rise",
        )
    name, shape = training.lr_scheduler, SHAPES[training.lr_scheduler]
    if shape.fall is None and training.min_lr > 0:
        yield Problem(("training", "min_lr"), f"has no effect with lr_scheduler {name}; remove it")
    if shape.holds and training.decay_steps is None:
        yield Problem(("training", "lr_scheduler"), f"{name} needs decay_steps: the length of the decay at the end")
    if not shape.holds and training.decay_steps is not None:
        holding = " and ".join(other for other, one in SHAPES.items() if one.holds)
        yield Problem(("training", "decay_steps"), f"belongs to {holding}; lr_scheduler is {name}")
    if _has_length(recipe):
        yield from _schedule_fits(recipe, total_steps(recipe))
    if training.keep_every is not None and training.keep_every % training.save_steps:
        yield Problem(
            ("training", "keep_every"),
            f"{training.keep_every} is not a multiple of save_steps {training.save_steps}: "
            "no checkpoint falls on most of its steps",
        )
    held = (training.save_total_limit - 1) * training.save_steps
    if training.spikes == "rewind" and training.keep_every is None and held < training.rewind_before:
        yield Problem(
            ("training", "spikes"),
            f"rewind goes back {training.rewind_before} steps, but {training.save_total_limit} checkpoints every "
            f"{training.save_steps} steps may reach back only {held}: set save_total_limit to "
            f"{-(-training.rewind_before // training.save_steps) + 1}, or lower rewind_before",
        )
    yield from _lora(recipe)
    if training.eval_steps is not None and not any(recipe.holds_out(n) for n in recipe.data.sources):
        yield Problem(
            ("training", "eval_steps"),
            "needs held-out text, but held_out is 0; set data.held_out, e.g. 0.001",
        )


def _lora(recipe: Recipe) -> Iterator[Problem]:
    lora = recipe.training.lora
    if lora is None:
        return
    here: Path = ("training", "lora")
    if recipe.model.architecture is not None:
        yield Problem(here, "adapts a model that has been trained; with model.architecture there is none")
    if recipe.training.precision not in ("fp32-master", "fp32"):
        yield Problem(
            ("training", "precision"),
            f"{recipe.training.precision} is for trained weights in bf16; with training.lora the base is frozen and "
            "what is trained is fp32: fp32-master keeps the base in bf16, fp32 keeps all in fp32",
        )
    markers = recipe.data.chat.add_template_tokens
    if lora.new_rows and recipe.vocabulary is None and not markers:
        yield Problem(
            (*here, "new_rows"),
            "needs pieces that the base has not: they come from a section vocabulary or from "
            "data.chat.add_template_tokens, and neither is there",
        )
    if markers and not lora.new_rows and not lora.modules_to_save:
        yield Problem(
            (*here, "new_rows"),
            "must be true: the rows that data.chat.add_template_tokens adds would stay as they start (or name "
            "embedding and output layer in modules_to_save)",
        )


def _schedule_fits(recipe: Recipe, steps: int) -> Iterator[Problem]:
    training = recipe.training
    if training.warmup_steps > steps:
        yield Problem(("training", "warmup_steps"), f"{training.warmup_steps} is longer than the run ({steps} steps)")
    elif training.warmup_steps + (training.decay_steps or 0) > steps:
        yield Problem(
            ("training", "decay_steps"),
            f"{training.decay_steps} and warmup_steps {training.warmup_steps} are longer than the run ({steps} steps)",
        )
    if training.embedding_warmup_steps >= steps:
        yield Problem(
            ("training", "embedding_warmup_steps"),
            f"{training.embedding_warmup_steps} is not shorter than the run ({steps} steps): the rest would never be "
            "trained; if that is meant, name it in training.freeze",
        )


def _evaluation(recipe: Recipe) -> Iterator[Problem]:
    section, training = recipe.evaluation, recipe.training
    if section is None:
        return
    if section.published and section.suite != "swallow":
        yield Problem(("evaluation", "published"), f"belongs to suite: swallow; suite is {section.suite}")
    if section.task_dir is not None and not section.allow_task_code:
        yield Problem(
            ("evaluation", "task_dir"), "its files are programs: set allow_task_code: true once you have read them"
        )
    known = [*(QUICK_TASKS if section.suite == "quick" else task_names(section.suite)), *INSTRUCTION_TASKS]
    for index, name in enumerate(section.tasks or []):
        if name not in known and (section.task_dir is None or section.suite == "quick"):
            yield Problem(
                ("evaluation", "tasks", index), f"suite {section.suite} has no task {name}; it has {', '.join(known)}"
            )
    if section.chat_template and section.suite == "quick":
        yield Problem(("evaluation", "chat_template"), "the suite quick asks plain text: choose another suite")
    named, _ = split_tasks(section.tasks)
    asked = [TEXTS] if named is None else named
    if section.suite == "quick" and TEXTS in asked and section.backend != "hf":
        yield Problem(("evaluation", "backend"), "the probes of suite quick run on transformers alone: leave it out")
    if section.suite == "quick" and set(asked) - {TEXTS} and not section.allow_code_execution:
        yield Problem(("evaluation", "tasks"), "run what the model writes: set allow_code_execution: true if they may")
    end = total_steps(recipe) if _has_length(recipe) else None
    for index, step in enumerate(section.steps):
        kept = step == end or (training.keep_every is not None and step % training.keep_every == 0)
        if training.num_epochs is not None:
            continue  # looked at once they are steps
        if end is not None and step > end:
            yield Problem(("evaluation", "steps", index), f"{step} is after the end of the run ({end} steps)")
        elif not kept:
            yield Problem(
                ("evaluation", "steps", index),
                f"no checkpoint of step {step} is kept: set training.keep_every to a number that divides it",
            )


def _surroundings(recipe: Recipe) -> Iterator[Problem]:
    parallel, tracking, executor = recipe.parallel, recipe.tracking, recipe.data.executor
    if executor is not None:
        for name in OF_SLURM:
            if executor.kind != "slurm" and getattr(executor, name):
                yield Problem(("data", "executor", name), f"belongs to kind: slurm; kind is {executor.kind}")
            elif executor.kind == "slurm" and name in ("partition", "time") and getattr(executor, name) is None:
                yield Problem(("data", "executor"), f"slurm needs {name}")
    if parallel.shard == "hybrid" and parallel.replicas is None:
        yield Problem(("parallel", "shard"), "hybrid needs replicas: the number of groups with a whole copy each")
    if parallel.shard != "hybrid" and parallel.replicas is not None:
        yield Problem(("parallel", "replicas"), f"belongs to shard: hybrid; shard is {parallel.shard}")
    if "none" in tracking.report_to and len(tracking.report_to) > 1:
        yield Problem(("tracking", "report_to"), "none stands alone; remove it or the others")
    if len(set(tracking.report_to)) < len(tracking.report_to):
        yield Problem(("tracking", "report_to"), "names a tracker twice")
    if recipe.vocabulary is not None and recipe.vocabulary_dir.resolve() == recipe.run_dir.resolve():
        yield Problem(("vocabulary", "output_dir"), "is run_dir, whose folder model is of another kind; name another")
    if recipe.run_dir.resolve() == FilePath.cwd():
        yield Problem(("run_dir",), "is the current directory; give the run a folder of its own, e.g. runs/first")


def launch_errors(recipe: Recipe, world_size: int) -> list[str]:
    """What does not fit the number of processes, as messages that name the key; empty if all fits."""
    training, parallel = recipe.training, recipe.parallel
    errors = []
    batch, micro = training.global_batch_size, training.micro_batch_size
    if batch % world_size:
        nearest = max(world_size, round(batch / world_size) * world_size)
        errors.append(
            f"training.global_batch_size: {batch} windows cannot be shared evenly by {world_size} processes; "
            f"use {nearest} (nearest multiple), or another number of processes"
        )
    elif (batch // world_size) % micro:
        own = batch // world_size
        fitting = max(size for size in range(1, min(own, micro) + 1) if own % size == 0)
        errors.append(
            f"training.micro_batch_size: {micro} does not divide the {own} windows of each of {world_size} "
            f"processes (global_batch_size {batch}); use {fitting}"
        )
    if parallel.shard == "hybrid" and parallel.replicas is not None and world_size % parallel.replicas:
        errors.append(
            f"parallel.replicas: {parallel.replicas} groups cannot be made of {world_size} processes; "
            "use a divisor of their number"
        )
    return errors
