"""Everything that a training run holds while it runs, and how it is put together.

`open_run` does, in this order: refuse what this launch cannot do, lay out the data, load and shard the model, build
the optimiser, find the newest whole checkpoint and continue from it (`resume.py` says when it may), ask for room on the
disk.
"""

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.utils.deterministic
import xxhash

from tsugiki.checkpoint_files import check_disk_space, list_names
from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.prepared import PreparedSource
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.windows import WindowReader
from tsugiki.errors import RecipeError, StorageError
from tsugiki.files import explain_os_error
from tsugiki.model.load import load_model
from tsugiki.model.loss import TrainingModel
from tsugiki.model.merge import describe_base
from tsugiki.model.ranks import on_first_rank
from tsugiki.model.shard import make_mesh
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import launch_errors, total_steps
from tsugiki.rewinds import Rewind, read_rewinds
from tsugiki.schedule import Schedule, make_schedule
from tsugiki.state_file import reached_step
from tsugiki.training.batches import Cut
from tsugiki.training.checkpoint import Checkpointer, size_estimate
from tsugiki.training.checkpoint_reader import Found
from tsugiki.training.distributed import Processes
from tsugiki.training.host_memory import keep_freed_memory
from tsugiki.training.optimizer import Optimizer, no_decay_names, vocabulary_names
from tsugiki.training.resume import require_same_run, software_versions
from tsugiki.training.signals import StopRequest
from tsugiki.training.spikes import Limits, Recent

Say = Callable[[str], None]


@dataclass
class Run:
    """A run at a step. `train_step` reads and moves it; listeners only read."""

    recipe: Recipe
    processes: Processes
    model: TrainingModel
    optimizer: Optimizer
    schedule: Schedule
    mixture: Mixture
    sources: Mapping[str, PreparedSource]
    reader: WindowReader
    tokenizer: TextTokenizer
    checkpointer: Checkpointer
    total_steps: int
    stop: StopRequest
    say: Say
    step: int = 0
    """Optimiser steps made so far."""
    tokens: int = 0
    bad_steps: int = 0
    """Steps in a row that were not applied because loss or gradient was not finite."""
    recent: Recent = field(default_factory=Recent)
    """The steps by which the next one is judged."""
    step_seconds: float = 0.0
    """Of the last step."""
    checkpoint_bytes: int = 0
    model_folder: Path | None = None
    """Where the base model lies on this machine; None for random weights."""

    @property
    def samples(self) -> int:
        """Samples read so far; those that were stepped over do not count."""
        return self.step * self.recipe.training.global_batch_size

    @property
    def last_step(self) -> int:
        """The step after which this process ends: the schedule's end, or `stop_after_steps`."""
        return min(self.total_steps, self.recipe.training.stop_after_steps or self.total_steps)

    @property
    def cut(self) -> Cut:
        """How a step's windows are dealt out, and which of them this process reads."""
        settings, here = self.recipe.training, self.processes
        return Cut(settings.global_batch_size, settings.micro_batch_size, here.rank, here.world, here.device)

    @property
    def rewinds(self) -> list[Rewind]:
        """The ways back that led to where the run is, in order."""
        return self.checkpointer.rewinds

    def samples_of(self, first: int, last: int) -> tuple[int, int]:
        """[a, b): global sample numbers from the first one of step `first` to the last one of step `last`."""
        size = self.recipe.training.global_batch_size
        numbers = self.mixture.sample_numbers([(first - 1) * size, last * size - 1])
        return int(numbers[0]), int(numbers[1]) + 1

    def limits(self, source_weights: Sequence[float]) -> Limits:
        """What the next step must not exceed: known from those before it and from what its targets weigh by source on
        all processes, and on every process the same."""
        _, end = self.samples_of(self.step + 1, self.step + 1)
        stage = self.mixture.stage_of(end - 1)
        return self.recent.limits(stage, source_weights, self.recipe.training.spike_threshold)

    def tell_warnings(self) -> list[str]:
        """Say, and return, what has come up with checkpoints: none of it stops the run."""
        warnings = self.checkpointer.take_warnings()
        for warning in warnings:
            self.say(f"warning: {warning}")
        return warnings

    def stop_requested(self) -> bool:
        """Whether this process was asked to stop, or must in order to save before its Slurm job ends."""
        return self.stop.requested(3 * self.checkpointer.save_seconds(self.checkpoint_bytes) + self.step_seconds)

    def asked_to_stop(self) -> bool:
        """The same of any process. Collective: for work that may take long, which asks now and then."""
        return self.processes.agree([self.stop_requested()])[0] > 0

    def seed_noise(self, step: int) -> None:
        """Random state of a step (dropout, a router's jitter): a function of seed, step and rank, so that a resumed run
        draws what an uninterrupted one draws."""
        key = f"{self.recipe.seed}/{step}/{self.processes.rank}"
        torch.manual_seed(xxhash.xxh3_64_intdigest(key.encode()) >> 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that a checkpoint stores as tensors: weights by their Hugging Face names, and the optimiser's state."""
        weights = {f"model.{name}": tensor.detach() for name, tensor in self.model.named_hf_tensors()}
        return weights | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}

    def state(self) -> dict[str, Any]:
        """All that a checkpoint stores as JSON."""
        return {
            "step": self.step,
            "samples": self.samples,
            "tokens": self.tokens,
            "bad_steps": self.bad_steps,
            "spikes": self.recent.as_json(self.mixture.names),
            "lineage": self.checkpointer.lineage,
            "recipe": self.recipe.model_dump(mode="json"),
            "mixture": self.mixture.describe(),
            "tokenizer": self.tokenizer.fingerprint,
            "sources": {name: source.manifest.fingerprint for name, source in self.sources.items()},
            "optimizer": self.optimizer.implementation,
            "world_size": self.processes.world,
            "model_files": "model",
            "versions": software_versions(),
            **self._base(),
        }

    def _base(self) -> dict[str, Any]:
        """What a checkpoint of adapters says of the frozen base, which it does not hold."""
        adapters = self.model.adapters
        if adapters is None:
            return {}
        folder = self.model_folder
        assert folder is not None  # `recipe_checks` has refused an architecture
        name = self.recipe.model.name_or_path
        assert name is not None
        own = self.recipe.vocabulary is not None or folder.resolve().is_relative_to(self.recipe.run_dir.resolve())
        if own or Path(name).expanduser().is_dir():  # no name that others know
            name = None
        return {"base": describe_base(adapters, folder, self.recipe.run_dir, name)}


def use_deterministic_kernels() -> None:
    """Make CUDA give the same bits for the same numbers (a CPU does so by itself)."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch before 2.13 asks for it
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"  # transformers reads it from there alone
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a cost without a gain
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def open_run(
    recipe: Recipe,
    sources: Mapping[str, PreparedSource],
    tokenizer: TextTokenizer,
    model_folder: Path | None,
    processes: Processes,
    stop: StopRequest,
    say: Say,
    new_rows: Sequence[int] = (),
) -> Run:
    """Build the run and bring it to where its newest whole checkpoint stands (step 0 without one).

    new_rows: ids of the pieces that the base's own tokenizer has not, for `training.lora.new_rows`.
    """
    errors = launch_errors(recipe, processes.world)
    if errors:
        raise RecipeError("\n".join(errors))
    training = recipe.training
    if training.deterministic:
        use_deterministic_kernels()
    if processes.device.type == "cpu":
        keep_freed_memory()
    mixture = Mixture.from_recipe(recipe, {name: source.train for name, source in sources.items()})
    steps = total_steps(recipe)
    mixture.check(steps * training.global_batch_size)

    model = load_model(
        recipe.model,
        folder=model_folder,
        mesh=make_mesh(recipe.parallel.shard, recipe.parallel.replicas, processes.device.type),
        precision=training.precision,
        device=processes.device,
        activation_checkpointing=training.activation_checkpointing,
        compile=training.compile,
        loss_chunk_tokens=training.loss_chunk_tokens,
        seed=recipe.seed,
        router_coefficient=training.router_aux_loss_coef,
        lora=training.lora,
        new_rows=new_rows,
    )
    optimizer = Optimizer(
        dict(model.named_hf_parameters()),
        no_decay_names(model.hf, decay_embeddings=training.decay_embeddings),
        training,
        seed=recipe.seed,
        vocabulary=vocabulary_names(model.hf),
    )
    checkpointer = Checkpointer(
        recipe.run_dir / "checkpoints",
        processes,
        keep_last=training.save_total_limit,
        keep_every=training.keep_every,
    )
    run = Run(
        recipe=recipe, processes=processes, model=model, optimizer=optimizer,
        schedule=make_schedule(training, steps), mixture=mixture, sources=sources,
        reader=_reader(recipe, sources, mixture), tokenizer=tokenizer, checkpointer=checkpointer, total_steps=steps,
        stop=stop, say=say,
        model_folder=model_folder,
    )  # fmt: skip
    _continue_or_begin(run)
    run.checkpoint_bytes = size_estimate(run.tensors())
    _check_disk(run)
    return run


def _reader(recipe: Recipe, sources: Mapping[str, PreparedSource], mixture: Mixture) -> WindowReader:
    by_conversation = recipe.training.loss_normalization == "conversation"
    loss_weights = {name: source.loss_weight for name, source in recipe.data.sources.items()}
    length, isolate = recipe.data.sequence_length, recipe.data.isolate_documents
    return WindowReader(sources, mixture, length, isolate, loss_weights, by_conversation)


def step_over(run: Run, rewinds: list[Rewind]) -> None:
    """Read on without the samples for which the run went back. Raises DataError, with nothing changed, where it would
    then read a source more often than the recipe allows."""
    stores = {name: source.train for name, source in run.sources.items()}
    mixture = Mixture.from_recipe(run.recipe, stores, [rewind["skip"] for rewind in rewinds])
    mixture.check(run.total_steps * run.recipe.training.global_batch_size)
    run.checkpointer.rewinds = rewinds
    run.mixture, run.reader = mixture, _reader(run.recipe, run.sources, mixture)


def take_up(run: Run, found: Found) -> None:
    """Bring weights, optimiser, counts and statistics to where they stood at a checkpoint. Collective."""
    run.checkpointer.load(found, run.tensors())
    run.step, run.tokens, run.bad_steps = (found.state[key] for key in ("step", "tokens", "bad_steps"))
    run.recent = Recent.from_json(found.state.get("spikes", {}), run.mixture.names)


def _continue_or_begin(run: Run) -> None:
    """Bring the run to its newest whole checkpoint, or make it a new one where there is no history."""
    checkpointer, run_dir = run.checkpointer, run.recipe.run_dir
    checkpointer.rewinds = on_first_rank(lambda: read_rewinds(checkpointer.directory), run.processes.control)
    found = checkpointer.newest_whole()
    passed_over = run.tell_warnings()
    if found:
        checkpointer.lineage = found.manifest["lineage"]
        own = [rewind for rewind in checkpointer.rewinds if rewind["lineage"] == checkpointer.lineage]
        step_over(run, own or found.manifest.get("rewinds", []))
        require_same_run(run, found)
        take_up(run, found)
        run.say(f"continuing from {found.path} after step {run.step:,}")
    elif on_first_rank(lambda: bool(list_names(checkpointer.directory)), run.processes.control):
        raise StorageError(
            f"{run_dir}/checkpoints holds checkpoints but none is whole: {'; '.join(passed_over)}. "
            "Move the directory away to start anew; a run with history never starts again at step 0 by itself"
        )
    elif reached := on_first_rank(lambda: reached_step(run_dir), run.processes.control):
        raise StorageError(
            f"{run_dir} has reached step {reached:,}, but its checkpoints are gone. Bring them back, or remove "
            "the directory to start anew; a run with history never starts again at step 0 by itself"
        )
    else:
        checkpointer.rewinds = []  # another run's
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        checkpointer.lineage = run.processes.broadcast(name)


def _check_disk(run: Run) -> None:
    """Whether the checkpoints to be kept fit the disk. Rank 0 looks; StorageError on every rank."""

    def look() -> None:
        directory, training = run.checkpointer.directory, run.recipe.training
        for_ever = run.total_steps // training.keep_every if training.keep_every else 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            check_disk_space(directory, run.checkpoint_bytes, training.save_total_limit + for_ever)
        except OSError as error:
            raise StorageError(explain_os_error(error, directory)) from error

    on_first_rank(look, run.processes.control)
