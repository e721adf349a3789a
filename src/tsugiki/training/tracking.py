"""Where metrics go: the terminal, `metrics.jsonl`, TensorBoard, and wandb or trackio when asked.

Each destination is a listener with the same moments: `after_step` (figures of an interval), `after_validation`
(held-out losses), `after_evaluation` (answers to questions), `after_spike` (before it is acted on; `SpikeLine` in
`metrics_file.py` has its figures) and `close`. Only rank 0 has listeners; none of them
changes the numerics. What leaves the machine is the figures and an allow-list of recipe keys (no paths, no environment,
no arguments).
"""

import importlib
import importlib.util
import json
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tsugiki.amounts import duration, quantity
from tsugiki.errors import RecipeError
from tsugiki.files import write_atomically
from tsugiki.metrics_file import Logged
from tsugiki.recipe import Recipe

# Recipe sections of which hosted trackers may be told; the rest (paths, names of folders) stays here.
SHARED_TRAINING_KEYS = (
    "max_steps", "max_tokens", "global_batch_size", "micro_batch_size", "learning_rate", "min_lr", "lr_scheduler",
    "warmup_steps", "decay_steps", "embedding_warmup_steps", "embedding_lr_factor", "weight_decay", "adam_beta1",
    "adam_beta2", "adam_epsilon", "max_grad_norm", "precision", "activation_checkpointing", "compile",
    "deterministic",
)  # fmt: skip

COLUMNS = 120
"""Of a step's line on the terminal."""


class Listener(Protocol):
    def after_step(self, figures: dict[str, Any]) -> None: ...
    def after_validation(self, step: int, scores: dict[str, dict[str, Any]]) -> None: ...
    def after_evaluation(self, step: int, figures: dict[str, dict[str, float]]) -> None: ...
    def after_spike(self, figures: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Console:
    """One line a logged step that fits 120 columns: as many losses by language as there is room for, and without what
    else can be spared where that is too long."""

    def __init__(self, total_steps: int, say: Callable[[str], None], languages: Mapping[str, str | None]):
        """`languages`: of the sources, by name; one without is shown by its name."""
        self.total_steps = total_steps
        self.say = say
        self.languages = languages

    def after_step(self, figures: dict[str, Any]) -> None:
        shown = [f"{label} {loss:.2f}" for label, loss in by_language(figures, self.languages).items()]
        router = f"router {figures['router_loss']:.2f}" if "router_loss" in figures else ""
        mfu = f"{figures['mfu']:.0%} MFU" if figures["mfu"] is not None else ""
        waited = f"data {figures['data_wait']:.1%}"
        tail = [
            router,
            f"grad {figures['grad_norm']:.2f}",
            f"lr {figures['learning_rate']:.2e}",
            f"{quantity(figures['tokens_per_second'])} tok/s",
            mfu,
            waited,
            f"{duration(figures['seconds_left'])} left",
        ]
        if not figures["applied"]:
            finite = math.isfinite(figures["loss"] + figures["grad_norm"])
            why = "spike" if figures["spike"] else "no targets"
            tail.append(f"SKIPPED ({why if finite else 'not finite'})")
        spare = [router, mfu, waited]  # the last goes first
        while True:
            parts = [
                f"step {figures['step']:,}/{self.total_steps:,}",
                f"loss {figures['loss']:.3f}",
                " ".join(shown),
                *tail,
            ]
            line = "  ".join(part for part in parts if part)
            if len(line) <= COLUMNS or not (shown or spare):
                break
            if shown:
                shown.pop()
            else:
                tail.remove(spare.pop())
        self.say(line)

    def after_validation(self, step: int, scores: dict[str, dict[str, Any]]) -> None:
        table = "  ".join(f"{name} {score['bits_per_byte']:.3f}" for name, score in scores.items())
        self.say(f"step {step:,}/{self.total_steps:,}  held-out bits per byte  {table}")
        ends = [
            f"{name} {score['end_probability']:.1%} ({score['false_end_probability']:.2%})"
            for name, score in scores.items() if "end_probability" in score
        ]  # fmt: skip
        if ends:
            step_of = f"step {step:,}/{self.total_steps:,}"
            self.say(f"{step_of}  probability of the end token where answers end (and within)  {'  '.join(ends)}")

    def after_evaluation(self, step: int, figures: dict[str, dict[str, float]]) -> None:
        table = "  ".join(f"{name} {found['accuracy']:.0%}" for name, found in figures.items())
        self.say(f"step {step:,}/{self.total_steps:,}  right answers  {table}")

    def after_spike(self, figures: dict[str, Any]) -> None:
        first, end = figures["samples"]
        done = figures["action"]
        if "to" in figures:
            done += f" to step {figures['to']:,}, samples {figures['skip'][0]:,} to {figures['skip'][1] - 1:,} left out"
        step = f"step {figures['step']:,}/{self.total_steps:,}"
        self.say(f"{step}  SPIKE  {figures['reason']}  samples {first:,} to {end - 1:,}  {done}")

    def close(self) -> None:
        return


def by_language(figures: dict[str, Any], languages: Mapping[str, str | None]) -> dict[str, float]:
    """Mean of the sources' losses for each language, in order of first appearance; sources without one by name."""
    groups: dict[str, list[float]] = {}
    for name, loss in figures["loss_by_source"].items():
        groups.setdefault(languages.get(name) or name, []).append(loss)
    return {label: sum(losses) / len(losses) for label, losses in groups.items()}


class JsonLines:
    """`metrics.jsonl`: one object a logged step, validation, evaluation or spike, as its `kind` says.

    `attempt`: 1, and one more for each time that the run has gone back; earlier attempts are kept.
    """

    def __init__(self, path: Path, before: Sequence[Logged] = (), resumed_step: int = 0, attempt: int = 1):
        """before: what the file holds of a run that goes on after `resumed_step`. What it had logged beyond
        that, before it was cut off, is dropped: those steps are made again."""
        self.path, self.attempt = path, attempt
        kept = [
            record for record in before
            if (record["step"] <= resumed_step or record.get("attempt", 1) < attempt)
            and record.get("attempt", 1) <= attempt
        ]  # fmt: skip
        write_atomically(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
        self._file = path.open("a", encoding="utf-8")

    def after_step(self, figures: dict[str, Any]) -> None:
        self._write({"kind": "step", **figures})

    def after_validation(self, step: int, scores: dict[str, dict[str, Any]]) -> None:
        self._write({"kind": "validation", "step": step, "sources": scores})

    def after_evaluation(self, step: int, figures: dict[str, dict[str, float]]) -> None:
        self._write({"kind": "evaluation", "step": step, "probes": figures})

    def after_spike(self, figures: dict[str, Any]) -> None:
        self._write({"kind": "spike", **figures})
        self.attempt += "to" in figures

    def _write(self, record: dict[str, Any]) -> None:
        record["attempt"] = self.attempt
        # NaN is not JSON: a figure that is not finite becomes null.
        clean = json.loads(json.dumps(record), parse_constant=lambda _: None)
        self._file.write(json.dumps(clean, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Scalars(ABC):
    """Numbers under the tags that TensorBoard and hosted trackers group by, for `log`."""

    @abstractmethod
    def log(self, scalars: dict[str, float], step: int) -> None:
        """Record numbers by tag."""

    def after_step(self, figures: dict[str, Any]) -> None:
        scalars = {
            f"train/{key}": float(value)
            for key, value in figures.items()
            if isinstance(value, int | float) and key not in ("step", "seconds_left", "spike")
        }
        by_source = {f"train/loss/{name}": loss for name, loss in figures["loss_by_source"].items()}
        self.log(scalars | by_source, figures["step"])

    def after_validation(self, step: int, scores: dict[str, dict[str, Any]]) -> None:
        self.log({
            f"eval/{key}/{name}": value
            for name, score in scores.items() for key, value in score.items() if isinstance(value, int | float)
        }, step)  # fmt: skip

    def after_evaluation(self, step: int, figures: dict[str, dict[str, float]]) -> None:
        keys = ("accuracy", "bits_per_byte")  # the others are the same at every step
        self.log({f"probes/{key}/{name}": found[key] for name, found in figures.items() for key in keys}, step)

    def after_spike(self, figures: dict[str, Any]) -> None:
        return


def _without_refusals(failure: threading.ExceptHookArgs) -> None:
    """No traceback where the disk refuses TensorBoard's thread: the next call of its writer raises that error."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


class TensorBoard(_Scalars):
    """Event files in a directory."""

    def __init__(self, directory: Path, resumed_step: int):
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = _without_refusals
        # What a run that was cut off had logged beyond its checkpoint is made again.
        self._open = lambda step: SummaryWriter(str(directory), purge_step=step + 1 if step else None)
        self._writer = self._open(resumed_step)

    def after_spike(self, figures: dict[str, Any]) -> None:
        if "to" in figures:
            self._writer.close()
            self._writer = self._open(figures["to"])

    def log(self, scalars: dict[str, float], step: int) -> None:
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Hosted(_Scalars):
    """wandb or trackio: both have `init(project=, name=, config=)`, `log(dict, step=)` and `finish()`."""

    def __init__(self, service: str, recipe: Recipe):
        self._service = importlib.import_module(service)
        training = recipe.training.model_dump()
        config = {key: training[key] for key in SHARED_TRAINING_KEYS} | {
            "sequence_length": recipe.data.sequence_length,
            "weights": {name: source.weight for name, source in recipe.data.sources.items()},
            "seed": recipe.seed,
        }
        self._service.init(
            project=recipe.tracking.project or "tsugiki",
            name=recipe.tracking.run_name or recipe.run_dir.name,
            config=config,
        )

    def log(self, scalars: dict[str, float], step: int) -> None:
        self._service.log(scalars, step=step)

    def close(self) -> None:
        self._service.finish()


def require_trackers(recipe: Recipe) -> None:
    """Raise RecipeError for a tracker that is not installed: on every rank, before anything is loaded."""
    for service in recipe.tracking.report_to:
        if service in ("wandb", "trackio") and importlib.util.find_spec(service) is None:
            raise RecipeError(
                f"tracking.report_to names {service}, which is not installed: pip install {service}, or take it out"
            )


def make_listeners(
    recipe: Recipe, before: Sequence[Logged], resumed_step: int, total_steps: int, say: Callable[[str], None],
    attempt: int = 1,
) -> Sequence[Listener]:  # fmt: skip
    """The listeners that the recipe's `tracking` section asks for; the terminal and metrics.jsonl always. before: what
    metrics.jsonl holds."""
    listeners: list[Listener] = [
        Console(total_steps, say, {name: source.language for name, source in recipe.data.sources.items()}),
        JsonLines(recipe.run_dir / "metrics.jsonl", before, resumed_step, attempt),
    ]
    for service in recipe.tracking.report_to:
        if service == "tensorboard":
            listeners.append(TensorBoard(recipe.run_dir / "tensorboard", resumed_step))
        elif service != "none":
            listeners.append(Hosted(service, recipe))
    return listeners
