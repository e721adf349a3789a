"""Evaluate models: each task of a suite on each model, answers to a journal, scores to a folder of the model's own.

    <output>/<label>-<fingerprint>/journal.jsonl     every answer, as it came: resuming rests on it
    <output>/<label>-<fingerprint>/<suite>/          scores.json and records/, one line an item

Weights are loaded when the first answer is missing, so that asking again for what is known costs seconds.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, RecipeError
from tsugiki.evaluation.backends import place
from tsugiki.evaluation.extras import need
from tsugiki.evaluation.journal import Journal
from tsugiki.evaluation.models import NamedModel
from tsugiki.evaluation.quick import Texts
from tsugiki.evaluation.results import MissingTask, ModelResult, TaskResult, write_results
from tsugiki.evaluation.suites import QUICK, SUITES, full_names
from tsugiki.statistics import score_interval

Say = Callable[[str], None]

PACKAGES = (
    "tsugiki", "torch", "transformers", "tokenizers", "sentencepiece", "lm_eval", "datasets", "sacrebleu",
    "rouge-score", "rapidfuzz", "fugashi", "unidic-lite", "nagisa", "vllm",
)  # fmt: skip
"""Whose versions stand in a result's header: each of them can move a number."""


@dataclass(frozen=True)
class Settings:
    """What is asked of every model alike."""

    suite: str = "default"
    tasks: list[str] | None = None
    data_dir: Path | None = None
    limit: int | None = None
    shots: int | None = None
    add_bos: bool | None = None
    """None: as the suite says."""
    batch_tokens: int = 8192
    dtype: str | None = None
    """None: bf16 on a GPU, fp32 on a CPU, whose bf16 products are slow."""
    backend: str = "hf"
    task_dir: Path | None = None
    """A folder of task files of the user's own."""
    allow_task_code: bool = False


class Progress(Protocol):
    """Told how far the work is."""

    def begin(self, what: str, requests: int, tokens: int) -> None: ...
    def advance(self, tokens: int) -> None: ...


def evaluate(
    models: Sequence[NamedModel], settings: Settings, output: Path, say: Say, progress: Progress, texts: Texts
) -> list[tuple[Path, ModelResult]]:
    """The folder and the result of each model, in the order given. `texts` are for the suite quick.

    Raises RecipeError for unknown tasks or a missing extra; a data set that is not there makes a `MissingTask`.
    """
    named = list(zip(models, labels(models), strict=True))
    if settings.suite == QUICK:
        return [_quick(model, label, settings, output, say, texts) for model, label in named]
    if settings.suite not in SUITES:
        raise RecipeError(f"--suite {settings.suite}: it is one of {', '.join([*SUITES, QUICK])}")
    need("lm_eval")
    if settings.task_dir is not None and not settings.allow_task_code:
        raise RecipeError(
            f"task files are programs: those of {settings.task_dir} run only with --allow-task-code "
            "(evaluation.allow_task_code), which you should give for files that you have read"
        )
    from tsugiki.evaluation.harness import Harness

    suite = SUITES[settings.suite]
    harness = Harness(suite.profile, settings.data_dir, own=settings.task_dir, shots=settings.shots)
    names = full_names(suite, settings.tasks, harness.names)
    return [_evaluate(model, label, settings, output, say, progress, harness, names) for model, label in named]


def _evaluate(
    model: NamedModel, label: str, settings: Settings, output: Path, say: Say, progress: Progress, harness: Any,
    names: Sequence[str],
) -> tuple[Path, ModelResult]:  # fmt: skip
    """One model on the tasks of these names."""
    folder = _folder(output, label, model)
    say(f"model      {label}: {model.source}")
    with ExitStack() as held:
        journal = held.enter_context(Journal(folder / "journal.jsonl"))
        lm, header = _open(model, settings, journal, output, held)
        result = ModelResult(label, header, {})
        for number, name in enumerate(names, start=1):
            lm.on_begin = _named(progress, f"{label}  {harness.title(name)}  {number} of {len(names)}")
            lm.on_advance = progress.advance
            started = time.monotonic()
            try:
                task = harness.load(name)
            except DataError as error:
                result.tasks[name] = MissingTask(name, harness.title(name), harness.language(name), str(error))
                say(f"missing    {harness.title(name)}: {error}")
                continue
            scored, records = harness.run(task, lm, limit=settings.limit)
            result.tasks[name], header["tasks"][name] = scored, harness.facts(task)
            write_results(folder / settings.suite, result, {name: records})
            say(_line(scored, time.monotonic() - started))
    write_results(folder / settings.suite, result, {})  # where no task has a score, too
    return folder / settings.suite, result


def _quick(
    model: NamedModel, label: str, settings: Settings, output: Path, say: Say, texts: Texts
) -> tuple[Path, ModelResult]:
    """One model on the built-in probes and on texts."""
    from tsugiki.evaluation.quick import evaluate_quick

    if settings.tasks is not None:
        raise RecipeError("the suite quick is asked as a whole: leave out --tasks")
    say(f"model      {label}: {model.source}")
    folder, (dtype, device) = _folder(output, label, model), place(settings.dtype)
    started = time.monotonic()
    tasks, records = evaluate_quick(
        model, texts, output, batch_tokens=settings.batch_tokens, dtype=dtype, device=device
    )  # fmt: skip
    backend = {"name": "hf", "dtype": dtype, "device": device, "batch_tokens": settings.batch_tokens}
    result = ModelResult(label, _header(model, settings, backend), dict(tasks))
    for task in tasks.values():
        say(_line(task, time.monotonic() - started))
    write_results(folder / settings.suite, result, records)
    return folder / settings.suite, result


def _folder(output: Path, label: str, model: NamedModel) -> Path:
    return output / f"{label}-{model.fingerprint[:8]}"


def labels(models: Sequence[NamedModel]) -> list[str]:
    """A name for each model; two of one name get the beginning of their digest."""
    names = [model.label for model in models]
    return [
        name if names.count(name) == 1 else f"{name}-{model.fingerprint[:4]}"
        for name, model in zip(names, models, strict=True)
    ]


def versions() -> dict[str, str]:
    """Of what may move a number."""

    def installed() -> Iterator[tuple[str, str]]:
        for package in PACKAGES:
            try:
                yield package, version(package)
            except PackageNotFoundError:
                continue

    return {"python": platform.python_version()} | dict(installed())


def _open(
    model: NamedModel, settings: Settings, journal: Journal, scratch: Path, held: ExitStack
) -> tuple[Any, dict[str, Any]]:
    """The model for lm-eval, and the header of its results."""
    from tsugiki.evaluation.backends import open_backend
    from tsugiki.evaluation.lm import JournalLM

    tokenizer = TextTokenizer.from_folder(model.files)
    wanted = SUITES[settings.suite].add_bos if settings.add_bos is None else settings.add_bos
    add_bos = tokenizer.default_add_bos if wanted is None else wanted
    backend = open_backend(
        settings.backend, model, tokenizer, scratch, held, batch_tokens=settings.batch_tokens, dtype=settings.dtype
    )
    header = _header(model, settings, asdict(backend.facts)) | {
        "add_bos": add_bos,
        "bos_id": tokenizer.bos_id,
        "max_length": backend.max_length,
        "decoding": "greedy",
        "limit": settings.limit,
        "tasks": {},
    }
    lm = JournalLM(backend, tokenizer, journal, add_bos=add_bos, max_length=backend.max_length)
    return lm, header


def _header(model: NamedModel, settings: Settings, backend: dict[str, Any]) -> dict[str, Any]:
    """What it takes to reproduce a number, whatever the suite."""
    return {
        "suite": settings.suite,
        "model": {
            "source": model.source, "fingerprint": model.fingerprint, "commit": model.commit,
            "tokenizer": TextTokenizer.from_folder(model.files).fingerprint,
        },
        "backend": backend,
        "versions": versions(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip


def _named(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda requests, tokens: progress.begin(what, requests, tokens)


def _line(task: TaskResult, seconds: float) -> str:
    score = score_interval(task.sample)
    return (
        f"scored     {task.title}: {score.estimate:.4f} ({score.low:.4f} to {score.high:.4f}), {task.metric}, "
        f"{len(task.ids):,} items, {seconds:,.0f} s"
    )
