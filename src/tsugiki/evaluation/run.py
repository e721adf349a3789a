"""Evaluate models: each task of a suite on each model, answers to a journal, scores to a folder of the model's own.

    <output>/<name>-<fingerprint>/journal.jsonl     every answer, as it came: resuming rests on it
    <output>/<name>-<fingerprint>/<way>/            scores.json and records/, one line an item

The way is the suite's name with whatever was asked for otherwise than it says (`default-2-shots-first-10`), so that a
smaller run takes nothing from a larger one; tasks that are asked in several runs come together in one `scores.json`.

An error of one task, or of one model, ends that task or model alone: the others are asked all the same.

Weights are loaded when the first answer is missing, so that asking again for what is known costs seconds.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tsugiki.chat.form import Otherwise
from tsugiki.chat.templates import NAMED
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.evaluation.asked import Asked, Progress, Say, Scored
from tsugiki.evaluation.backends import open_backend
from tsugiki.evaluation.code.tasks import code_digest
from tsugiki.evaluation.conversations import Chat, NoChat
from tsugiki.evaluation.encoding import Encoder
from tsugiki.evaluation.extras import need
from tsugiki.evaluation.instructions.asking import ask_instructions, digest_now
from tsugiki.evaluation.journal import Journal
from tsugiki.evaluation.models import NamedModel
from tsugiki.evaluation.quick import Texts
from tsugiki.evaluation.results import Digest, write_results
from tsugiki.evaluation.shots import TASK_FILE_SEED
from tsugiki.evaluation.suites import QUICK, SUITES, full_names
from tsugiki.evaluation_files import ModelResult
from tsugiki.recipe import DataSection
from tsugiki.recipe_evaluation import (
    BATCH_TOKENS,
    DATA_DIR,
    INSTRUCTION_TASKS,
    QUICK_TASKS,
    TEXTS,
    EvaluationSection,
    split_tasks,
)

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
    batch_tokens: int = BATCH_TOKENS
    dtype: str | None = None
    """None: bf16 on a GPU, fp32 on a CPU, whose bf16 products are slow."""
    backend: str = "hf"
    allow_code_execution: bool = False
    task_dir: Path | None = None
    """A folder of task files of the user's own."""
    allow_task_code: bool = False
    chat_template: bool = False
    """Whether the suite's tasks are asked through the model's chat template."""
    fewshot_as_multiturn: bool = True
    """There, whether each solved example is a turn of its own."""
    template: str | None = None
    """A chat template by name; None: each tokenizer's own."""
    tools: Sequence[dict[str, Any]] | None = None
    """Functions that are offered through it. None: those that each model was trained with."""
    template_kwargs: Mapping[str, Any] | None = None
    """None: those that each model was trained with."""
    otherwise: Otherwise | None = None
    """The chat template of models that have none."""

    @classmethod
    def of(cls, section: EvaluationSection, data: DataSection) -> "Settings":
        """What a recipe asks of every model: the section's keys of the same names, and how its data are conversed."""
        names = [field.name for field in fields(cls) if field.name in EvaluationSection.model_fields]
        asked = {name: getattr(section, name) for name in names}
        settings = cls(**asked | {"data_dir": section.data_dir or Path(DATA_DIR)})
        chat = data.chat
        if not any(source.is_chat for source in data.sources.values()):
            return settings
        given = chat.given.otherwise(section.tools, section.template_kwargs)
        return replace(
            settings, tools=given.tools, template_kwargs=given.template_kwargs,
            otherwise=Otherwise(chat.template, data.add_bos is True) if chat.template else None,
        )  # fmt: skip

    @property
    def way(self) -> str:
        """The name of a folder for results: the suite, and what decides a score and is asked for otherwise."""
        others = [
            None if self.shots is None else f"{self.shots}-shots",
            None if self.limit is None else f"first-{self.limit}",
            None if self.add_bos is None else "bos" if self.add_bos else "no-bos",
            self.dtype,
            None if self.backend == "hf" else self.backend,
            None if not self.chat_template else "chat" if self.fewshot_as_multiturn else "chat-one-turn",
            self.template,
        ]
        return "-".join([self.suite, *(other for other in others if other is not None)])


def evaluate(
    models: Sequence[NamedModel], settings: Settings, output: Path, say: Say, progress: Progress, texts: Texts
) -> list[tuple[Path, ModelResult]]:
    """The folder and the result of each model, in the order given. `texts` are for the suite quick.

    Raises RecipeError for unknown tasks or a missing extra. A data set that is not there makes a `MissingTask`, as does
    a task that cannot be asked; that, and a model that cannot be used, is among its result's `failures`.
    """
    named, instructions = split_tasks(settings.tasks)
    if settings.template is not None and settings.template not in NAMED:
        raise RecipeError(f"--template {settings.template}: it is one of {', '.join(sorted(NAMED))}")
    ask: Callable[[Asked], None] = lambda asked: None  # noqa: E731
    digest: Digest = lambda name: None  # noqa: E731
    if settings.suite == QUICK:
        if settings.chat_template:
            raise RecipeError("--suite quick asks plain text: leave out --chat-template, or name another suite")
        if settings.backend != "hf" and (named is None or TEXTS in named):
            raise RecipeError("--suite quick scores its probes through transformers alone: leave out --backend")
        code = _code_tasks(named, settings.allow_code_execution)
        ask = lambda asked: _ask_quick(asked, settings, texts, code)  # noqa: E731
        digest = partial(code_digest, data_dir=settings.data_dir)
    elif settings.suite not in SUITES:
        raise RecipeError(f"--suite {settings.suite}: it is one of {', '.join([*SUITES, QUICK])}")
    elif named != []:
        harness = _open_harness(settings)
        names = full_names(SUITES[settings.suite], named, harness.names)
        ask = lambda asked: _ask_tasks(asked, settings, harness, names)  # noqa: E731
        digest = harness.digest
    found = []
    for model, label in zip(models, labels(models), strict=True):
        say(f"model      {label}: {model.source}")
        folder = output / f"{model.label}-{model.fingerprint[:8]}"  # the same whatever it is evaluated beside
        result = ModelResult(label, {"suite": settings.suite}, {})
        found.append((folder / settings.way, result))
        try:
            with ExitStack() as held:
                journal = held.enter_context(Journal(folder / "journal.jsonl"))
                asked = open_asked(model, result, settings, journal, output, held, say, progress)
                if settings.chat_template:
                    _state_form(asked, settings.fewshot_as_multiturn)
                ask(asked)
                ask_instructions(asked, instructions, settings.data_dir, limit=settings.limit)
        except ModelError as error:
            say(f"failed     {label}: {error}")
            result.failures.append(error)
            continue
        if asked.backend.why_plain is not None:
            result.header["backend"]["why_plain"] = asked.backend.why_plain
            say(f"slow       nothing is shared between requests: {asked.backend.why_plain}")
        now = partial(_digest_of, digest, asked, settings.data_dir)
        for title in write_results(folder / settings.way, result, asked.records, now):
            say(f"left out   {title}: scored here before its definition or data changed; name it in --tasks to ask it")
    return found


def _state_form(asked: Asked, fewshot_as_multiturn: bool) -> None:
    """In the header: the chat template that the suite's tasks are asked through, and how their examples stand in it."""
    form = asked.result.header["chat_template"] = {"fewshot_as_multiturn": fewshot_as_multiturn}
    with suppress(NoChat):
        form |= asked.chat.facts


def _digest_of(suite: Digest, asked: Asked, data_dir: Path | None, name: str) -> str | None:
    """Of a task as it is now: one of the suite, or an instruction check of this model."""
    return suite(name) or digest_now(asked, name, data_dir)


def _open_harness(settings: Settings) -> Any:
    """lm-eval with the tasks of the suite. Raises RecipeError when it is not installed, or code is not allowed."""
    need("lm_eval")
    if settings.task_dir is not None and not settings.allow_task_code:
        raise RecipeError(
            f"task files are programs: those of {settings.task_dir} run only with --allow-task-code "
            "(evaluation.allow_task_code), which you should give for files that you have read"
        )
    from tsugiki.evaluation.harness import Harness

    return Harness(settings.suite, settings.data_dir, own=settings.task_dir, shots=settings.shots)


def _ask_tasks(asked: Asked, settings: Settings, harness: Any, names: Sequence[str]) -> None:
    """The tasks of these names, through lm-eval."""
    from tsugiki.evaluation.lm import JournalLM

    try:
        chat = asked.chat if settings.chat_template else None
    except NoChat as error:
        for name in names:
            asked.miss(name, harness.title(name), harness.language(name), str(error))
        return
    lm = JournalLM(
        asked.backend, asked.tokenizer, asked.journal, add_bos=asked.add_bos, max_length=asked.backend.max_length,
        numerics=asked.backend.facts.numerics, chat=chat,
    )  # fmt: skip
    lm.on_advance = asked.progress.advance
    stated = asked.result.header["tasks"] = {}
    for number, name in enumerate(names, start=1):
        title = harness.title(name)
        lm.on_begin = partial(asked.progress.begin, f"{asked.result.name}  {title}  {number} of {len(names)}")

        def work(name: str = name) -> list[Scored]:
            task = harness.load(name)
            stated[name] = harness.facts(task)
            scored = harness.run(task, lm, limit=settings.limit, fewshot_as_multiturn=settings.fewshot_as_multiturn)
            stated[name] = stated[name] | {"comparable": scored[0].comparable}
            return [scored]

        asked.score(name, title, harness.language(name), work)


def _ask_quick(asked: Asked, settings: Settings, texts: Texts, code: Sequence[str]) -> None:
    """The built-in probes and texts, unless tasks were named, texts alone where they were, and tasks whose answers are
    run."""
    from tsugiki.evaluation.code.judge import greedy
    from tsugiki.evaluation.code.tasks import TITLES, problems_of, run_code
    from tsugiki.evaluation.quick import evaluate_quick

    encoder = Encoder(asked.tokenizer, add_bos=asked.add_bos, max_length=asked.backend.max_length)
    if settings.tasks is None or TEXTS in settings.tasks:
        facts, started = asked.backend.facts, time.monotonic()
        found = evaluate_quick(
            asked.model,
            texts,
            asked.scratch,
            add_bos=asked.add_bos,
            probes=settings.tasks is None,
            limit=settings.limit,
            batch_tokens=facts.batch_tokens,
            dtype=facts.dtype,
            device=facts.device,
            begin=lambda what, *size: asked.progress.begin(f"{asked.result.name}  {what}", *size),
            advance=asked.progress.advance,
        )
        for scored, records in found:
            asked.keep(scored, records)
        asked.say(f"asked      {asked.result.name}: all of these in {time.monotonic() - started:,.0f} s")
    for name in code:

        def work(name: str = name) -> list[Scored]:
            problems = problems_of(name, settings.data_dir)
            complete = greedy(asked.backend, encoder, asked.journal, name, numerics=asked.backend.facts.numerics)
            allowed = settings.allow_code_execution
            return [run_code(name, problems, complete, limit=settings.limit, allow_code_execution=allowed)]

        asked.score(name, TITLES[name], "code", work)


def _code_tasks(named: Sequence[str] | None, allowed: bool) -> list[str]:
    """Those of `quick` whose answers are run: the ones asked for, else our own where that is allowed."""
    from tsugiki.evaluation.code.guard import require_permission

    if named is None:
        return ["code"] if allowed else []
    unknown = [name for name in named if name not in QUICK_TASKS]
    if unknown:
        raise RecipeError(
            f"--tasks {', '.join(unknown)}: the suite quick is asked as a whole; only "
            f"{', '.join([*QUICK_TASKS, *INSTRUCTION_TASKS])} may be named"
        )
    code = [name for name in named if name != TEXTS]
    if code:
        require_permission(allowed)
    return code


def labels(models: Sequence[NamedModel]) -> list[str]:
    """A name for each model; two of one name get the beginning of their digest."""
    names = [model.label for model in models]
    return [
        name if names.count(name) == 1 else f"{name}-{model.fingerprint[:4]}"
        for name, model in zip(names, models, strict=True)
    ]


def versions() -> dict[str, str]:
    """Of what may move a number."""

    found = {package: _installed(package) for package in PACKAGES}
    return {"python": platform.python_version()} | {name: number for name, number in found.items() if number}


@cache
def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def open_asked(
    model: NamedModel, result: ModelResult, settings: Settings, journal: Journal, scratch: Path, held: ExitStack,
    say: Say, progress: Progress,
) -> Asked:  # fmt: skip
    """A model to be asked, with the header of its results."""
    tokenizer = TextTokenizer.from_folder(model.files)
    wanted = settings.add_bos
    if wanted is None and settings.suite in SUITES:
        wanted = SUITES[settings.suite].add_bos
    add_bos = tokenizer.default_add_bos if wanted is None else wanted
    backend = open_backend(
        settings.backend, model, tokenizer, scratch, held, batch_tokens=settings.batch_tokens, dtype=settings.dtype
    )
    result.header.update({
        "model": {
            "source": model.source, "fingerprint": model.fingerprint, "commit": model.commit,
            "tokenizer": tokenizer.fingerprint,
        },
        "backend": asdict(backend.facts),
        "add_bos": add_bos,
        "bos_id": tokenizer.bos_id,
        "max_length": backend.max_length,
        "decoding": "greedy",
        "limit": settings.limit,
        **({"seed": TASK_FILE_SEED} if settings.suite in SUITES else {}),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    })  # fmt: skip

    def open_chat() -> Chat:
        chat = Chat(
            model.files, settings.template, tools=settings.tools, kwargs=settings.template_kwargs,
            add_bos=settings.add_bos is True, otherwise=settings.otherwise,
        )  # fmt: skip
        if chat.ignores_tools():
            say(f"tools      the chat template of {model.label} does not write them: it is asked without")
        return chat

    return Asked(model, backend, tokenizer, add_bos, journal, scratch, result, say, progress, open_chat)
